"""Roots on disk: whatever lay there before, and whatever a job did, the next one finds exactly what was planned."""

import errno
import os
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_worker_plan import entries, file
from worker_kit import digest_of

from sccache_twisted.errors import BadAction, BadOutput, MissingInputs, SandboxFailed, WorkerStorage
from sccache_twisted.model import Action, DirectoryInput, LinkInput
from sccache_twisted.worker.files import remove, storage
from sccache_twisted.worker.jobroot import JobRoot, Owner
from sccache_twisted.worker.outputs import collect, undeclared
from sccache_twisted.worker.plan import PRIVATE, ToolchainFile, plan, toolchain_tree

pytestmark = pytest.mark.root

OWNER = Owner(2000063000, 2000063000)
CONTENT = {digest_of(text): text for text in (b"", b"one", b"two")}


@pytest.fixture
def place():
    made = os.fsencode(tempfile.mkdtemp(prefix="sccache-twisted-test-", dir="/var/tmp"))
    yield made
    remove(made)


@pytest.fixture(scope="module")
def toolchain():
    store = os.fsencode(tempfile.mkdtemp(prefix="sccache-twisted-test-", dir="/var/tmp"))
    paths = [b"/usr/bin/gcc", b"/usr/lib/a", *(b"/usr/lib/gcc/%d" % n for n in range(9))]
    for path in paths:
        os.makedirs(os.path.dirname(store + path), exist_ok=True)
        with open(store + path, "wb") as out:
            out.write(path)
    members = [
        type(one)(one.path, one.kind, one.mode, one.target, one.size, store + one.path if one.stored else b"")
        for one in entries(*paths)
    ]
    yield toolchain_tree(members, store)
    shutil.rmtree(store)


def copy(entry, directory, name):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444, dir_fd=directory)
    os.write(fd, CONTENT[entry.digest])
    os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
    os.close(fd)


def planned(toolchain, inputs, outputs=(b"/w/a.o",)):
    action = Action(digest_of(b""), b"/usr/bin/gcc", (b"gcc",), b"/w", (), tuple(inputs), tuple(outputs))
    return plan(action, toolchain, None)


def picture(root):
    """Every path below a root with all that a job could see of it."""
    seen = {}
    for here, directories, files in os.walk(root):
        for name in [*directories, *files]:
            path = os.path.join(here, name)
            about = os.lstat(path)
            if os.path.islink(path):
                seen[path[len(root) :]] = os.readlink(path)
            elif os.path.isdir(path):
                seen[path[len(root) :]] = (oct(about.st_mode), about.st_uid, about.st_gid, os.listxattr(path))
            else:
                with open(path, "rb") as stream:
                    seen[path[len(root) :]] = (oct(about.st_mode), about.st_uid, about.st_mtime_ns, stream.read())
    return seen


NAMES = st.sampled_from([b"a", b"b", b"c"])
DIRECTORIES = st.sampled_from([b"/w", b"/w/d", b"/s", b"/s/d", b"/usr/bin", b"/usr", b"/l"])
INPUTS = st.lists(
    st.one_of(
        st.builds(
            lambda where, name, text, time: file(where + b"/" + name, text, time),
            DIRECTORIES,
            NAMES,
            st.sampled_from([b"one", b"two"]),
            st.integers(1, 2),
        ),
        st.builds(lambda where, name: DirectoryInput(where + b"/" + name), DIRECTORIES, NAMES),
        st.builds(
            lambda name, target: LinkInput(b"/" + name, target),
            st.sampled_from([b"l", b"w/l"]),
            st.sampled_from([b"/s", b"s", b"w/d"]),
        ),
    ),
    max_size=8,
)
OUTPUTS = st.lists(st.sampled_from([b"/w/a.o", b"/w/d/a.o", b"/s/a.o", b"/usr/bin/a.o", b"/a.o"]), max_size=3)
DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["write", "replace", "unlink", "mkdir", "link", "rename", "chmod", "xattr", "deep"]),
        st.integers(0, 20),
    ),
    max_size=5,
)


def misbehave(root, world, deeds, rooted):
    """What a job could do to the directories that it can write to."""
    places = []
    for top in world.writable:
        for here, directories, files in os.walk(root + (b"" if top == b"/" else top)):
            inside = here[len(root) :]
            closed = [*(path for path, _ in world.stored), b"/proc", b"/dev", PRIVATE]
            if not any(inside == one or inside.startswith(one + b"/") for one in closed):
                places += [os.path.join(here, name) for name in [*directories, *files, b"new"]]
    places = [one for one in places if one[len(root) :] not in {*world.sealed, b"/proc", b"/dev", PRIVATE}]
    places = [one for one in places if one[len(root) :] not in {path for path, _ in world.stored}]
    for deed, number in deeds:
        if not places:
            return
        path = places[number % len(places)]
        try:
            if deed == "write" and not rooted:
                with open(path, "ab") as stream:
                    stream.write(b"!")
            elif deed == "replace" and not os.path.isdir(path):
                with open(path + b"~", "wb") as stream:
                    stream.write(b"evil")
                os.replace(path + b"~", path)
            elif deed == "unlink":
                os.unlink(path)
            elif deed == "mkdir":
                os.makedirs(path + b"/more")
            elif deed == "link":
                os.symlink(b"/etc/passwd", path)
            elif deed == "rename":
                os.rename(path, path + b"-gone")
            elif deed == "chmod" and os.path.isdir(path):
                os.chmod(path, 0)
            elif deed == "xattr" and os.path.isdir(path):
                os.setxattr(path, "user.mark", b"1")
            elif deed == "deep":
                os.makedirs(path + b"/x" * 50)
        except OSError:
            continue


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(owner=st.sampled_from([OWNER, None]), jobs=st.lists(st.tuples(INPUTS, OUTPUTS, DEEDS), min_size=2, max_size=4))
def test_a_kept_root_equals_a_new_one(toolchain, owner, jobs):
    """After any jobs before it, and whatever they did where they could write, a root is what a new one would be."""
    place = os.fsencode(tempfile.mkdtemp(prefix="sccache-twisted-test-", dir="/var/tmp"))
    try:
        kept = JobRoot(place + b"/kept", owner)
        for number, (inputs, outputs, deeds) in enumerate(jobs):
            try:
                world, again = planned(toolchain, inputs, outputs), planned(toolchain, inputs, outputs)
            except BadAction:
                continue
            kept.build(world, copy)
            new = JobRoot(place + b"/new-%d" % number, owner)
            new.build(again, copy)
            assert picture(kept.root) == picture(new.root)
            assert os.listdir(kept.temporary) == []
            misbehave(kept.root, world, deeds, rooted=owner is not None)
            kept.settle()
    finally:
        remove(place)


def test_what_stays_is_not_made_again(toolchain, place):
    """From one source to the next only what changed is copied; an input that went is gone."""
    copied = []

    def counting(entry, directory, name):
        copied.append(entry.path)
        copy(entry, directory, name)

    root = JobRoot(place + b"/slot", OWNER)
    root.build(planned(toolchain, [file(b"/s/a", b"one"), file(b"/s/b", b"one"), file(b"/w/c", b"one")]), counting)
    root.settle()
    copied.clear()
    root.build(planned(toolchain, [file(b"/s/a", b"one"), file(b"/s/d", b"two"), file(b"/w/c", b"one")]), counting)
    assert copied == [b"/s/d"]
    assert sorted(os.listdir(root.root + b"/s")) == [b"a", b"d"]


def replaced(path):
    with open(path + b"~", "wb") as stream:
        stream.write(b"evil")
    os.replace(path + b"~", path)


def overwritten(path):
    about = os.stat(path)
    with open(path, "wb") as stream:
        stream.write(b"1ne")
    os.utime(path, ns=(about.st_mtime_ns, about.st_mtime_ns))


def moved(path):
    os.rename(path, path + b"~")


@pytest.mark.parametrize(("owner", "deed"), [(OWNER, replaced), (OWNER, moved), (None, replaced), (None, overwritten)])
def test_an_input_beside_the_outputs_is_new_if_a_job_touched_it(toolchain, place, owner, deed):
    """What a job did to an input where it could write is undone for the next, even with size and time as they were."""
    root = JobRoot(place + b"/slot", owner)
    inputs = [file(b"/w/a", b"one"), LinkInput(b"/w/l", b"a")]
    root.build(planned(toolchain, inputs), copy)
    before = picture(root.root)
    deed(root.root + b"/w/a")
    replaced(root.root + b"/w/l")
    root.settle()
    root.build(planned(toolchain, inputs), copy)
    assert picture(root.root) == before


def test_attributes_of_a_directory_end_with_their_job(toolchain, place):
    """An attribute or access list that a job gave to a directory, which new files would inherit, does not stay."""
    root = JobRoot(place + b"/slot", OWNER)
    root.build(planned(toolchain, []), copy)
    os.setxattr(root.root + b"/w", "user.mark", b"1")
    os.setxattr(root.temporary, "user.mark", b"1")
    root.settle()
    root.build(planned(toolchain, []), copy)
    assert os.listxattr(root.root + b"/w") == os.listxattr(root.temporary) == []


def test_a_failed_build_leaves_nothing(toolchain, place):
    """When an input cannot be copied nothing is left, and the next build begins anew."""

    def failing(entry, directory, name):
        raise MissingInputs

    root = JobRoot(place + b"/slot", OWNER)
    root.build(planned(toolchain, []), copy)
    with pytest.raises(MissingInputs):
        root.build(planned(toolchain, [file(b"/s/a", b"one")]), failing)
    assert os.listdir(place) == []
    root.build(planned(toolchain, [file(b"/s/a", b"one")]), copy)
    assert os.listdir(root.root + b"/s") == [b"a"]


def test_what_a_job_left_is_gone_when_it_has_settled(toolchain, place):
    """Outputs, strange files and TMPDIR's content do not outlive their job."""
    root = JobRoot(place + b"/slot", OWNER)
    root.build(planned(toolchain, []), copy)
    os.mkfifo(root.root + b"/w/fifo")
    os.makedirs(root.root + b"/w/d/e")
    os.makedirs(root.temporary + b"/x")
    root.settle()
    assert os.listdir(root.root + b"/w") == []
    assert os.listdir(root.temporary) == []
    assert sorted(os.listdir(root.directory)) == [b"root", b"tmp"]


def test_a_toolchain_that_was_sent_again_is_linked_again(toolchain, place):
    """A toolchain's file stays only if it is the very one: after a new upload it is linked anew."""
    root = JobRoot(place + b"/slot", OWNER)
    inputs = [file(b"/usr/bin/other", b"one")]
    root.build(planned(toolchain, inputs), copy)
    fresh = toolchain_tree([], b"")
    stored = toolchain.children[b"usr"].children[b"bin"].children[b"gcc"].stored
    fresh.children = {
        b"usr": type(fresh)({b"bin": type(fresh)({b"gcc": ToolchainFile(stored)}, stored=b"/")}, stored=b"/")
    }
    os.rename(stored, stored + b".old")
    shutil.copy(stored + b".old", stored)
    try:
        root.settle()
        root.build(planned(fresh, inputs), copy)
        assert os.stat(root.root + b"/usr/bin/gcc").st_ino == os.stat(stored).st_ino
    finally:
        os.rename(stored + b".old", stored)


def test_outputs_are_read_without_trust(toolchain, place):
    """A link on the way to an output fails the job as a link in its place does; a missing output is merely missing."""
    world = planned(toolchain, [DirectoryInput(b"/w/d")], [b"/w/d/a.o", b"/w/b.o"])
    root = JobRoot(place + b"/slot", OWNER)
    root.build(world, copy)
    assert collect(root.root, world.outputs, 10) == ()
    os.rmdir(root.root + b"/w/d")
    os.symlink(b"/etc", root.root + b"/w/d")
    with pytest.raises(BadOutput):
        collect(root.root, world.outputs, 10)
    os.unlink(root.root + b"/w/d")
    os.mkdir(root.root + b"/w/d")
    for name, size in ((b"/w/d/a.o", 6), (b"/w/b.o", 5), (b"/w/extra", 1)):
        with open(root.root + name, "wb") as out:
            out.write(b"x" * size)
    with pytest.raises(BadOutput):
        collect(root.root, world.outputs, 10)
    assert [len(output.data) for output in collect(root.root, world.outputs, 11)] == [6, 5]
    assert undeclared(root.root, world) == (b"/w/extra",)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, WorkerStorage),
        (errno.EDQUOT, WorkerStorage),
        (errno.EXDEV, SandboxFailed),
        (errno.EIO, WorkerStorage),
    ],
)
def test_what_the_system_refuses_is_the_workers_fault(number, kind):
    """A full disk, a foreign file system and a broken disk are the worker's failures, each with its sentence."""
    with pytest.raises(kind, match="/somewhere"), storage(b"/somewhere"):
        raise OSError(number, os.strerror(number))
