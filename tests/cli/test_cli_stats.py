"""Statistics as scripts made for sccache read them: JSON held against an answer of sccache's own, and its text."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from cache_support import lone_client
from cli_support import answering_daemon, command

from sccache_twisted import __version__
from sccache_twisted.cli.stats import size_text, stats_text
from sccache_twisted.client.stats import CacheFigures, Statistics
from sccache_twisted.model import Compilation, Compiler, CompilerFamily
from sccache_twisted.storage.measured import LevelFigures

EXAMPLE = json.loads((Path(__file__).parent / "sccache_stats_example.json").read_text(encoding="utf-8"))
OURS = {
    "local_compiles",
    "not_compile",
    "dist_retries",
    "dist_discrepancies",
    "dist_predictions",
    "dist_mispredictions",
}


def compilation(language: str, family: CompilerFamily) -> Compilation:
    compiler = Compiler(b"/usr/bin/cc", b"cc", family, "version", "x86_64")
    return Compilation(compiler, (), language, b"a", (), ())


C = compilation("c", CompilerFamily.GCC)


def as_in_the_example() -> dict[str, Any]:
    """What the example's numbers came from, counted by us."""
    statistics = Statistics(compile_requests=3, requests_not_cacheable=1, requests_executed=2, compilations=1)
    statistics.not_cached["-E"] += 1
    statistics.cache_missed(C)
    statistics.cache_hit(C, 0.000104736)
    statistics.cache_written(0.000194504)
    statistics.compiler_write_seconds += 0.019650508
    statistics.dist_compiles["127.0.0.1:10501"] += 27
    return statistics.as_json(CacheFigures('Local disk: "/home/user/.cache/sccache"', 99624, 10 << 30))


def test_the_json_is_sccaches():
    """The same events give sccache's own JSON, key by key and value by value; our own counters come behind."""
    told = as_in_the_example()
    assert {name: told["stats"].pop(name) for name in OURS} == {
        **dict.fromkeys(OURS, 0),
        "local_compiles": {},
        "not_compile": {},
    }
    assert told.pop("version") == __version__
    assert told == {name: value for name, value in EXAMPLE.items() if name != "version"}
    assert list(told["stats"]) == list(EXAMPLE["stats"])


def lines(document: dict[str, Any], *, advanced: bool = False) -> dict[str, str]:
    """The lines of the text that have a value, by name."""
    pairs = (line.rstrip().rpartition("  ") for line in stats_text(document, advanced=advanced).splitlines())
    return {name.rstrip(): value.strip() for name, _, value in pairs if name}


def test_sccaches_text_comes_from_its_json():
    """Every line that sccache prints for its own JSON stands in ours, with the same words and the same value."""
    shown = lines(EXAMPLE)
    expected = {
        "Compile requests": "3",
        "Compile requests executed": "2",
        "Cache hits": "1",
        "Cache hits (C/C++)": "1",
        "Cache misses": "1",
        "Cache misses (C/C++)": "1",
        "Cache hits rate": "50.00 %",
        "Cache hits rate (C/C++)": "50.00 %",
        "Cache timeouts": "0",
        "Cache read errors": "0",
        "Forced recaches": "0",
        "Cache write errors": "0",
        "Cache errors": "0",
        "Compilations": "1",
        "Compilation failures": "0",
        "Non-cacheable compilations": "0",
        "Non-cacheable calls": "1",
        "Non-compilation calls": "0",
        "Unsupported compiler calls": "0",
        "Average cache write": "0.000 s",
        "Average compiler": "0.020 s",
        "Average cache read hit": "0.000 s",
        "Failed distributed compilations": "0",
        "127.0.0.1:10501": "27",
        "-E": "1",
        "Use direct/preprocessor mode?": "yes",
        "Cache size": "97.3 KiB",
        "Max cache size": "10 GiB",
    }
    assert {name: shown.get(name, shown.get(f"  {name}")) for name in expected} == expected
    text = stats_text(EXAMPLE)
    assert 'Local disk: "/home/user/.cache/sccache"' in text
    assert text.index("Successful distributed compiles") < text.index("Non-cacheable reasons:")


def test_advanced_statistics_are_by_language_and_compiler():
    """--show-adv-stats tells hits, misses and their rate by language and compiler, and the same totals."""
    statistics = Statistics()
    for _ in range(3):
        statistics.cache_hit(C, 0.0)
    statistics.cache_missed(C)
    statistics.cache_missed(compilation("c++", CompilerFamily.CLANG))
    statistics.cache_errors.add(compilation("c++", CompilerFamily.CLANG))
    document = statistics.as_json()
    plain, advanced = lines(document), lines(document, advanced=True)
    assert (plain["Cache hits (C/C++)"], plain["Cache misses (C/C++)"]) == ("3", "2")
    assert "Cache hits (c [gcc])" not in plain
    assert {name: value for name, value in advanced.items() if name.startswith("Cache ")} == {
        "Cache hits": "3",
        "Cache hits (c [gcc])": "3",
        "Cache misses": "2",
        "Cache misses (c [gcc])": "1",
        "Cache misses (c++ [clang])": "1",
        "Cache hits rate": "60.00 %",
        "Cache hits rate (c [gcc])": "75.00 %",
        "Cache hits rate (c++ [clang])": "0.00 %",
        "Cache timeouts": "0",
        "Cache read errors": "0",
        "Cache write errors": "0",
        "Cache errors": "1",
        "Cache errors (c++ [clang])": "1",
        "Cache location": "None: results are not stored",
    }


def test_every_level_has_its_lines():
    """Of several levels each says what it gave, took and refused."""
    disk, redis = LevelFigures("disk", "Local disk"), LevelFigures("redis", "redis, name: redis://h:1/0")
    disk.add("get", "hit", 0.5)
    disk.add("get", "miss")
    disk.add("get", "miss")
    redis.add("get", "hit", 1.0)
    redis.add("get", "miss")
    redis.add("get", "timeout")
    redis.add("get", "bad_signature")
    redis.backfills_from = disk.backfills_to = 1
    document = Statistics().as_json(CacheFigures("both", levels=(disk.as_json(0), redis.as_json(1))))
    first, _, second = stats_text(document).partition("Cache level L1 (redis): redis, name: redis://h:1/0")
    assert "Cache level L0 (disk): Local disk" in first
    values = [
        dict(line.split("  ", 2)[1:] for line in part.splitlines() if line[:2] == "  ") for part in (first, second)
    ]
    told = [{name: value.strip() for name, value in one.items()} for one in values]
    assert (told[0]["Hits"], told[0]["Misses"], told[0]["Hits rate"], told[0]["Copied to here"]) == (
        "1",
        "2",
        "33.33 %",
        "1",
    )
    assert told[0]["Average hit"] == "0.500 s"
    assert (told[1]["Read timeouts"], told[1]["Bad signatures"], told[1]["Copied from here"]) == ("1", "1", "1")
    assert "Read timeouts" not in told[0]


def test_reasons_stand_in_the_text_by_frequency():
    """Why calls were no compilations, results not stored, compilations made here; the commonest first."""
    statistics = Statistics()
    for reason in ("link", "query", "link"):
        statistics.not_compilation(reason)
    statistics.not_cacheable("too_new")
    for _ in range(2):
        statistics.not_cacheable("time_macros")
    statistics.local_compiles.update({"no_dist": 1, "no_workers": 5})
    text = stats_text(statistics.as_json())
    order = [
        "Non-compilation reasons:",
        "link",
        "query",
        "Non-cacheable reasons:",
        "time_macros",
        "too_new",
        "Reasons for compilations on this machine:",
    ]
    positions = [text.index(word) for word in [*order, "no_workers", "no_dist"]]
    assert positions == sorted(positions)


def test_both_commands_print_one_json(tmp_path):
    """--show-stats and --show-adv-stats ask once and answer the same JSON; their texts differ."""
    uds = tmp_path / "d.sock"
    environ = {"SCCACHE_SERVER_UDS": str(uds)}
    with answering_daemon(uds, {"stats": EXAMPLE}) as asked:
        told = [
            command(word, "--stats-format", "json", env=environ).stdout for word in ("--show-stats", "--show-adv-stats")
        ]
        text = command("--show-adv-stats", env=environ)
    assert [json.loads(one) for one in told] == [EXAMPLE, EXAMPLE]
    assert "Cache hits (c [gcc])" in text.stdout
    assert [name for name, _ in asked] == ["stats"] * 3


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_daemon_counts_tells_and_forgets(tmp_path):
    """What a daemon did stands in both texts and the JSON, has the example's shape, and is 0 after --zero-stats."""
    (tmp_path / "a.c").write_text("int a;\n")
    with lone_client({"SCCACHE_MULTILEVEL_CHAIN": "memory,disk"}) as client:
        nothing = json.loads(client.run("--show-stats", "--stats-format", "json"))
        for _ in range(2):
            client.compile("gcc -c a.c -o a.o", tmp_path)
        client.run("gcc", "-c", "a.c", "-o", "a.o", cwd=tmp_path, SCCACHE_NO_CACHE="1")
        client.compile("gcc -c a.c -o a.o", tmp_path, SCCACHE_RECACHE="1")
        told = json.loads(client.run("--show-stats", "--stats-format", "json"))
        advanced = client.run("--show-adv-stats")
        assert client.run("--zero-stats") == "Statistics zeroed.\n"
        zeroed = json.loads(client.run("--show-stats", "--stats-format", "json"))
    assert shape(told, EXAMPLE) == []
    stats = told["stats"]
    assert (stats["compile_requests"], stats["requests_executed"], stats["forced_recaches"]) == (4, 4, 1)
    assert stats["cache_hits"] == {"counts": {"C/C++": 1}, "adv_counts": {"c [gcc]": 1}}
    assert stats["cache_misses"] == {"counts": {"C/C++": 2}, "adv_counts": {"c [gcc]": 2}}
    assert (stats["cache_writes"], stats["compilations"]) == (2, 3)
    assert (stats["not_cached"], stats["local_compiles"]) == ({"no_cache": 1}, {"not_configured": 3})
    assert stats["compiler_write_duration"]["secs"] + stats["compiler_write_duration"]["nanos"] > 0
    levels = [(level["name"], level["hits"], level["writes"]) for level in stats["multi_level"]]
    assert [name for name, _, _ in levels] == ["L0 (memory)", "L1 (disk)"]
    assert all(hits and writes for _, hits, writes in levels[:1])
    assert re.search(r"^Cache hits rate \(c \[gcc\]\) +33\.33 %$", advanced, re.MULTILINE)
    assert "Cache level L1 (disk): Local disk: " in advanced
    assert zeroed["stats"] == nothing["stats"]
    assert zeroed["cache_size"] == told["cache_size"] > 0


def shape(told: Any, example: Any, at: str = "") -> list[str]:
    """Where an answer has not what the example has: keys, and kinds of values; counters by name may be any."""
    if isinstance(example, dict) and isinstance(told, dict):
        if at.endswith(("counts", "not_cached", "dist_compiles")):
            return [f"{at}.{name}" for name, value in told.items() if not isinstance(value, int)]
        missing = [f"{at}.{name} is missing" for name in example if name not in told]
        more = set(told) - set(example) - (OURS if at == ".stats" else set())
        inner = [shape(told[name], value, f"{at}.{name}") for name, value in example.items() if name in told]
        added = [f"{at}.{name} is ours alone" for name in sorted(more)]
        return [*missing, *added, *(one for part in inner for one in part)]
    if example is None or type(told) is type(example):
        return []
    return [f"{at}: {told!r} for {example!r}"]


def test_sizes_are_for_people():
    """Three digits and a unit, whatever the size."""
    assert [size_text(count) for count in (0, 1023, 1024, 99624, 5 << 30, 3 << 50)] == [
        "0 bytes",
        "1023 bytes",
        "1 KiB",
        "97.3 KiB",
        "5 GiB",
        "3072 TiB",
    ]
