"""``why`` as a user calls it: through the launcher and a daemon, in sentences and in JSON."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cache_support import LAUNCHER, Client, lone_client
from cli_support import command

from sccache_twisted.cli.why import lines

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


@pytest.fixture(scope="module")
def client():
    with lone_client() as made:
        yield made


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "inc").mkdir()
    (tmp_path / "inc" / "b.h").write_text("#define B 1\n")
    (tmp_path / "a.c").write_text('#include "b.h"\nint f(void) { return B; }\n')
    return tmp_path


@needs_gcc
def test_what_one_daemon_saw_the_next_one_tells(client: Client, work: Path) -> None:
    """Why a file was compiled again is told by relative source or object, and after the daemon has ended too."""
    client.compile("gcc -Iinc -O2 -c a.c -o a.o", work)
    (work / "inc" / "b.h").write_text("#define B 2\n")
    client.compile("gcc -Iinc -O2 -c a.c -o a.o", work)
    first = client.run("why", "a.c", cwd=work)
    assert f"{work}/a.c: its last compilation, " in first
    assert "\n  gcc -Iinc -O2 -c a.c -o a.o\n" in first
    assert first.endswith("\n  because header inc/b.h changed\n")
    client.stop()
    assert client.run("why", "a.c", cwd=work) == first
    (answer,) = client.asked("why", "../" + work.name + "/a.o", cwd=work)
    assert (answer["state"], answer["source"], answer["output"]) == ("miss", f"{work}/a.c", f"{work}/a.o")
    assert answer["causes"][0]["kind"] == "header"
    client.compile("gcc -Iinc -O2 -c a.c -o a.o", work)
    hit = client.run("why", str(work / "a.c"))
    assert "was found in the cache.\n" in hit
    assert "Its last miss was " in hit


@needs_gcc
def test_several_files_and_the_unknown(client: Client, work: Path) -> None:
    """Each file has its answer; one that is not known makes the status 1."""
    client.compile("gcc -Iinc -c a.c -o a.o", work)
    told = client.asked("why", "a.c", "b.c", cwd=work, status=1)
    assert [one["state"] for one in told] == ["miss", "unknown"]
    text = client.run("why", "b.c", "a.c", cwd=work, status=1)
    assert f"{work}/b.c: no compilation of it is known" in text
    assert "because no earlier compilation of this file is known" in text
    assert client.run("why", "a.c", cwd=work)


@needs_gcc
def test_a_name_that_is_no_text(client: Client, work: Path) -> None:
    """Names are bytes: one that is no UTF-8 is found, and shown as well as can be."""
    name = os.fsdecode(b"\xff a.c")
    (work / name).write_text("int g;\n")
    subprocess.run([LAUNCHER, "gcc", "-c", name, "-o", "g.o"], cwd=work, env=dict(client.env), check=True, timeout=60)
    assert "\\xff a.c: its last compilation" in client.run("why", name, cwd=work)


@needs_gcc
def test_a_link_leads_to_the_source(client: Client, work: Path) -> None:
    """A file is known by the path that it has without links, too."""
    client.compile("gcc -Iinc -c a.c -o a.o", work)
    (work / "link").symlink_to(work)
    assert f"{work}/link/a.c: its last compilation, " in client.run("why", "link/a.c", cwd=work)


def test_without_a_cache_there_is_nothing_to_tell() -> None:
    """Where results are not stored, that is the answer."""
    with lone_client({"SCCACHE_CACHE_SIZE": "0"}) as client:
        ended = command("why", "a.c", env=dict(client.env))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "sccache-twisted: Nothing is cached here, so every compilation runs.\n"


def test_a_missing_name_is_one_sentence() -> None:
    """``why`` alone asks for a file."""
    ended = command("why")
    assert ended.returncode == 2
    assert "FILE" in ended.stderr


ANSWER = {
    "file": "/w/a.c",
    "state": "miss",
    "time": 0.0,
    "command": ["gcc", "-D", "A B"],
    "cwd": "/w",
    "causes": [{"kind": "source", "sentence": "the source changed"}],
    "more_causes": 3,
    "stored": False,
    "reason": "too_new",
    "reason_sentence": "It was too new",
    "compared_with": {"time": 60.0, "command": ["gcc", "a.c"]},
}


def test_sentences() -> None:
    """Every part of an answer has its line."""
    told = list(lines(ANSWER))
    assert told[1:5] == ["  gcc -D 'A B'", "  in /w", "  because the source changed", "  and 3 more"]
    assert told[5].startswith("  compared with the nearest earlier one, 1970-01-01 ")
    assert told[5].endswith(": gcc a.c")
    assert told[6] == "  its result was not stored: It was too new."
    refused = list(lines({**ANSWER, "state": "not_cached"}))
    assert refused[-1] == "  because: It was too new. (too_new)"
    assert "although the source changed" in "\n".join(lines({**ANSWER, "state": "text_hit"}))
