"""``cache size``, ``cache clear``, ``cache evict``: with a daemon that runs, and without one."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cache_support import entries, lone_client
from cli_support import command
from contracts.cache_store import key_of

from sccache_twisted.cli.__main__ import main
from sccache_twisted.storage.disk_files import DiskDirectory

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
Call = Callable[..., tuple[int, str, str]]
DAY = 86400
BLOCK = 4096


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Of a client without a daemon."""
    (tmp_path / "client.toml").touch(0o600)
    return {
        "SCCACHE_CONF": str(tmp_path / "client.toml"),
        "SCCACHE_SERVER_UDS": str(tmp_path / "no.sock"),
        "SCCACHE_DIR": str(tmp_path / "cache"),
        "SCCACHE_CACHE_SIZE": "1M",
    }


@pytest.fixture
def called(env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Calls a command in this process: its status, and what it wrote."""

    def call(*words: str, **more: str) -> tuple[int, str, str]:
        for name, value in {**env, **more}.items():
            monkeypatch.setenv(name, value)
        try:
            status = main(["cache", *words])
        except SystemExit as ended:
            status = int(ended.code or 0)
        return (status, *capsys.readouterr())

    return call


def filled(env: dict[str, str], ages: dict[str, float]) -> None:
    """Store an entry for each name, last used so many seconds ago."""
    files = DiskDirectory(os.fsencode(env["SCCACHE_DIR"]), 1 << 20)
    for name, age in ages.items():
        key = key_of(name)
        files.put(key, name.encode())
        used = time.time() - age
        os.utime(f"{env['SCCACHE_DIR']}/{key[0]}/{key[1]}/{key}", (used, used))


def test_size_without_a_daemon(env: dict[str, str]) -> None:
    """What is on disk is counted without any daemon, and none is started; a store that isn't there stays so."""
    nothing = json.loads(command("cache", "size", "--format", "json", env=env).stdout)
    assert (nothing["entries"], nothing["bytes"], os.path.exists(env["SCCACHE_DIR"])) == (0, 0, False)
    filled(env, {"a": 3 * DAY, "b": 60, "c": 2 * DAY})
    told = json.loads(command("cache", "size", "--format", "json", env=env).stdout)
    (level,) = told["levels"]
    assert (told["entries"], told["bytes"]) == (3, 3 * BLOCK)
    assert (level["name"], level["entries"], level["bytes"], level["limit"]) == ("disk", 3, 3 * BLOCK, 1 << 20)
    assert 3 * DAY <= time.time() - level["oldest"] < 3 * DAY + 100
    assert 60 <= time.time() - level["newest"] < 160
    text = command("cache", "size", env=env).stdout
    assert "3 entries, 12 KiB of at most 1 MiB" in text
    assert env["SCCACHE_DIR"] in text
    assert not os.path.exists(env["SCCACHE_SERVER_UDS"])


@pytest.mark.parametrize(
    ("age", "left"), [("3d", 2), ("2d", 1), ("47h", 1), ("1w", 3), ("2882m", 2), ("59s", 0), ("0s", 0), ("99999w", 3)]
)
def test_evict_by_age(env: dict[str, str], called: Call, age: str, left: int) -> None:
    """What was last used longer ago than AGE goes; it is told how much that was."""
    filled(env, {"a": 3 * DAY + 60, "b": 60, "c": 2 * DAY + 60})
    status, stdout, _ = called("evict", "--older-than", age, "--format", "json")
    gone = 3 - left
    assert status == 0
    assert json.loads(stdout) == {
        "removed": [{"level": "disk", "entries": gone, "bytes": gone * BLOCK}],
        "entries": gone,
        "bytes": gone * BLOCK,
    }
    assert entries(env) == left


def test_clear_without_a_daemon(env: dict[str, str]) -> None:
    """Everything on this machine's disk is removed, and the command says how much that was."""
    filled(env, {"a": 3 * DAY, "b": 60})
    ended = command("cache", "clear", env=env)
    assert (ended.returncode, ended.stdout) == (0, "disk: 2 entries removed, 8 KiB freed.\n")
    assert entries(env) == 0
    assert command("cache", "clear", env=env).stdout == "disk: 0 entries removed, 0 bytes freed.\n"


REDIS = {"SCCACHE_REDIS_ENDPOINT": "redis://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("words", "extra", "sentence"),
    [
        (["clear", "--level", "redis"], {"SCCACHE_MULTILEVEL_CHAIN": "disk,redis", **REDIS}, "redis is shared"),
        (["clear"], REDIS, "No level of this cache is this machine's own: redis."),
        (["evict", "--older-than", "1d"], REDIS, "keeps entries on this machine with times of use: redis."),
        (["clear", "--level", "dist"], {}, "has no level 'dist'; it has: disk."),
        (["clear"], {"SCCACHE_LOCAL_RW_MODE": "READ_ONLY"}, "READ_ONLY"),
        (["evict", "--older-than", "1d"], {"SCCACHE_LOCAL_RW_MODE": "READ_ONLY"}, "READ_ONLY"),
        (["clear"], {"SCCACHE_CACHE_SIZE": "0"}, "Nothing is stored"),
        (
            ["evict", "--older-than", "1d", "--level", "memory"],
            {"SCCACHE_MULTILEVEL_CHAIN": "memory,disk"},
            "keeps no times of use",
        ),
        (["clear"], {"SCCACHE_CACHE_SIZE": "much"}, "SCCACHE_CACHE_SIZE"),
        (["evict"], {}, "--older-than"),
        ([], {}, "COMMAND"),
        (["shrink"], {}, "invalid choice"),
        *((["evict", "--older-than", age], {}, "is not an age") for age in ("", "30", "d", "1.5d", "30y", "٣d")),
        (["evict", "--older-than=-1d"], {}, "is not an age"),
        (["evict", "--older-than", "9999999d"], {}, "is not an age"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    env: dict[str, str], called: Call, words: list[str], extra: dict[str, str], sentence: str
) -> None:
    """A shared or read-only store, an unknown level and a bad age end with status 2, one sentence, nothing removed."""
    filled(env, {"a": 3 * DAY})
    status, stdout, stderr = called(*words, **extra)
    assert (status, stdout) == (2, "")
    assert sentence in stderr
    assert stderr.startswith("sccache-twisted: ")
    assert stderr.count("\n") == 1
    assert entries(env) == 1


@needs_gcc
def test_a_running_daemon_is_asked(tmp_path: Path) -> None:
    """Of a running daemon every level is counted and cleared, its memory too, and what was there is a miss again."""
    (tmp_path / "a.c").write_text("int a;\n")
    with lone_client({"SCCACHE_MULTILEVEL_CHAIN": "memory,disk"}) as client:
        client.compile("gcc -c a.c -o a.o", tmp_path)
        told = client.asked("cache", "size")
        assert [(level["name"], level["entries"]) for level in told["levels"]] == [("memory", 2), ("disk", 2)]
        assert told["levels"][0]["oldest"] is None
        assert told["levels"][1]["oldest"] is not None
        client.compile("gcc -c a.c -o a.o", tmp_path)
        removed = client.asked("cache", "evict", "--older-than", "1h")
        assert removed == {"removed": [{"level": "disk", "entries": 0, "bytes": 0}], "entries": 0, "bytes": 0}
        removed = client.asked("cache", "clear")
        assert [(one["level"], one["entries"]) for one in removed["removed"]] == [("memory", 2), ("disk", 2)]
        assert entries(client.env) == 0
        client.compile("gcc -c a.c -o a.o", tmp_path)
        stats = client.stats()
        assert (stats["cache_hits"]["counts"], stats["cache_misses"]["counts"]) == ({"C/C++": 1}, {"C/C++": 2})
        assert entries(client.env) == 2
        said = client.run("cache", "clear", "--level", "disk")
        assert said.startswith("disk: 2 entries removed, ")
        assert [level["entries"] for level in client.asked("cache", "size")["levels"]] == [2, 0]
        client.run("cache", "clear", "--level", "s3", status=2)
        client.stop()
        assert [level["entries"] for level in client.asked("cache", "size")["levels"]] == [None, 0]
