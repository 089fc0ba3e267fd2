"""All attacks: what each does, and how the worker is to answer it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attack_requests as requests
from attrs import frozen

from sccache_twisted.model import DirectoryInput, LinkInput


@frozen
class Attack:
    """``run`` is a coroutine of the bench; without one the C program of that name is the job.

    ``code`` is how it ends: "ok", or an error's code. ``says``: held by its sentence or stdout. ``ends``: so it said.
    """

    name: str
    does: str
    run: Callable[[Any], Any] | None = None
    code: str = "ok"
    says: str = ""
    ends: bool = True


def hang_up(count: int, attack: str) -> Callable[[Any], Any]:
    """Run a program, and go away when it has so many processes."""
    return lambda bench: bench.hang_up(bench.action(attack), count)


def program(name: str, does: str, says: str = "") -> Attack:
    """A C program that tries what it can, gets nothing and ends."""
    return Attack(name, does, says=says)


def killed(name: str, does: str, says: str) -> Attack:
    """A C program that is stopped at a bound."""
    return Attack(name, does, None, "killed", says, ends=False)


def output(name: str, does: str, says: str) -> Attack:
    """A C program that leaves what is no output."""
    return Attack(name, does, None, "bad_output", says, ends=False)


def refused(name: str, does: str, run: Callable[[Any], Any], code: str, says: str) -> Attack:
    """A job, archive or request that is refused with a sentence."""
    return Attack(name, does, run, code, says, ends=False)


ATTACKS: tuple[Attack, ...] = (
    program("remount", "makes read-only mounts writable"),
    program("mounts", "mounts over, unmounts, pivots and chroots"),
    program("namespaces", "makes namespaces of its own, where it would be root"),
    program("privileges", "becomes root or takes capabilities"),
    program("setuid_program", "leaves a set-user-ID copy of itself and runs it"),
    program("secrets", "reads /etc/shadow, the worker's stores and another job's files, by every root that /proc has"),
    program("handles", "opens files of the host by their inode numbers"),
    program("elsewhere", "writes outside its outputs' directories, and makes device nodes"),
    program("inputs", "changes, replaces and links its read-only inputs"),
    program("toolchain", "changes toolchain files, also where their directory is writable"),
    program("moved_toolchain", "moves the directories above toolchain files"),
    program("worker_stores", "writes to the places on the host that its mounts come from"),
    program("poison", "changes inputs with their times put back, and leaves false sources, outputs and depfiles"),
    program("attributes", "gives files and directories access lists, flags and capabilities to inherit"),
    program("deep", "makes a tree deeper than a path may be long"),
    program("names", "leaves files whose names have line breaks, escapes and bytes that are no text"),
    output("link_to_secret", "leaves a link to a file of the host's as its output", "cannot be read"),
    output("link_to_public", "leaves a link to a writable file of the host's as its output", "cannot be read"),
    output("link_on_the_way", "replaces its output's directory by a link out of the root", "cannot be read"),
    output("fifo", "leaves a FIFO as its output, at which a reader would wait", "other than a regular file"),
    output("folder", "leaves a directory as its output", "other than a regular file"),
    output("unix_socket", "leaves a socket as its output", "cannot be read"),
    output("device", "leaves a device, or a link to one, as its output", "cannot be read"),
    output("sparse", "leaves a sparse giant as its output", "over the limit"),
    output("together", "leaves outputs that are too large together", "over the limit"),
    Attack(
        "closed", "leaves outputs that nobody may read, in directories that nobody may enter", code="either", ends=False
    ),
    program("linked_input", "leaves hard links to inputs as outputs, and tries it with files that are not its own"),
    program("leased", "leaves leases, locks and somebody who holds them on its outputs"),
    killed("inodes", "makes files without end", "disk"),
    killed("directories", "makes closed directories without end", "disk"),
    Attack("fork_count", "starts as many processes as it can", says="processes 48\n"),
    Attack("thread_count", "starts as many threads as it can", says="threads 48\n"),
    killed("fork_bomb", "is a fork bomb", "processes"),
    killed("memory", "takes memory without end", "memory"),
    killed("memory_in_parts", "takes too much memory, no process of it too much", "memory"),
    killed("memory_files", "takes memory that belongs to no process, as unlinked memory files", "memory"),
    killed("disk", "fills the disk", "disk"),
    killed("disk_temporary", "fills the disk through TMPDIR", "disk"),
    killed("disk_unlinked", "fills the disk with files that have no name any more", "disk"),
    program("disk_allocated", "takes room on the disk without writing"),
    killed("one_large_file", "writes one endless file", "signal 25"),
    output("endless_stderr", "writes to stderr without end", "stdout or stderr"),
    output("endless_stdout", "writes to stdout without end", "stdout or stderr"),
    output("endless_stderr_of_another", "has a process that left its session write to stderr without end", "stderr"),
    Attack("outlive", "leaves processes in a session of their own, deaf to signals, which go on starting others"),
    Attack(
        "stay",
        "is deaf to all signals, with such processes, when its client has gone",
        hang_up(2, "stay"),
        "hung_up",
        ends=False,
    ),
    Attack("stopped", "stops itself, so that no signal arrives", hang_up(2, "stopped"), "hung_up", ends=False),
    program("proc", "writes to the kernel's switches in /proc, and reads its memory"),
    program("descriptors", "uses descriptors that it inherited or that the sandbox's first process has"),
    program("keys", "reads the worker's keyring and leaves keys for others"),
    program("surface", "uses io_uring, userfaultfd, bpf and perf"),
    program("memory_of_nobody", "makes shared memory and message queues that would outlive it"),
    program("sockets", "opens sockets of families that know no namespaces"),
    program("network", "connects to the host's loopback and beyond, and sets up interfaces"),
    program("unix_sockets", "connects to the host's abstract and named sockets"),
    program("signals", "sends signals to everybody, the worker and the sandbox"),
    program("tracing", "traces and reads other processes"),
    program("terminal", "types on a terminal in its owner's place"),
    program("machine", "sets clocks and names, reboots, and takes priorities"),
    program("bounds", "raises its own bounds"),
    program("core_dump", "dumps core"),
    refused(
        "options_in_the_environment",
        "sends an environment that goes on as options of the sandbox",
        requests.job(env=requests.injected),
        "bad_action",
        "zero byte",
    ),
    refused(
        "zero_bytes_in_argv",
        "sends a command line with zero bytes in it",
        requests.job(argv=lambda bench: requests.words(bench, b"a\0--bind\0/\0/host")),
        "bad_action",
        "zero byte",
    ),
    Attack(
        "options_in_argv",
        "sends options of the sandbox as its command line",
        requests.job(argv=lambda bench: (b"--bind", *requests.words(bench)[1:], b"--bind", b"/", b"/host")),
    ),
    Attack(
        "environment_of_loaders",
        "sends an environment for the loaders of the sandbox's own programs",
        requests.job(
            env=(
                (b"LD_PRELOAD", b"/in/a.h"),
                (b"TMPDIR", b"/etc"),
                (b"", b"x"),
                (b"A=B", b"x"),
                (b"LD_LIBRARY_PATH", b"/in"),
            )
        ),
    ),
    refused(
        "a_program_by_dots",
        "runs a program outside of its root",
        requests.job(executable=b"/bin/../../../../usr/bin/id"),
        "bad_action",
        "not in its toolchain",
    ),
    refused(
        "a_working_directory_in_proc", "works in /proc", requests.job(cwd=b"/proc/self"), "bad_action", "cannot be"
    ),
    refused(
        "inputs_in_the_sandbox",
        "puts an input where the sandbox has its own programs",
        requests.job(more=(DirectoryInput(b"/.sccache-twisted/tmp"),)),
        "bad_action",
        "reserved",
    ),
    refused(
        "inputs_in_proc",
        "puts an input into /proc",
        requests.job(more=(LinkInput(b"/proc/link", b"/etc"),)),
        "bad_action",
        "cannot be",
    ),
    refused(
        "inputs_that_conflict",
        "names one file with two contents",
        requests.job(more=lambda bench: (bench.file(b"/x", b"1"), bench.file(b"/in/../x", b"2"))),
        "bad_action",
        "two contents",
    ),
    refused(
        "links_in_a_circle",
        "sends links that lead to themselves",
        requests.job(more=lambda bench: (LinkInput(b"/l", b"m"), LinkInput(b"/m", b"l"), bench.file(b"/l/x", b"1"))),
        "bad_action",
        "too many symbolic links",
    ),
    Attack(
        "links_out_of_the_root",
        "sends links out of the root on the way to inputs and outputs",
        requests.job(
            more=requests.linked_out, outputs=lambda bench: (bench.src + b"/out/new", bench.src + b"/up/shadow")
        ),
    ),
    Attack(
        "inputs_that_climb",
        "names inputs and outputs by more .. than there are directories",
        requests.job(
            more=lambda bench: (bench.file(b"/in/../../../../../../etc/x", b"1"),),
            outputs=(b"/in/../../../../../../../etc/shadow",),
            attack="elsewhere_less",
        ),
    ),
    refused(
        "an_output_in_dev",
        "declares an output in /dev",
        requests.job(outputs=(b"/dev/shm/x",)),
        "bad_action",
        "part of the sandbox",
    ),
    Attack(
        "times_at_the_ends",
        "sends inputs whose times are at the ends of time",
        requests.job(
            more=lambda bench: (
                requests.attrs.evolve(bench.file(b"/x", b"1"), mtime_ns=(1 << 62)),
                requests.attrs.evolve(bench.file(b"/y", b"1"), mtime_ns=-(1 << 62)),
            )
        ),
        "either",
    ),
    Attack(
        "a_plugin",
        "is gcc with a plugin that becomes another program",
        requests.compiler("secrets", b"-fplugin=./evil.so", files=((b"evil.so", requests.plugin),)),
    ),
    Attack(
        "a_plugin_that_kills",
        "is gcc with a plugin that signals everybody",
        requests.compiler("signals", b"-fplugin=./evil.so", files=((b"evil.so", requests.plugin),)),
        "either",
        ends=False,
    ),
    Attack(
        "a_specs_file",
        "is gcc with a specs file that has another program run",
        requests.compiler("elsewhere_less", b"-specs=evil.specs", files=((b"evil.specs", requests.specs),)),
    ),
    Attack(
        "a_wrapper",
        "is gcc that has another program run its parts",
        requests.compiler(
            "-", b"-wrapper", b"./evil", files=((b"evil", requests.program),), env=(requests.hostile("secrets"),)
        ),
    ),
    Attack(
        "parts_of_its_own",
        "is gcc that finds cc1 and as beside the sources",
        requests.compiler(
            "-",
            b"-B.",
            files=((b"cc1", requests.program), (b"as", requests.program)),
            env=(requests.hostile("elsewhere_less"),),
        ),
    ),
    Attack(
        "a_preloaded_library",
        "is gcc with a library of the client's loaded into it",
        requests.compiler(
            "network",
            files=((b"evil.so", requests.preloaded),),
            env=(lambda bench: (b"LD_PRELOAD", bench.src + b"/evil.so"),),
        ),
    ),
    refused(
        "archive_climbs",
        "uploads an archive with .. in a name",
        requests.archive(requests.changed(requests.member(b"/x"), 0, b"../../../x\0")),
        "bad_archive",
        "empty component",
    ),
    refused(
        "archive_absolute",
        "uploads an archive with an absolute name",
        requests.archive_outside(lambda outside: [requests.changed(requests.member(b"/x"), 0, outside + b"/new\0")]),
        "bad_archive",
        "absolute",
    ),
    refused(
        "archive_through_a_link",
        "uploads an archive with a link out of it and a file behind that link",
        requests.archive_outside(lambda outside: [requests.link(b"/l", outside), requests.member(b"/l/new")]),
        "bad_archive",
        "is a link",
    ),
    refused(
        "archive_hard_link",
        "uploads an archive with a hard link to a file of the host's",
        requests.archive_outside(lambda outside: [requests.typed(b"1", outside + b"/secret")]),
        "bad_archive",
        "hard link",
    ),
    refused(
        "archive_device",
        "uploads an archive with a device",
        requests.archive(requests.typed(b"3")),
        "bad_archive",
        "device",
    ),
    refused(
        "archive_fifo", "uploads an archive with a FIFO", requests.archive(requests.typed(b"6")), "bad_archive", "FIFO"
    ),
    refused(
        "archive_duplicate",
        "uploads an archive with one file twice",
        requests.archive(requests.member(b"/a"), requests.member(b"/a", content=b"other")),
        "bad_archive",
        "twice",
    ),
    refused(
        "archive_conflict",
        "uploads an archive with a link where a directory is",
        requests.archive(requests.directory(b"/usr"), requests.link(b"/usr", b"/etc")),
        "bad_archive",
        "twice",
    ),
    refused("archive_bomb", "uploads kilobytes that become gigabytes", requests.archive_bomb, "too_large", ""),
    refused(
        "archive_window",
        "uploads a stream that needs a gigabyte to be decoded",
        requests.archive_window,
        "bad_archive",
        "memory",
    ),
    refused(
        "archive_of_another_name",
        "uploads one toolchain as another",
        requests.archive_of_another_name,
        "digest_mismatch",
        "7777",
    ),
    Attack(
        "archive_again",
        "uploads other content as a toolchain that is there",
        requests.archive_again,
        "either",
        ends=False,
    ),
    Attack(
        "toolchain_with_powers",
        "uploads a toolchain with set-user-ID programs, and runs one",
        requests.toolchain_with_powers,
    ),
    Attack(
        "toolchain_over_the_sandbox",
        "uploads a toolchain with /proc, /dev and links out of the root",
        requests.toolchain_over_the_sandbox,
    ),
    refused(
        "toolchain_in_the_private_place",
        "uploads a toolchain with the sandbox's own programs",
        requests.toolchain_in_the_private_place,
        "bad_action",
        "reserved",
    ),
    Attack(
        "toolchain_moved_between_commands",
        "swaps a toolchain's directory for a link between two commands",
        requests.toolchain_moved_between_commands,
        "either",
        ends=False,
    ),
    refused(
        "blob_of_another_name",
        "sends other content under an input's digest",
        requests.blob_of_another_name,
        "digest_mismatch",
        "",
    ),
    refused(
        "body_bomb",
        "sends kilobytes that say they become a gigabyte",
        requests.body_bomb,
        "too_large",
        "over the limit",
    ),
    refused(
        "body_bomb_unannounced",
        "sends the same without saying so",
        requests.body_bomb_unannounced,
        "malformed",
        "how large",
    ),
    refused("body_of_values", "sends a header of millions of values", requests.body_of_values, "malformed", "msgpack"),
    refused("body_nested", "sends a header nested without end", requests.body_nested, "malformed", "msgpack"),
    refused(
        "body_lengths", "sends blobs of negative and enormous lengths", requests.body_lengths, "malformed", "blobs"
    ),
    refused("too_many_inputs", "sends more inputs than are allowed", requests.too_many_inputs, "too_large", "inputs"),
    refused(
        "another_lease", "uploads a toolchain on a lease for another", requests.another_lease, "malformed", "another"
    ),
    refused("a_guessed_token", "runs a job on another's lease", requests.a_guessed_token, "unknown_attempt", ""),
)
