"""Calls that can't work: wrong compilers, missing sources, outputs that can't be written, full disks.

Whatever a call is wrong in, it ends as without us or with a sentence that says what and where; nothing half-written
stays, and a job that another call has on a worker at the same time ends well.
"""

import json
import os
import re
import shlex

import pytest
from bad_input_kit import (
    PROGRAM,
    SOURCE,
    STRANGER,
    Client,
    as_stranger,
    belongs_to_stranger,
    bystander,
    finish,
    has_root_and_setpriv,
    tables_of,
    tiny_disk,
)
from support.cluster import Cluster

NEEDS_ROOT = pytest.mark.skipif(not has_root_and_setpriv(), reason="mounts, or becomes another user")


def same_names(text):
    """Diagnostics with the compiler's random temporary names made equal."""
    return re.sub(r"/tmp/cc\w{6}", "/tmp/ccXXXXXX", text)


@pytest.fixture(scope="module")
def cluster():
    """Two workers with two slots each."""
    with Cluster(2, slots=2) as running:
        yield running


@pytest.fixture
def client(cluster):
    """A user of the cluster, with a daemon of his own."""
    with Client(tables_of(cluster)) as user:
        yield user


def test_a_compiler_that_cannot_run_is_named(cluster, client):
    """A name that is not in PATH, a path to nothing, a file that may not run, a directory, a text: named."""
    (client.work / "plain-file").write_text("no program")
    (client.work / "folder").mkdir()
    (client.work / "gcc").write_text("this is prose\n")
    (client.work / "gcc").chmod(0o755)
    cases = {
        "no-such-gcc": (127, ("'no-such-gcc'", "not in PATH")),
        "./absent/gcc": (127, ("'./absent/gcc'", "does not exist or is not executable")),
        "./plain-file": (127, ("'./plain-file'", "does not exist or is not executable")),
        "./folder": (127, ("'./folder'", "does not exist or is not executable")),
        "./gcc": (126, ("cannot run ", "/./gcc: Exec format error")),
    }
    with bystander(cluster):
        for compiler, (status, phrases) in cases.items():
            said = client.call(compiler, "-c", "a.c", "-o", "a.o")
            assert (said.status, said.stdout) == (status, ""), said
            assert said.stderr.startswith("sccache-twisted: ")
            assert said.stderr.count("\n") == 1
            for phrase in phrases:
                assert phrase in said.stderr
    assert client.stats()["local_compiles"] == {}
    client.left_only("a.c", "plain-file", "folder", "gcc")


def test_without_a_daemon_a_wrong_compiler_is_named_too(client):
    """The launcher that could start no daemon has a sentence of its own, and the shell's statuses."""
    (client.work / "plain-file").write_text("no program")
    nowhere = {"SCCACHE_SERVER_UDS": "/absent/d.sock"}
    for compiler, status, phrase in (
        ("no-such-gcc", 127, "no program no-such-gcc in PATH"),
        ("./absent/gcc", 127, "cannot run ./absent/gcc: No such file or directory"),
        ("./plain-file", 126, "cannot run ./plain-file: Permission denied"),
    ):
        said = client.call(compiler, "-c", "a.c", **nowhere)
        assert (said.status, said.stderr) == (status, f"sccache-twisted: {phrase}\n")
    client.left_only("a.c", "plain-file")


def test_a_missing_source_is_the_compilers_to_report(cluster, client):
    """A source, or a header, that is not there: the compiler's own words and status, no output."""
    (client.work / "b.c").write_text('#include "absent.h"\n')
    with bystander(cluster):
        for source in ("absent.c", "b.c"):
            plain = client.plain("gcc", "-c", source, "-o", "x.o")
            assert (plain.status, "No such file" in plain.stderr) == (1, True)
            assert client.call("gcc", "-c", source, "-o", "x.o") == plain
    assert client.stats()["local_compiles"] == {"preprocessor_error": 2}
    client.left_only("a.c", "b.c")


def test_an_output_in_a_directory_that_is_not_there(client):
    """The compiler says that it can't write there; we make no directory for it."""
    plain = client.plain("gcc", "-c", "a.c", "-o", "absent/a.o")
    assert plain.status != 0
    assert client.call("gcc", "-c", "a.c", "-o", "absent/a.o") == plain
    assert client.stats()["not_cached"] == {"bad_output_file": 1}
    client.left_only("a.c")


@pytest.mark.root
@NEEDS_ROOT
def test_outputs_that_an_ordinary_user_may_not_write(cluster):
    """A directory, an object or a depfile that the user may not write: as the compiler alone, files and words."""
    tables = tables_of(cluster)
    auth = tables.pop("dist.auth")
    with open(auth["token_file"], encoding="ascii") as file:
        tables["dist.auth"] = {"token": file.read().strip()}
    calls = [
        "gcc -c a.c -o closed/a.o",
        "gcc -c a.c -o old.o",
        "gcc -c a.c -MMD -MF old.d -o fresh.o",
        "gcc -c a.c -o good.o",
    ]
    results = []
    for prefix in (f"{PROGRAM} ", ""):
        with Client(tables) as user:
            (user.work / "closed").mkdir()
            for name in ("old.o", "old.d"):
                (user.work / name).write_text("mine\n")
            belongs_to_stranger(user.root)
            for name, mode in (("closed", 0o555), ("old.o", 0o444), ("old.d", 0o444)):
                (user.work / name).chmod(mode)
            stats = f"{PROGRAM} --show-stats --stats-format json >../stats; {PROGRAM} --stop-server >../stopped"
            script = "; ".join([f"{prefix}{call}; echo $?" for call in calls] + ([stats] if prefix else []))
            said = finish(as_stranger("sh", "-c", script), env=user.env, cwd=user.work)
            assert "Traceback" not in user.log()
            files = {
                path.name: (path.stat().st_mode, path.stat().st_uid, path.read_bytes())
                for path in user.work.rglob("*")
                if path.is_file()
            }
            results.append((said, files))
            if prefix:
                counted = json.loads((user.root / "stats").read_text())["stats"]
                assert counted["not_cached"] == {"bad_output_file": 1}
                assert counted["local_compiles"].keys() <= {"bad_output_file"}
                assert sum(counted["dist_compiles"].values()) >= 2
    ours, plain = results
    assert "Permission denied" in plain[0].stderr
    assert ours == plain
    assert plain[1]["good.o"][1] == STRANGER


@pytest.mark.root
@NEEDS_ROOT
def test_a_full_disk_below_the_output(cluster, client):
    """No room for the object: the compiler's own error and status, nothing half-written; with room it is written."""
    (client.work / "a.c").write_text(f"{SOURCE}char filler[200000] = {{1}};\n")
    with tiny_disk(client.work / "full", "64k") as full, bystander(cluster):
        plain = client.plain("gcc", "-c", "a.c", "-o", "full/a.o")
        assert (plain.status, "No space left on device" in plain.stderr) == (1, True)
        left = sorted(os.listdir(full))
        ours = client.call("gcc", "-c", "a.c", "-o", "full/a.o")
        assert (ours.status, same_names(ours.stderr)) == (1, same_names(plain.stderr))
        assert sorted(os.listdir(full)) == left
        assert client.stats()["local_compiles"] == {"bad_output_file": 1}
        (event,) = client.events("job_local")
        assert "full/a.o: No space left on device" in event["sentence"]
    assert client.call("gcc", "-c", "a.c", "-o", "a.o").status == 0
    assert sum(client.stats()["dist_compiles"].values()) == 1


@pytest.mark.root
@NEEDS_ROOT
def test_a_full_disk_below_the_clients_cache(cluster, client):
    """A compiler that can't be packaged for want of room: compiles here, the log says where, no half package stays."""
    with tiny_disk(client.root / "cache", "256k") as cache, bystander(cluster):
        client.compiles_here("no_toolchain", "cannot be written: the disk is full.")
        assert str(cache) in client.events("job_local")[0]["sentence"]
        assert [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size > 100_000] == []
        assert [path.name for path in cache.rglob("*") if path.name.startswith((".draft", ".packaging"))] == []
    # There is room now, which a new daemon finds out at once and the old one within a minute.
    client.command("--stop-server")
    assert client.call("gcc", "-c", "a.c", "-o", "again.o").status == 0
    assert sum(client.stats()["dist_compiles"].values()) == 1


@pytest.mark.root
@NEEDS_ROOT
def test_a_full_disk_below_a_workers_stores(cluster):
    """A worker without room refuses the toolchain with a sentence and keeps no part of it; another runs the job."""
    # The bystander has its slot before the tiny worker comes, which could not serve it.
    with (
        tiny_disk(cluster.directory / "workers" / "tiny", "8m") as disk,
        bystander(cluster),
        Client(tables_of(cluster)) as client,
    ):
        cluster.add("tiny")
        try:
            for number in range(8):
                (client.work / f"f{number}.c").write_text(f"int f{number}(void) {{ return {number}; }}\n")
            (client.work / "Makefile").write_text("all: $(patsubst %.c,%.o,$(wildcard f*.c))\n")
            cc = f"CC={shlex.quote(str(PROGRAM))} gcc"
            # All slots of the good workers are wanted at once, so the tiny one is asked too.
            made = finish(["make", "-j8", cc], env=client.env, cwd=client.work)
            assert (made.status, made.stderr) == (0, "")
            stats = client.stats()
            assert stats["local_compiles"] == {}
            assert sum(stats["dist_compiles"].values()) == 8
            assert "tiny" not in stats["dist_compiles"]
            failed = [event for event in client.events("job_failed") if event["server_id"].startswith("tiny-")]
            assert failed, "the tiny worker was never asked"
            assert {event["code"] for event in failed} == {"worker_storage"}
            assert "cannot be stored: the disk is full." in failed[0]["sentence"]
            assert "Traceback" not in client.log()
            refused = [event for event in cluster.log_events("tiny") if event.get("event") == "toolchain_refused"]
            assert refused
            assert not any("traceback" in event for event in cluster.log_events("tiny"))
            kept = sum(path.stat().st_size for path in disk.rglob("*") if path.is_file())
            assert kept < 1 << 20, sorted(map(str, disk.rglob("*")))
        finally:
            cluster.remove("tiny", "KILL")
