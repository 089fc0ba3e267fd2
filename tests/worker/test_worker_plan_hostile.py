"""Whatever inputs and outputs a client names and whatever its job then leaves: nothing outside its root is touched.

Real roots are built, beside a tree of which the kernel tells every look and every change; what a job finds inside is
held against the kernel's own walk.
"""

import ctypes
import os
import shutil
import socket
import stat
import tempfile
from collections import Counter
from contextlib import ExitStack, contextmanager, nullcontext

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.inside import content_inside, is_directory_inside, open_inside, target_inside
from support.sentinel import SECRET, sentinel
from test_worker_plan import entries, file
from worker_kit import digest_of

from sccache_twisted.errors import BadAction, BadOutput
from sccache_twisted.model import Action, DirectoryInput, FileInput, LinkInput
from sccache_twisted.worker.files import remove
from sccache_twisted.worker.jobroot import JobRoot, Owner
from sccache_twisted.worker.limits import disk_usage
from sccache_twisted.worker.outputs import collect, undeclared
from sccache_twisted.worker.plan import plan, toolchain_tree

pytestmark = pytest.mark.root

OWNER = Owner(2000063001, 2000063001)
CONTENT = {digest_of(text): text for text in (b"", b"one", b"two")}
LIMIT = 1 << 20
OUTSIDE = b"@"
"""Stands for the way to the watched tree, which is another one each time."""

NAMES = st.sampled_from(
    [
        b"a",
        b"b",
        b"d",
        b"d",
        b"w",
        b"a.o",
        b"usr",
        b"bin",
        b"lib",
        b"gcc",
        b"x.so",
        b"etc",
        b"secret",
        b"fifo",
        b"l",
        b"m",
    ]
)
ODD = st.sampled_from(
    [
        *(
            b"..",
            b"..",
            b".",
            b"",
            b"proc",
            b"dev",
            b"self",
            b".sccache-twisted",
            b"tmp",
            b"exec",
            b"root",
            b"\xff\xfe",
        ),
        *(b"line\nbreak", b"-o", b" ", b"\\", b"...", b"$HOME", b"x" * 255, b"x" * 256, b"nul\0", OUTSIDE),
    ]
)
PARTS = st.lists(st.one_of(NAMES, NAMES, NAMES, NAMES, NAMES, ODD), min_size=1, max_size=5)
HONEST = st.one_of(
    st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: b"/w/" + b"/".join(parts)),
    st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: b"/s/" + b"/".join(parts)),
)
CLIMBING = st.sampled_from(
    [
        b"/w/../",
        b"/w/d/../../../../etc/",
        b"/l/../",
        b"/w/./",
        b"//w//",
        b"/../",
        b"/l/m/../../",
        b"/w/l/../d/",
        b"/usr/../",
    ]
)
PATHS = st.one_of(
    HONEST,
    HONEST,
    HONEST,
    st.builds(b"".join, st.tuples(CLIMBING, NAMES)),
    PARTS.map(lambda parts: b"/" + b"/".join(parts)),
    PARTS.map(lambda parts: b"/w/" + b"/".join(parts)),
    PARTS.map(lambda parts: OUTSIDE + b"/" + b"/".join(parts)),
    st.sampled_from([b"", b"relative", b"/", b"//", b"/usr/bin/gcc/x", b"/" + b"d/" * 250 + b"a", b"/x" * 2100]),
    st.sampled_from(
        [OUTSIDE + b"/" + name for name in (b"secret", b"public", b"d/a.o", b"fifo", b"closed/new", b"link")]
    ),
)
TARGETS = st.one_of(
    PATHS,
    PARTS.map(b"/".join),
    st.sampled_from(
        [OUTSIDE, OUTSIDE + b"/d", OUTSIDE + b"/secret", b"/", b"../../../../../..", b"l", b"m", b".", b"/proc/1/root"]
    ),
)
FILES = st.builds(file, PATHS, st.sampled_from([b"one", b"two", b""]), st.sampled_from([1, 1, 2, 1 << 60]))
LINKS = st.builds(LinkInput, st.one_of(PATHS, st.sampled_from([b"/l", b"/m", b"/w/l", b"/w", b"/usr", b"/d"])), TARGETS)
INPUTS = st.lists(st.one_of(FILES, FILES, LINKS, st.builds(DirectoryInput, PATHS)), max_size=5)
PLAIN = st.sampled_from([b"/w/a.o", b"/w/d/a.o", b"/l/a.o", b"/w/l/a.o", b"/usr/bin/a.o", b"/a.o", b"/s/a.o"])
OUTPUTS = st.lists(st.one_of(PLAIN, PLAIN, PATHS), max_size=3)
DEEDS = (
    *("link", "link out", "link up", "fifo", "socket", "device", "giant", "directory", "deep"),
    *("hard link", "file", "closed", "powers", "unlink", "rename", "attribute"),
)
LEFT = st.lists(
    st.tuples(st.sampled_from(DEEDS), st.one_of(st.integers(0, 7), st.integers(0, 7), st.integers(0, 40))),
    min_size=1,
    max_size=6,
)
JOBS = st.lists(st.tuples(INPUTS, OUTPUTS, LEFT), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def store():
    """A toolchain on the file system of the roots."""
    made = os.fsencode(tempfile.mkdtemp(prefix="sccache-twisted-test-", dir="/var/tmp"))
    paths = [b"/usr/bin/gcc", b"/usr/lib/x.so", *(b"/usr/lib/gcc/%d" % number for number in range(9))]
    for path in paths:
        os.makedirs(os.path.dirname(made + path), exist_ok=True)
        with open(made + path, "wb") as out:
            out.write(path)
    os.symlink(b"usr/lib", made + b"/lib")
    os.symlink(b"/../../../../etc", made + b"/usr/out")
    yield made, paths
    shutil.rmtree(made)


def tree_of(made, paths):
    members = entries(*paths, links=[(b"/lib", b"usr/lib"), (b"/usr/out", b"/../../../../etc")])
    return toolchain_tree(
        [
            type(one)(one.path, one.kind, one.mode, one.target, one.size, made + one.path if one.stored else b"")
            for one in members
        ],
        made,
    )


def stored_as(made):
    """All of a store that nobody may change; links to its files may come and go."""
    found = {}
    for here, directories, files in os.walk(made):
        for name in [*directories, *files]:
            path = os.path.join(here, name)
            about = os.lstat(path)
            found[path] = (about.st_ino, about.st_mode, about.st_uid, about.st_mtime_ns, about.st_size)
    return found


def copy(entry, directory, name):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444, dir_fd=directory)
    os.write(fd, CONTENT[entry.digest])
    os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
    os.close(fd)


def aimed(entry, place):
    """An input or a path with the watched tree's own place in it."""
    if isinstance(entry, bytes):
        return entry.replace(OUTSIDE, place, 1)
    changes = {"path": aimed(entry.path, place)}
    if isinstance(entry, LinkInput):
        changes["target"] = aimed(entry.target, place)
    return type(entry)(
        **{**{name: getattr(entry, name) for name in entry.__slots__ if name != "__weakref__"}, **changes}
    )


def as_planned(root, world, inputs):
    """Every input is found by the kernel inside the root, under the name that it was given."""
    with as_mounted(root, world):
        _as_planned(root, inputs)


def _as_planned(root, inputs):
    for entry in inputs:
        if isinstance(entry, FileInput):
            assert content_inside(root, entry.path) == CONTENT[entry.digest], entry
        elif is_the_sandboxs(root, entry.path):
            continue
        elif isinstance(entry, LinkInput):
            assert target_inside(root, entry.path) == entry.target, entry
        else:
            assert is_directory_inside(root, entry.path), entry


def is_the_sandboxs(root, path):
    """Whether a path leads into /proc or /dev, which the sandbox has of its own."""
    parts = path.split(b"/")
    own = {os.stat(root + name).st_ino for name in (b"/proc", b"/dev")}
    for end in range(2, len(parts) + 1):
        try:
            fd = open_inside(root, b"/".join(parts[:end]), os.O_PATH)
        except OSError:
            return False
        inode = os.fstat(fd).st_ino
        os.close(fd)
        if inode in own:
            return True
    return False


@contextmanager
def as_mounted(root, world):
    """The root with the toolchain's directories where the sandbox would have them."""
    libc = ctypes.CDLL(None, use_errno=True)
    with ExitStack() as mounts:
        for place, stored in world.stored:
            assert libc.mount(stored, root + place, None, 4096, None) == 0  # MS_BIND
            mounts.callback(libc.umount2, root + place, 2)  # MNT_DETACH
        yield


def misbehave(root, world, deeds, watched):
    """What a job can do where it may write, and some that only root could; itself it follows no link."""
    closed = {*world.sealed, *(path for path, _ in world.stored), b"/proc", b"/dev", b"/.sccache-twisted"}
    places = [b"/" + b"/".join(output.place) for output in world.outputs for _ in range(4) if output.place]
    for top in world.writable:
        for here, directories, files in os.walk(root + top.rstrip(b"/")):
            directories[:] = [name for name in directories if os.path.join(here, name)[len(root) :] not in closed]
            places += [os.path.join(here, name)[len(root) :] for name in [*directories, *files, b"new"]]
    places = [place for place in places if place not in closed]
    honest = [("file", number) for number in range(0, 4 * len(world.outputs), 4)]
    for deed, number in [*honest, *deeds] if places else ():
        path = root + places[number % len(places)]
        try:
            _misbehave(path, deed, watched)
        except OSError:
            continue


def _misbehave(path, deed, watched):
    if os.path.realpath(os.path.dirname(path)) != os.path.dirname(path):
        return  # an earlier deed put a link on the way
    if deed not in {"unlink", "rename", "closed", "attribute", "powers"}:
        if os.path.isdir(path) and not os.path.islink(path):
            os.rename(path, path + b"~")
        elif os.path.lexists(path):
            os.unlink(path)
    if deed == "link":
        os.symlink(watched.place + b"/secret", path)
    elif deed == "link out":
        os.symlink(watched.place + b"/d", path)
    elif deed == "link up":
        os.symlink(b"../" * 30 + watched.place[1:] + b"/fifo", path)
    elif deed == "hard link":
        for beside in os.scandir(os.path.dirname(path)):
            if beside.is_file(follow_symlinks=False):
                os.link(beside.path, path, follow_symlinks=False)
                break
    elif deed == "fifo":
        os.mkfifo(path)
    elif deed == "socket":
        here = os.open(os.path.dirname(path), os.O_PATH)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(b"/proc/self/fd/%d/%s" % (here, os.path.basename(path)[:60]))
        os.close(here)
    elif deed == "device":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    elif deed in {"giant", "file"}:
        with open(path, "xb") as stream:
            stream.write(b"object")
            stream.truncate(1 << 40 if deed == "giant" else 6)
    elif deed in {"directory", "deep"}:
        os.makedirs(path + b"/x" * (90 if deed == "deep" else 1))
    elif deed == "unlink":
        os.unlink(path)
    elif deed == "rename":
        os.rename(path, path + b"-gone")
    elif not os.path.islink(path):
        if deed == "attribute":
            os.setxattr(path, "user.mark", b"1", follow_symlinks=False)
        else:
            os.chmod(path, 0 if deed == "closed" else 0o6777)


def collected(root, world, watched, count):
    """What is believed of what a job left, when nothing was looked at outside; None for bad outputs."""
    assert disk_usage([root.root + one for one in world.writable] + [root.temporary]) >= 0
    try:
        found = collect(root.root, world.outputs, LIMIT)
    except BadOutput:
        found = None
        count["bad outputs"] += 1
    else:
        count["outputs"] += len(found)
        assert all(SECRET not in output.data and output.mode & ~0o777 == 0 for output in found)
    undeclared(root.root, world)
    watched.untouched()
    return found


@contextmanager
def beside_a_watched_tree(store, owner):
    """A slot's root to be built; at the end all of it is gone, and nothing beside it was touched."""
    made, _ = store
    top = os.fsencode(tempfile.mkdtemp(prefix="sccache-twisted-test-", dir="/var/tmp"))
    before = stored_as(made)
    try:
        os.mkdir(top + b"/jobs")
        with sentinel(top + b"/outside") as watched:
            root = JobRoot(top + b"/jobs/slot", owner)
            yield root, watched
            root.discard()
            watched.untouched()
            assert os.listdir(top + b"/jobs") == []
        assert sorted(os.listdir(top)) == [b"jobs", b"outside"]
        assert stored_as(made) == before
    finally:
        remove(top)


def one_after_another(store, owner, jobs, count):
    """Build, misbehave, collect, settle, in one slot beside a watched tree."""
    with beside_a_watched_tree(store, owner) as (root, watched):
        for plain, named, deeds in jobs:
            inputs = tuple(aimed(entry, watched.place) for entry in plain)
            outputs = tuple(aimed(path, watched.place) for path in named)
            try:
                world = plan(action_of(inputs, outputs), tree_of(*store), None)
            except BadAction:
                count["refused"] += 1
                continue
            root.build(world, copy)
            count["built"] += 1
            watched.untouched()
            as_planned(root.root, world, inputs)
            misbehave(root.root, world, deeds, watched)
            watched.heard()
            collected(root, world, watched, count)
            root.settle()
            watched.untouched()


def action_of(inputs, outputs):
    return Action(digest_of(b""), b"/usr/bin/gcc", (b"gcc",), b"/w", (), inputs, outputs)


OUTPUT, ABOVE = b"/w/d/a.o", b"/w/d"
HARMLESS = {"file", "hard link", "powers", "attribute", "closed"}
MISSING = {"unlink", "rename"}


@pytest.mark.parametrize("place", [OUTPUT, ABOVE], ids=["output", "above"])
@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("owner", [OWNER, None], ids=["owned", "ours"])
def test_whatever_lies_in_an_outputs_place(store, owner, deed, place):
    """A regular file is read, a missing one is missing; all else, or on the way to it, is bad and never opened."""
    inputs = (DirectoryInput(ABOVE), file(b"/w/d/own.h", b"one"), file(b"/w/own.h", b"two"))
    with beside_a_watched_tree(store, owner) as (root, watched):
        world = plan(action_of(inputs, (OUTPUT, b"/w/b.o")), tree_of(*store), None)
        root.build(world, copy)
        for output in (OUTPUT, b"/w/b.o"):
            _misbehave(root.root + output, "file", watched)
        if deed == "unlink" and place == ABOVE:
            shutil.rmtree(root.root + ABOVE)
        else:
            _misbehave(root.root + place, deed, watched)
        watched.heard()
        found = collected(root, world, watched, Counter())
        if deed in MISSING or (place == ABOVE and deed in {"directory", "deep"}):
            assert [one.path for one in found] == [b"/w/b.o"]
        elif deed in HARMLESS and not (place == ABOVE and deed in {"file", "hard link"}):
            assert [one.path for one in found] == [OUTPUT, b"/w/b.o"]
            assert found[0].data == (b"one" if deed == "hard link" else b"object")
        else:
            assert found is None
        root.settle()
        watched.untouched()
        again = plan(action_of(inputs, (OUTPUT,)), tree_of(*store), None)
        root.build(again, copy)
        as_planned(root.root, again, inputs)
        assert sorted(os.listdir(root.root + ABOVE)) == [b"own.h"]


def test_a_job_that_moves_directories_under_the_samplers_eyes(store, monkeypatch):
    """A link that a living job puts in the place of a directory on the way is not followed, nor is what it has lost."""
    inputs = (DirectoryInput(b"/w/d/e/x"),)
    with beside_a_watched_tree(store, OWNER) as (root, watched):
        world = plan(action_of(inputs, (b"/w/a.o", b"/w/d/e/a.o")), tree_of(*store), None)
        root.build(world, copy)
        with open(root.root + b"/w/a.o", "wb") as out:
            out.write(bytes(1 << 16))
        looks = []

        def scandir(fd):
            looks.append(os.readlink(f"/proc/self/fd/{fd}"))
            if looks[-1].endswith("/w/d") and not os.path.islink(root.root + b"/w/d"):
                listed = list(real(fd))
                os.rename(root.root + b"/w/d", root.root + b"/w/away")
                os.symlink(watched.place + b"/d", root.root + b"/w/d")
                return nullcontext(listed)
            return real(fd)

        real = os.scandir
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", scandir)
            size = disk_usage([root.root + b"/w"])
        assert (1 << 16) <= size < (1 << 17)
        assert looks[-1].endswith("/w/d")
        watched.untouched()


def _examples(store, number):
    count = Counter()

    # The same examples everywhere, and no judgement of how fast a busy machine makes them.
    @settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(owner=st.sampled_from([OWNER, None]), jobs=JOBS)
    def each(owner, jobs):
        one_after_another(store, owner, jobs, count)

    each()
    return count


def test_no_job_reaches_outside_its_root(store):
    """Whatever paths are named and whatever is left as outputs: built inside as the kernel sees it, or refused."""
    count = _examples(store, 100)
    assert min(count["built"], count["refused"]) >= 20, count


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_no_job_of_thousands_reaches_outside_its_root(store):
    """So do thousands."""
    count = _examples(store, 5000)
    assert min(count["built"], count["refused"], count["bad outputs"], count["outputs"]) >= 300, count
