"""The comparison of two builds: it finds what differs, says where, and finds nothing in equal ones."""

import pytest
from support.trees.commands import CompileCommand, Result, run_commands
from support.trees.compare import differences, set_aside, snapshot
from support.trees.elf import dwo_id

SOURCE = "int answer(int x) { return x + %s; }\n"


def _side(root, kept, commands):
    before = snapshot(root)
    results = run_commands(commands, jobs=2)
    return set_aside(root, before, kept, results)


def _compile(root, *words):
    return CompileCommand(("gcc", *words, "-c", "a.c", "-o", "a.o"), str(root), str(root))


@pytest.fixture
def root(tmp_path):
    """A directory with one C file."""
    folder = tmp_path / "root"
    folder.mkdir()
    folder.joinpath("a.c").write_text(SOURCE % 6, encoding="utf-8")
    return folder


def test_two_equal_builds_have_no_differences(root, tmp_path):
    """The same command in the same directory gives two equal sides, and leaves the directory as it was."""
    command = _compile(root, "-g", "-MMD")
    one = _side(root, tmp_path / "one", [command])
    other = _side(root, tmp_path / "other", [command])
    assert one.files == {"a.o", "a.d"}
    assert one.results[command.key].status == 0
    assert differences(one, other) == []
    assert [path.name for path in root.iterdir()] == ["a.c"]


def test_differing_objects_are_told_by_section(root, tmp_path):
    """For two ELF files the report names the sections that differ and no others."""
    one = _side(root, tmp_path / "one", [_compile(root)])
    root.joinpath("a.c").write_text(SOURCE % 7, encoding="utf-8")
    other = _side(root, tmp_path / "other", [_compile(root)])
    (told,) = differences(one, other)
    assert told == "a.o: ELF sections differ: .text"


def test_modes_missing_files_and_diagnostics_are_differences(root, tmp_path):
    """A file mode, a file of one side only, a status and a byte of stderr are each told."""
    command = _compile(root, "-Wall", "-MMD")
    one = _side(root, tmp_path / "one", [command])
    other = _side(root, tmp_path / "other", [command])
    (other.kept / "a.o").chmod(0o755)
    changed = {command.key: Result(1, b"", b"a.c:1: warning")}
    bent = type(other)(other.kept, other.files - {"a.d"} | {"core"}, changed)
    (bent.kept / "core").write_bytes(b"")
    told = "\n".join(differences(one, bent))
    for expected in (
        "mode 644 became 755",
        "a.d: only the plain",
        "core: the plain build did not",
        "status 0 became 1",
    ):
        assert expected in told
    assert "warning" in told


def test_a_rewritten_file_counts_as_an_output(root, tmp_path):
    """A file that was there before and was written again appears, even with the same content."""
    root.joinpath("a.o").write_bytes(b"old")
    assert _side(root, tmp_path / "one", [_compile(root)]).files == {"a.o"}


def test_dwarf_objects_are_compared_too(root, tmp_path):
    """With split DWARF the .dwo is one of the outputs, for both compilers."""
    for compiler in ("gcc", "clang"):
        argv = (compiler, "-g", "-gsplit-dwarf", "-c", "a.c", "-o", "a.o")
        side = _side(root, tmp_path / compiler, [CompileCommand(argv, str(root), None)])
        assert side.files == {"a.o", "a.dwo"}
        assert differences(side, side, dwo_ids_vary=True) == []


def test_only_a_split_units_id_may_vary(root, tmp_path):
    """Where ids vary, another id in object and .dwo is no difference; in one of the two it is, as is any other byte."""
    argv = ("gcc", "-g", "-gsplit-dwarf", "-c", "a.c", "-o", "a.o")
    command = CompileCommand(argv, str(root), None)
    plain, other = (_side(root, tmp_path / name, [command]) for name in ("plain", "other"))
    old = dwo_id((plain.kept / "a.o").read_bytes())
    assert old is not None
    for name in ("a.o", "a.dwo"):
        path = other.kept / name
        path.write_bytes(path.read_bytes().replace(dwo_id(path.read_bytes()), b"another!"))
        torn = differences(plain, other, dwo_ids_vary=True)
        assert torn == (["a.dwo: its id is not its object's"] if name == "a.o" else [])
    assert differences(plain, other) != []
    path = other.kept / "a.o"
    path.write_bytes(path.read_bytes().replace(b"answer", b"Answer"))
    assert differences(plain, other, dwo_ids_vary=True) != []
