"""Attacks that are no programs: jobs, archives, requests, and real compilers led astray.

Each is a coroutine of a bench.
"""

from __future__ import annotations

import subprocess
import zlib

import attrs
import blake3
import msgpack
import zstandard

from sccache_twisted.model import Digest, DirectoryInput, FileInput, LinkInput
from sccache_twisted.toolchains import Entry, EntryKind
from sccache_twisted.toolchains.archive import END, member_header, padding
from sccache_twisted.wire.jobs import encode_job

MEMBERS = (
    Entry(b"/opt", EntryKind.DIRECTORY),
    Entry(b"/opt/tool", EntryKind.DIRECTORY),
    Entry(b"/opt/tool/bin", EntryKind.DIRECTORY),
    Entry(b"/opt/tool/bin/true", EntryKind.FILE, 0o555, size=6),
    Entry(b"/opt/tool/sealed", EntryKind.FILE, 0o444, size=6),
)
MIB = 1 << 20


def digest_of(data: bytes) -> Digest:
    """The name of some content."""
    return Digest(blake3.blake3(data).hexdigest())


def member(path, kind=EntryKind.FILE, content=b"sealed", **fields):
    """One member's bytes."""
    if kind is not EntryKind.FILE:
        return member_header(Entry(path, kind, **fields))
    entry = Entry(path, kind, fields.pop("mode", 0o444), size=len(content), **fields)
    return member_header(entry) + content + padding(len(content))


def tar_of(*members: bytes) -> bytes:
    """A toolchain's archive."""
    return b"".join(members) + END


def tiny_tar() -> bytes:
    """The archive of the hostile programs' toolchain."""
    return tar_of(*(member(entry.path, entry.kind, mode=entry.mode) for entry in MEMBERS))


def changed(block: bytes, offset: int, data: bytes) -> bytes:
    """A header with some field replaced and its checksum put right."""
    header = bytearray(block[:512])
    header[offset : offset + len(data)] = data
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + block[512:]


def typed(kind: bytes, target: bytes = b"") -> bytes:
    """A member of some other kind."""
    return changed(changed(member(b"/it", content=b""), 156, kind), 157, target)


def link(path, target):
    """A symbolic link's bytes."""
    return member(path, EntryKind.LINK, target=target)


def directory(path):
    """A directory's bytes."""
    return member(path, EntryKind.DIRECTORY)


# --- archives -------------------------------------------------------------------------------------


def archive(*members):
    """An attack that uploads an archive."""

    async def run(bench):
        await bench.upload(tar_of(*members))

    return run


def archive_outside(make):
    """An attack that uploads an archive which names a directory of the host's."""

    async def run(bench):
        await bench.upload(tar_of(*make(bench.outside)))

    return run


async def archive_bomb(bench):
    """A few kilobytes that would become two gigabytes."""
    compressor = zstandard.ZstdCompressor().compressobj()
    bomb = compressor.compress(changed(member(b"/a", content=b""), 124, b"%011o\0" % (2000 * MIB)))
    bomb += b"".join(compressor.compress(bytes(MIB)) for _ in range(200)) + compressor.flush()
    await bench.upload(b"", packed=bomb)


async def archive_window(bench):
    """A stream whose decoder would need a gigabyte."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=30)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    raw = tar_of(member(b"/evil"))
    await bench.upload(raw, packed=compressor.compress(raw) + compressor.flush())


async def archive_of_another_name(bench):
    """An honest archive under the name of another, as a replacement for it."""
    await bench.upload(tar_of(member(b"/evil")), digest="7" * 64)


async def archive_again(bench):
    """Other content under the name of a toolchain that the worker has."""
    await bench.upload(tar_of(member(b"/usr", EntryKind.DIRECTORY)), digest=bench.gcc)


async def _with_toolchain(bench, raw, **changes):
    digest = bench.store(raw)
    return await bench.run(attrs.evolve(bench.action(changes.pop("attack", "toolchain")), toolchain=digest, **changes))


async def toolchain_with_powers(bench):
    """A toolchain whose files would run as their owner."""
    raw = tar_of(
        directory(b"/opt"),
        directory(b"/opt/tool"),
        changed(member(b"/opt/tool/attack", content=bench.program), 100, b"0006755\0"),
    )
    digest = bench.store(raw)
    path = b"/opt/tool/attack"
    action = bench.action("privileges")
    return await bench.run(attrs.evolve(action, toolchain=digest, executable=path, argv=(path, *action.argv[1:])))


async def toolchain_over_the_sandbox(bench):
    """A toolchain that brings a /proc, a /dev and links in the place of directories, out of the root."""
    raw = tar_of(
        directory(b"/dev"),
        directory(b"/opt"),
        directory(b"/opt/tool"),
        directory(b"/proc"),
        directory(b"/proc/self"),
        link(b"/escape", b"/../../../../etc"),
        link(b"/escaped", b"../../../../../etc"),
        member(b"/dev/null", content=b"no device"),
        member(b"/opt/tool/sealed"),
        member(b"/proc/self/exe", content=b"no program"),
    )
    return await _with_toolchain(bench, raw, attack="secrets")


async def toolchain_in_the_private_place(bench):
    """A toolchain with a file where the sandbox has its own."""
    raw = tar_of(directory(b"/.sccache-twisted"), member(b"/.sccache-twisted/exec", content=bench.program, mode=0o555))
    return await _with_toolchain(bench, raw)


async def toolchain_moved_between_commands(bench):
    """A first command that puts a link in the place of the toolchain's directory, for the second to be mounted through.

    What is sealed below a writable directory is mounted again for each command.
    """
    raw = tar_of(
        directory(b"/deep"),
        directory(b"/deep/a"),
        directory(b"/deep/a/b"),
        *(member(b"/deep/a/b/%d" % number) for number in range(8)),
        member(b"/deep/a/shadow"),
    )
    beside = bench.file(b"/deep/a/x", b"1")
    action = bench.action("swap_directories", more=(beside,), outputs=(b"/deep/a.o",))
    second = (action.executable, (action.executable, b"secrets", *action.argv[2:]))
    return await bench.run(attrs.evolve(action, toolchain=bench.store(raw), then=(second,)))


# --- jobs -----------------------------------------------------------------------------------------


def job(**changes):
    """An attack that runs a program as an action with some field replaced; a function is given the bench."""

    async def run(bench):
        made = {name: value(bench) if callable(value) else value for name, value in changes.items()}
        action = bench.action(made.pop("attack", "secrets"))
        inputs = (*action.inputs, *made.pop("more", ()))
        outputs = (*action.outputs, *made.pop("outputs", ()))
        return await bench.run(attrs.evolve(action, inputs=inputs, outputs=outputs, **made))

    return run


def words(bench, *more):
    """The argv of the program that looks for secrets, with more behind."""
    return (b"/bin/attack", b"secrets", *bench.target, *more)


def injected(bench):
    """An environment whose value goes on as options of the sandbox."""
    options = (b"--bind", b"/", b"/host", b"--bind", bench.outside, b"/in", b"--chdir", b"/host")
    return ((b"LANG", b"C\0" + b"\0".join(options)),)


def small(path, content=b"x"):
    """A file that is an input, of content that is on no worker."""
    return FileInput(path, digest_of(content), len(content), 1)


# --- real compilers -------------------------------------------------------------------------------

PLUGIN = """
#include <unistd.h>
int plugin_is_GPL_compatible;
extern char **environ;
int plugin_init(void *info, void *version) {
    char *argv[] = {"/bin/attack", %s, 0};
    execve("/bin/attack", argv, environ);
    return 1;
}
"""
PRELOADED = PLUGIN.replace("int plugin_init(void *info, void *version)", "__attribute__((constructor)) int begin(void)")


def _shared(bench, template, attack):
    said = ", ".join(f'"{word.decode()}"' for word in (attack.encode(), *bench.target))
    source = (template % said).encode()
    path = bench.directory / f"shared-{zlib.crc32(source)}.so"
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source, check=True, cwd="/")
    return path.read_bytes()


def compiler(attack, *flags, files, env=()):
    """An attack by real gcc with these flags; ``files`` are (name, content or a function of the bench)."""

    async def run(bench):
        program = bench.file(b"/bin/attack", bench.program, executable=True)
        more = [program]
        for name, content in files:
            data = content(bench, attack) if callable(content) else content
            more.append(bench.file(bench.src + b"/" + name, data, executable=True))
        action = bench.compile(*flags, more=more)
        return await bench.run(attrs.evolve(action, env=(*action.env, *(one(bench) for one in env))))

    return run


def plugin(bench, attack):
    """A plugin for gcc that becomes another program."""
    return _shared(bench, PLUGIN, attack)


def preloaded(bench, attack):
    """A library that becomes another program when it is loaded."""
    return _shared(bench, PRELOADED, attack)


def specs(bench, attack):
    """A specs file by which gcc runs another program on C sources."""
    said = " ".join(word.decode() for word in (attack.encode(), *bench.target))
    return f".c:\n@c\n\n@c:\n/bin/attack {said}\n\n".encode()


def hostile(attack):
    """The environment that tells the program what to do when it is called as a part of a compiler."""
    return lambda bench: (b"HOSTILE", b"\n".join([attack.encode(), *bench.target]))


def program(bench, _attack):
    """The hostile program itself, for gcc to take for a part of its own."""
    return bench.program


# --- requests -------------------------------------------------------------------------------------


async def blob_of_another_name(bench):
    """Other content under the digest of an input, for everybody's next job to read."""
    action = bench.action("secrets")
    own = next(entry for entry in action.inputs if entry.path.endswith(b"own.h"))
    new = small(bench.src + b"/new.h", b"#define NEW 1\n")
    wrong = [(own.digest, b"#define OWN 666\n"), (new.digest, b"#define NEW 666\n")]
    await bench.post(encode_job(attrs.evolve(action, inputs=(*action.inputs, new)), wrong, 1))


async def body_bomb(bench):
    """A job of a few kilobytes that says that it becomes a gigabyte."""
    await bench.post(zstandard.ZstdCompressor().compress(bytes(1 << 30)))


async def body_bomb_unannounced(bench):
    """The same, which does not say what it becomes."""
    compressor = zstandard.ZstdCompressor().compressobj()
    await bench.post(b"".join(compressor.compress(bytes(MIB)) for _ in range(128)) + compressor.flush())


async def body_of_values(bench):
    """A header that is a million empty lists in one another's place."""
    header = msgpack.packb({"inputs": [[]] * 3_000_000})
    await bench.post(zstandard.ZstdCompressor().compress(len(header).to_bytes(4, "big") + header))


async def body_nested(bench):
    """A header of lists within lists within lists."""
    header = b"\x91" * 100_000 + b"\x90"
    await bench.post(zstandard.ZstdCompressor().compress(len(header).to_bytes(4, "big") + header))


async def body_lengths(bench):
    """Blobs that are announced as larger, or smaller than nothing, or beyond the end."""
    good = zstandard.decompress(encode_job(bench.action("secrets"), [(bench.gcc, b"x" * 10)], 1))
    size = int.from_bytes(good[:4], "big")
    header = msgpack.unpackb(good[4 : 4 + size], raw=False)
    header["blobs"] = [[header["blobs"][0][0], -5], [header["blobs"][0][0], 1 << 62]]
    packed = msgpack.packb(header, use_bin_type=True)
    await bench.post(zstandard.ZstdCompressor().compress(len(packed).to_bytes(4, "big") + packed + b"x" * 10))


async def too_many_inputs(bench):
    """More inputs than a job may have."""
    more = tuple(DirectoryInput(b"/d%d" % number) for number in range(2000))
    await bench.post(encode_job(attrs.evolve(bench.action("secrets"), inputs=more), [], 1))


async def another_lease(bench):
    """A toolchain sent on a lease for another one."""
    lease = bench.client.lease(bench.tiny)
    try:
        raw = tar_of(member(b"/evil"))
        await bench.request("PUT", f"/v1/toolchains/{digest_of(raw)}", zstandard.ZstdCompressor().compress(raw), lease)
    finally:
        bench.worker.jobs.cancel(lease.attempt)


async def a_guessed_token(bench):
    """A job on another's lease."""
    lease = bench.client.lease(bench.tiny)
    try:
        body = encode_job(bench.action("secrets"), [], 1)
        await bench.request(
            "POST",
            f"/v1/jobs/{lease.attempt.job_id}/1",
            body,
            attrs.evolve(lease, token="guessed"),
        )
    finally:
        bench.worker.jobs.cancel(lease.attempt)


def linked_out(bench):
    """A link of the client's, out of the job's root, on the way to an output."""
    return (LinkInput(bench.src + b"/out", bench.outside), LinkInput(bench.src + b"/up", b"../../../../../../etc"))
