"""What a hostile job can do: nothing. Real bubblewrap, real processes; every program here is the test's own."""

import os
import signal
import time

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from worker_confinement_kit import body, find_process, parent_of, processes, uids_of, until
from worker_kit import LIMITS, TRY, digest_of, program_in

from sccache_twisted.errors import BadOutput, JobCancelled, JobKilled
from sccache_twisted.model import DirectoryInput, FileInput
from sccache_twisted.worker.cgroups import make_groups

# Bounds on time and the absence of processes are judged, so nothing else may run.
pytestmark = [pytest.mark.root, pytest.mark.alone]


@pytest_twisted.ensureDeferred
async def test_the_job_is_nobody_without_network(shop, claimed):
    """A job runs as its slot's uid, without capabilities, without network, without descriptors, and not as root."""
    code = r"""
    printf("%d %d\n", getuid(), getgid());
    char line[256]; FILE *f = fopen("/proc/self/status", "r");
    while (fgets(line, 256, f)) if (!strncmp(line, "Cap", 3) || !strncmp(line, "NoNewPrivs", 10)) fputs(line, stdout);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {AF_INET, htons(53)}; a.sin_addr.s_addr = inet_addr("192.0.2.1");
    printf("connect %d\n", connect(s, (void *)&a, sizeof a) == 0 ? 0 : errno == ENETUNREACH);
    close(s); fclose(f);
    for (int i = 3; i < 100; i++) if (fcntl(i, F_GETFD) >= 0) printf("open %d\n", i);
    printf("in %d\n", (int)read(0, line, 1));
    """
    result = await shop.executor.run(TRY, program_in(shop, body(code)), 1)
    lines = result.stdout.decode().splitlines()
    assert lines[0] == f"{claimed[1].uid} {claimed[1].gid}"
    assert all(line.endswith("\t0000000000000000") for line in lines if line.startswith("Cap"))
    assert "NoNewPrivs:\t1" in lines
    assert lines[-2:] == ["connect 1", "in 0"]


@pytest_twisted.ensureDeferred
async def test_on_the_host_it_is_the_slots_uid(shop, claimed, reactor):
    """Seen from the host, the job's processes belong to the slot's uid."""
    code = 'write(1, "x", 1); pause();'
    running = shop.executor.run(TRY, program_in(shop, body(code), name="marked-probe"), 2)
    pid = await until(reactor, lambda: find_process(b"/bin/marked-probe"))
    assert uids_of(pid) == {claimed[2].uid}
    running.cancel()
    with pytest.raises(JobCancelled):
        await running


@pytest_twisted.ensureDeferred
async def test_nothing_but_output_directories_is_writable(shop):
    """Inputs, the toolchain, the root and /dev are read-only; the output directory and TMPDIR can be written."""
    code = r"""
    char *places[] = {"/in/a.h", "/new", "/in/new", "/dev/new", "/out/new", "/proc/self/oom_score_adj", 0};
    for (char **p = places; *p; p++) printf("%s %d\n", *p, open(*p, O_WRONLY | O_CREAT, 0600) >= 0);
    printf("chmod %d unlink %d\n", chmod("/in/a.h", 0777), unlink("/in/a.h"));
    printf("mount %d\n", mount("none", "/in", "tmpfs", 0, 0));
    printf("remount %d\n", mount("none", "/", 0, MS_REMOUNT | MS_BIND, 0));
    char t[100]; sprintf(t, "%s/x", getenv("TMPDIR")); printf("tmp %d\n", open(t, O_WRONLY | O_CREAT, 0600) >= 0);
    """
    action = program_in(shop, body(code), outputs=[b"/out/a.o"])
    shop.blobs.put(digest_of(b"int a;\n"), b"int a;\n")
    more = (FileInput(b"/in/a.h", digest_of(b"int a;\n"), 7, 1, False), DirectoryInput(b"/out"))
    result = await shop.executor.run(TRY, attrs.evolve(action, inputs=action.inputs + more), 0)
    said = dict(line.rsplit(" ", 1) for line in result.stdout.decode().splitlines())
    assert said == {
        "/in/a.h": "0",
        "/new": "0",
        "/in/new": "0",
        "/dev/new": "0",
        "/out/new": "1",
        "/proc/self/oom_score_adj": said["/proc/self/oom_score_adj"],
        "chmod -1 unlink": "-1",
        "mount": "-1",
        "remount": "-1",
        "tmp": "1",
    }
    assert result.undeclared == (b"/out/new",)


@pytest.mark.parametrize(
    "code",
    [
        'symlink("/etc/passwd", "/out/a.o");',
        'mkfifo("/out/a.o", 0666);',
        'mkdir("/out/a.o", 0777);',
        'int s = socket(AF_UNIX, SOCK_STREAM, 0); struct sockaddr a = {AF_UNIX, "/out/a.o"}; bind(s, &a, 11);',
        'int f = open("/out/a.o", O_WRONLY | O_CREAT, 0600); ftruncate(f, 60 << 20);',
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_output_is_a_regular_file_of_reasonable_size(shop, code):
    """A link, a FIFO, a directory, a socket or a giant in an output's place fails the job and is never opened."""
    action = program_in(shop, body(code), outputs=[b"/out/a.o"])
    with pytest.raises(BadOutput):
        await shop.executor.run(TRY, attrs.evolve(action, inputs=(*action.inputs, DirectoryInput(b"/out"))), 0)


@pytest_twisted.ensureDeferred
async def test_too_much_on_stdout_fails(open_shop):
    """A job that floods its stdout is killed."""
    shop = open_shop(max_stream_bytes=10_000)
    with pytest.raises(BadOutput):
        await shop.executor.run(TRY, program_in(shop, body("for (;;) puts(argv[0]);")), 0)


HOG = r"for (int i = 0; ; i++) { char *p = malloc(1 << 20); memset(p, 1, 1 << 20); usleep(100); }"
BOMB = r"for (;;) if (fork() == 0) for (;;) fork();"
SLEEP = r"if (fork() == 0) for (;;) pause(); for (;;) pause();"
SPIN = r"fork(); fork(); for (;;);"
FILL = r"""char b[1 << 16] = {1}; for (int n = 0; ; n++) { char p[40]; sprintf(p, "/out/%d", n);
int f = open(p, O_WRONLY | O_CREAT, 0600); for (int i = 0; i < 64; i++) write(f, b, sizeof b); close(f);
usleep(3000); }"""


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize(
    ("code", "bound", "word"),
    [
        (HOG, {"memory_bytes": 100 << 20}, "memory"),
        (SLEEP, {"wall_seconds": 0.5}, "ran for more"),
        (SPIN, {"cpu_seconds": 1.0}, "CPU"),
        (FILL, {"disk_bytes": 30 << 20}, "disk"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bounds_hold_for_the_whole_tree(open_shop, code, bound, word, grouped):
    """Over a bound of memory, time, CPU or disk, with control groups and without, the whole tree is killed."""
    limits = attrs.evolve(LIMITS, **bound)
    groups = make_groups(4, limits) if grouped else ()
    if groups is None:
        pytest.skip("no control groups can be made here")
    shop = open_shop(limits=limits, groups=groups)
    action = program_in(shop, body(code), outputs=[b"/out/a.o"], name="bounded-probe")
    try:
        with pytest.raises(JobKilled, match=word):
            await shop.executor.run(TRY, attrs.evolve(action, inputs=(*action.inputs, DirectoryInput(b"/out"))), 0)
        assert find_process(b"/bin/bounded-probe") is None
    finally:
        for group in groups:
            group.remove()
            assert not group.path.exists()


@pytest_twisted.ensureDeferred
async def test_a_fork_bomb_stays_in_its_slot(open_shop):
    """A fork bomb reaches its number of processes and no more, and ends with its job's time."""
    shop = open_shop(limits=attrs.evolve(LIMITS, processes=20, wall_seconds=1.0))
    running = shop.executor.run(TRY, program_in(shop, body(BOMB), name="bomb-probe"), 3)
    with pytest.raises(JobKilled):
        await running
    assert find_process(b"/bin/bomb-probe") is None


@pytest_twisted.ensureDeferred
async def test_cancel_kills_the_tree_at_once(shop, reactor):
    """Cancelling kills every process of the job, also one that left its session, within a second."""
    code = r"""if (fork() == 0) { setsid(); if (fork() == 0) { signal(SIGTERM, SIG_IGN); for (;;) pause(); } _exit(0); }
    for (;;) pause();"""
    running = shop.executor.run(TRY, program_in(shop, body(code), name="cancel-probe"), 0)
    await until(reactor, lambda: len(processes(b"/bin/cancel-probe")) == 2)
    began = time.monotonic()
    running.cancel()
    with pytest.raises(JobCancelled):
        await running
    assert time.monotonic() - began < 1
    assert processes(b"/bin/cancel-probe") == []


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21])
@pytest_twisted.ensureDeferred
async def test_cancel_at_any_moment_leaves_nothing(shop, reactor, turns):
    """However early a job is cancelled, nothing of it is left."""
    running = shop.executor.run(TRY, program_in(shop, body("pause();"), name="early-probe"), 0)
    for _ in range(turns):
        turn = Deferred()
        reactor.callLater(0.001, turn.callback, None)
        await turn
    running.cancel()
    with pytest.raises(JobCancelled):
        await running
    assert processes(b"/bin/early-probe") == []


@pytest_twisted.ensureDeferred
async def test_a_killed_sandbox_takes_its_job_with_it(shop, reactor):
    """When bubblewrap itself is killed the job dies with it and counts as killed."""
    running = shop.executor.run(TRY, program_in(shop, body("pause();"), name="orphan-probe"), 0)
    pid = await until(reactor, lambda: find_process(b"/bin/orphan-probe"))
    os.kill(parent_of(parent_of(pid)), signal.SIGKILL)
    with pytest.raises(JobKilled, match="signal 9"):
        await running
    assert processes(b"/bin/orphan-probe") == []


@pytest_twisted.ensureDeferred
async def test_a_hostile_tree_is_removed(shop):
    """Closed directories, undecodable names and a very deep tree are removed with the rest."""
    code = r"""
    chdir("/out"); mkdir("\xff\xfe", 0700); mkdir("closed", 0); symlink("/", "link");
    for (int i = 0; i < 1500; i++) { mkdir("deep", 0700); chdir("deep"); }
    """
    action = program_in(shop, body(code), outputs=[b"/out/a.o"])
    result = await shop.executor.run(TRY, attrs.evolve(action, inputs=(*action.inputs, DirectoryInput(b"/out"))), 0)
    assert result.exit_code == 0
    await shop.executor.clear()
    assert shop.leftovers() == []
