"""Commands that the daemon answers."""

import json
from pathlib import Path

import pytest
from cli_support import answering_daemon, command

from sccache_twisted.cli.daemon import cluster_slots
from sccache_twisted.cli.stats import stats_text
from sccache_twisted.client.stats import Statistics

STATUS = {"SchedulerStatus": ["tls://127.0.0.1:10600", {"num_servers": 3, "num_cpus": 12, "in_progress": 4}]}


@pytest.fixture
def uds(tmp_path):
    return tmp_path / "d.sock"


def environ(uds):
    return {"SCCACHE_SERVER_UDS": str(uds)}


def test_statistics_come_as_json_and_as_text(uds):
    """--show-stats prints the daemon's answer, unchanged as JSON, readable as text."""
    statistics = Statistics(compile_requests=7, requests_executed=5)
    statistics.dist_compiles["worker-1"] = 4
    statistics.local_compiles["time_macros"] = 1
    with answering_daemon(uds, {"stats": statistics.as_json()}):
        as_json = command("--show-stats", "--stats-format", "json", env=environ(uds))
        as_text = command("--show-stats", env=environ(uds))
    assert json.loads(as_json.stdout) == statistics.as_json()
    assert as_text.stdout.splitlines()[0].split() == ["Compile", "requests", "7"]
    assert "worker-1" in as_text.stdout
    assert "time_macros" in as_text.stdout


def test_the_shape_of_sccache_is_readable():
    """The text is made from sccache's own JSON too, which lacks our two additions."""
    own = Statistics().as_json()["stats"]
    shape = {
        name: value for name, value in own.items() if name not in {"local_compiles", "not_compile", "dist_retries"}
    }
    text = stats_text({"stats": {**shape, "not_cached": {"-E": 3}}, "version": "0.16.0"})
    assert "-E" in text


def test_zero_status_and_jobs_ask_the_daemon(uds):
    """--zero-stats, --dist-status and jobs each ask one question, and print what it means."""
    with answering_daemon(uds, {"zero-stats": None or {}, "dist-status": STATUS}) as asked:
        zeroed = command("--zero-stats", env=environ(uds))
        status = command("--dist-status", env=environ(uds))
        jobs = command("jobs", env=environ(uds))
    assert (zeroed.returncode, status.returncode, jobs.returncode) == (0, 0, 0)
    assert json.loads(status.stdout) == STATUS
    assert int(jobs.stdout) > 12
    assert [name for name, _ in asked] == ["zero-stats", "dist-status", "dist-status"]


def test_a_refusal_is_one_sentence(uds):
    """What the daemon can't answer is its sentence on standard error, and status 2."""
    with answering_daemon(uds, {}):
        refused = command("--show-stats", env=environ(uds))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "sccache-twisted: not here\n"


def test_stopping_nothing_says_so(uds):
    """--stop-server without a daemon starts none: a sentence, and status 2."""
    stopped = command("--stop-server", env=environ(uds))
    assert stopped.returncode == 2
    assert "No daemon is running" in stopped.stderr
    assert not uds.exists()


def test_a_daemon_that_cannot_start_shows_why(uds, tmp_path):
    """A configuration that can't be read is told by the command that would start the daemon."""
    conf = tmp_path / "client.toml"
    conf.write_text("[dist]\nfalback = 'never'\n")
    shown = command("--show-stats", env={**environ(uds), "SCCACHE_CONF": str(conf)})
    assert shown.returncode == 2
    assert f"{conf}:2:" in shown.stderr
    assert "dist.fallback" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("status", [None, "Disabled", {"NotConnected": ["tls://a:1", "no"]}, {"SchedulerStatus": None}])
def test_without_a_scheduler_there_are_no_slots(status):
    """Whatever a missing scheduler's status looks like, its slots are none."""
    assert cluster_slots(status) == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--frobnicate"], "--frobnicate"),
        (["cluster", "start"], "--dir"),
        (["cluster", "start", "--dir", "x", "--workers", "0"], "1 to 1000"),
        (["invite", "boss"], "boss"),
        (["--show-stats", "--zero-stats"], "not allowed with"),
    ],
)
def test_a_mistake_on_the_line_is_one_sentence(words, sentence, tmp_path):
    """A wrong word is named in one line on standard error, with status 2 and nothing done."""
    tried = command(*words, cwd=tmp_path)
    assert tried.returncode == 2
    assert sentence in tried.stderr
    assert len(tried.stderr.splitlines()) == 1
    assert list(Path(tmp_path).iterdir()) == []
