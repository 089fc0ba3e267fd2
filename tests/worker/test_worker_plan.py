"""A job's world as a tree of values: what the kernel would do, and what is refused."""

import pytest
from worker_kit import digest_of

from sccache_twisted.errors import BadAction
from sccache_twisted.model import Action, DirectoryInput, FileInput, LinkInput
from sccache_twisted.toolchains import Entry, EntryKind
from sccache_twisted.worker.plan import Directory, Link, Mounted, ToolchainFile, plan, toolchain_tree

STORE = b"/store/root"


def entries(*paths, links=()):
    found = {}
    for path in paths:
        parts = path.split(b"/")[1:]
        for index in range(1, len(parts)):
            above = b"/" + b"/".join(parts[:index])
            found.setdefault(above, Entry(above, EntryKind.DIRECTORY))
        found[path] = Entry(path, EntryKind.FILE, 0o555, stored=STORE + path)
    for path, target in links:
        found[path] = Entry(path, EntryKind.LINK, 0o777, target=target)
    return [found[path] for path in sorted(found)]


TOOLCHAIN = toolchain_tree(
    entries(
        b"/usr/bin/gcc", b"/usr/lib/x.so", *(b"/usr/lib/gcc/%d" % n for n in range(9)), links=[(b"/lib", b"usr/lib")]
    ),
    STORE,
)


def file(path, content=b"", mtime=1):
    return FileInput(path, digest_of(content), len(content), mtime)


def planned(*inputs, outputs=(), cwd=b"/w", executable=b"/usr/bin/gcc"):
    action = Action(digest_of(b""), executable, (b"gcc",), cwd, (), tuple(inputs), tuple(outputs))
    return plan(action, TOOLCHAIN, None)


def node(world, path):
    here = world.root
    for part in path.split(b"/")[1:]:
        here = here.children[part]
    return here


def test_inputs_lie_where_they_are_spelled():
    """A file's directories exist because it does; a directory that is named exists; the working directory does."""
    world = planned(file(b"/src/inc/a.h"), DirectoryInput(b"/src/empty"))
    assert node(world, b"/src/inc/a.h") == file(b"/src/inc/a.h")
    assert isinstance(node(world, b"/src/empty"), Directory)
    assert isinstance(node(world, b"/w"), Directory)


def test_links_are_followed_as_the_kernel_would():
    """A path through a link lies where the link points, whatever the order in which both are given."""
    expected = file(b"/here/a.h")
    for inputs in (
        [LinkInput(b"/here", b"there/deep"), expected],
        [expected, LinkInput(b"/here", b"there/deep")],
    ):
        world = planned(*inputs)
        assert node(world, b"/there/deep/a.h") == expected
        assert node(world, b"/here") == Link(b"there/deep")


def test_a_link_at_the_end_is_followed_for_a_file():
    """A file that is spelled as a link lies at the link's target, with every link of a chain in place."""
    world = planned(
        LinkInput(b"/s/a.h", b"../t/b.h"), LinkInput(b"/t/b.h", b"/u/a.h"), file(b"/s/a.h"), file(b"/s/c.h")
    )
    assert node(world, b"/u/a.h") == file(b"/s/a.h")
    assert node(world, b"/s/c.h") == file(b"/s/c.h")


def test_dot_dot_is_never_folded():
    """``x/..`` makes x a directory; through a link it leads to the target's parent."""
    world = planned(LinkInput(b"/link", b"/far/away"), file(b"/x/../a.h"), file(b"/link/../b.h"))
    assert isinstance(node(world, b"/x"), Directory)
    assert node(world, b"/a.h") == file(b"/x/../a.h")
    assert node(world, b"/far/b.h") == file(b"/link/../b.h")


@pytest.mark.parametrize(
    "inputs",
    [
        [file(b"/a"), file(b"/a/b")],
        [file(b"/a/b"), file(b"/a")],
        [file(b"/a"), DirectoryInput(b"/a")],
        [file(b"/a/b"), file(b"/a/b/../c")],
        [file(b"/a", b"1"), file(b"/a", b"2")],
        [file(b"/a", b"1", 1), file(b"/a", b"1", 2)],
        [LinkInput(b"/a", b"b"), LinkInput(b"/a", b"c")],
        [LinkInput(b"/a", b"a"), file(b"/a/x")],
        [LinkInput(b"/a", b"b"), LinkInput(b"/b", b"a"), file(b"/a/x")],
        [file(b"relative")],
        [file(b"")],
        [file(b"/a\0b")],
        [file(b"/a/")],
        [file(b"/a/.")],
        [file(b"/a/..")],
        [file(b"/" + b"x" * 256)],
        [file(b"/x" * 2100)],
        [file(b"/x" * 300)],
        [LinkInput(b"/a", b"")],
        [LinkInput(b"/a", b"x\0y")],
        [LinkInput(b"/a", b"x" * 5000)],
        [file(b"/dev/null")],
        [file(b"/proc/self/x")],
        [LinkInput(b"/dev/x", b"y")],
        [LinkInput(b"/d", b"/dev"), file(b"/d/null")],
        [file(b"/.sccache-twisted/tmp/x")],
        [DirectoryInput(b"/usr/bin/gcc")],
        [LinkInput(b"/lib", b"elsewhere")],
    ],
)
def test_what_cannot_be_is_refused(inputs):
    """Conflicts, loops, relative, empty, overlong paths and the sandbox's own places are refused with a sentence."""
    with pytest.raises(BadAction, match=r"."):
        planned(*inputs)


@pytest.mark.parametrize("cwd", [b"w", b"", b"/proc", b"/dev/shm", b"/usr/bin/gcc", b"/w\0"])
def test_impossible_working_directories(cwd):
    """A working directory that cannot be is refused."""
    with pytest.raises(BadAction):
        planned(cwd=cwd)


@pytest.mark.parametrize("executable", [b"/usr/bin/cc", b"/usr/lib", b"gcc", b"/lib"])
def test_the_program_must_be_there(executable):
    """A program that is not in the job's world, or no file, is refused."""
    with pytest.raises(BadAction):
        planned(executable=executable)


def test_repeated_inputs_are_one():
    """The same file or link twice is one, also by two spellings."""
    world = planned(file(b"/a/b"), file(b"/a/b"), file(b"/a/../a/b"), LinkInput(b"/l", b"a"), LinkInput(b"/l", b"a"))
    assert node(world, b"/a/b") == file(b"/a/b")


def test_an_input_in_place_of_a_toolchains_file_wins():
    """What the client says of a file that its toolchain has too is newer, and has its time."""
    world = planned(file(b"/lib/x.so", b"mine", 7))
    assert node(world, b"/usr/lib/x.so") == file(b"/lib/x.so", b"mine", 7)
    assert planned().root is not world.root
    assert isinstance(TOOLCHAIN.children[b"usr"].children[b"lib"].children[b"x.so"], ToolchainFile)


def test_outputs_make_their_directories_writable():
    """An output's directory is writable if it exists, through links too; a missing one is not made."""
    world = planned(
        LinkInput(b"/out", b"/real/out"),
        DirectoryInput(b"/real/out"),
        outputs=[b"/out/a.o", b"/w/b.o", b"/w/missing/c.o", b"/real/out/../out/d.o"],
    )
    assert [output.place for output in world.outputs] == [
        (b"real", b"out", b"a.o"),
        (b"w", b"b.o"),
        (),
        (b"real", b"out", b"d.o"),
    ]
    assert sorted(world.writable) == [b"/real/out", b"/w"]
    assert b"missing" not in node(world, b"/w").children


@pytest.mark.parametrize("output", [b"a.o", b"/", b"/w/", b"/w/..", b"/dev/a.o", b"/proc/1/x", b"/w/a\0b"])
def test_impossible_outputs(output):
    """An output that names no file, or one of the sandbox's own places, is refused."""
    with pytest.raises(BadAction):
        planned(outputs=[output])


def test_the_toolchain_is_mounted_where_it_is_alone():
    """A directory that is the toolchain's altogether is mounted; one that inputs share is built, file by file."""
    assert planned().stored == ((b"/usr", STORE + b"/usr"),)
    assert isinstance(node(planned(), b"/usr"), Mounted)
    shared = planned(file(b"/usr/include/a.h"))
    assert (b"/usr/lib", STORE + b"/usr/lib") in shared.stored
    assert node(shared, b"/usr/bin/gcc") == ToolchainFile(STORE + b"/usr/bin/gcc")


def test_the_toolchain_stays_closed_below_a_writable_directory():
    """What belongs to the toolchain below a writable directory is mounted over it, read-only."""
    world = planned(outputs=[b"/usr/bin/a.o", b"/b.o"])
    assert world.writable == (b"/",)
    assert b"/usr/bin/gcc" in world.sealed
    assert (b"/usr/lib", STORE + b"/usr/lib") in world.stored
