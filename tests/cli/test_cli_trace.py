"""``trace``: timelines out of written events, and of a real job through a real cluster."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from cli_support import command

from sccache_twisted.cli.chrome import chrome_trace
from sccache_twisted.cli.timeline import last_build, stories, told

LAUNCHER = shutil.which("sccache-twisted", path=str(Path(sys.executable).parent))
JOB = "018c0000-0000-7000-8000-000000000000"
A, B = "a-0123456789abcdef", "b-0123456789abcdef"


def event(epoch, role, name, attempt=1, server_id=None, job_id=JOB, **fields):
    ids = {"server_id": server_id} if server_id else {}
    return {
        "epoch": 1000.0 + epoch,
        "role": role,
        "event": name,
        "job_id": job_id,
        "attempt": attempt,
        **ids,
        **fields,
    }


TWO_ATTEMPTS = [
    event(0.0, "scheduler", "job_queued", label="src/a.c", ahead=3),
    event(0.5, "scheduler", "worker_asked", server_id=A),
    event(0.6, "scheduler", "worker_refused", server_id=A, code="full"),
    event(0.6, "scheduler", "worker_asked", server_id=B),
    event(0.7, "scheduler", "worker_accepted", server_id=B, seconds=0.7),
    event(0.7, "client", "worker_accepted", server_id=B, seconds=0.7),
    event(0.7, "worker", "lease_granted", server_id=B, claim_seconds=15.0),
    event(1.7, "client", "toolchain_sent", server_id=B, toolchain="t", bytes=5000, seconds=0.9),
    event(1.8, "client", "blobs_sent", server_id=B, count=12, bytes=3456),
    event(2.0, "worker", "job_running", server_id=B),
    event(2.1, "client", "job_running", server_id=B),
    event(3.0, "client", "job_failed", server_id=B, code="peer_lost", sentence="It is gone."),
    event(3.0, "scheduler", "job_failed", server_id=B, code="peer_lost", sentence="It is gone."),
    event(3.0, "client", "job_retried", 2, code="peer_lost", wait=0.1),
    event(3.1, "scheduler", "worker_asked", 2, A),
    event(3.2, "scheduler", "worker_accepted", 2, A, seconds=0.1),
    event(3.2, "client", "worker_accepted", 2, A, seconds=0.1),
    event(3.3, "client", "blobs_sent", 2, A, count=12, bytes=3456),
    event(3.5, "worker", "job_running", 2, A),
    event(4.5, "worker", "job_finished", 2, A, exit_code=0, seconds=1.0),
    event(4.6, "client", "job_done", 2, A, label="src/a.c", attempts=2, seconds=4.6),
]


def test_a_timeline_tells_every_attempt():
    """Who was asked and why it wasn't taken, what was sent, how long each step took, attempt by attempt."""
    assert told(stories(reversed(TWO_ATTEMPTS))[0]).splitlines() == [
        f"job {JOB}  src/a.c",
        f"done on {A}, 2 attempts, 4.600 s",
        "",
        f"attempt 1 on {B}",
        "  +   0.000 s     0.500 s  queued behind 3 others",
        f"  +   0.500 s     0.100 s  asked {A} (refused: full)",
        f"  +   0.600 s     0.100 s  asked {B} (accepted)",
        "  +   0.800 s     0.900 s  toolchain sent (5000 bytes)",
        "  +   1.800 s     0.200 s  blobs sent (12, 3456 bytes)",
        "  +   2.000 s     1.000 s  running",
        "  +   3.000 s              failed (peer_lost): It is gone.",
        "",
        f"attempt 2 on {A}",
        "  +   3.000 s              another attempt in 0.100 s (peer_lost)",
        f"  +   3.100 s     0.100 s  asked {A} (accepted)",
        "  +   3.300 s     0.200 s  blobs sent (12, 3456 bytes)",
        "  +   3.500 s     1.000 s  running",
        "  +   4.500 s              finished with status 0",
        "  +   4.500 s     0.100 s  result received",
    ]


def test_the_client_alone_tells_a_timeline():
    """Without the others' journals the client's own events make a whole story."""
    story = stories([each for each in TWO_ATTEMPTS if each["role"] == "client"])[0]
    assert story.outcome == "done"
    assert [step.text for step in story.attempts[0].steps] == [
        "queued",
        f"{B} accepted",
        "toolchain sent (5000 bytes)",
        "blobs sent (12, 3456 bytes)",
        "running",
        "failed (peer_lost): It is gone.",
    ]
    assert [step.text for step in story.attempts[1].steps][-1] == "done"


@pytest.mark.parametrize("count", range(1, len(TWO_ATTEMPTS)))
def test_a_job_may_be_anywhere_on_its_way(count):
    """A timeline can be told of a job that is not finished, wherever it is; only its last event says done."""
    story = stories(TWO_ATTEMPTS[:count])[0]
    assert story.outcome != "done"
    assert told(story)


def test_an_asked_worker_that_says_nothing_is_told():
    """A worker that never answered stands in the timeline."""
    assert f"asked {A} (no answer)" in told(stories(TWO_ATTEMPTS[:2])[0])


def test_builds_are_parted_by_silence():
    """The last build is what came since the last long pause."""
    many = [event(at, "client", "job_done", job_id=f"j{at}", label="a", attempts=1, seconds=1.0) for at in (0, 9, 900)]
    assert [story.job_id for story in last_build(stories(many))] == ["j900"]


def test_chrome_rows_hold_one_job_at_a_time():
    """One process for each worker, one row for each job at once, microseconds, steps within their job."""
    second = [{**each, "job_id": "other", "epoch": each["epoch"] + 0.5} for each in TWO_ATTEMPTS]
    third = [{**each, "job_id": "third", "epoch": each["epoch"] + 50.0} for each in TWO_ATTEMPTS]
    drawn = chrome_trace(stories(TWO_ATTEMPTS + second + third))["traceEvents"]
    json.dumps(drawn)
    names = {each["pid"]: each["args"]["name"] for each in drawn if each["name"] == "process_name"}
    assert sorted(names.values()) == [A, B]
    jobs = [each for each in drawn if each.get("cat") == "job"]
    assert len(jobs) == 6
    first = next(each for each in jobs if each["args"]["job_id"] == JOB and each["args"]["attempt"] == 1)
    assert (first["ts"], first["dur"], names[first["pid"]]) == (700_000, 2_300_000, B)
    rows = {}
    for job in sorted(jobs, key=lambda each: each["ts"]):
        row = (job["pid"], job["tid"])
        assert job["ts"] >= rows.get(row, 0)
        rows[row] = job["ts"] + job["dur"]
    assert len(rows) == 4
    for step in (each for each in drawn if each.get("cat") == "step"):
        around = next(job for job in jobs if job["args"]["job_id"] == step["args"]["job_id"] and _holds(job, step))
        assert around["tid"] == step["tid"]


def _holds(job, step):
    return job["pid"] == step["pid"] and job["ts"] <= step["ts"] and step["ts"] + step["dur"] <= job["ts"] + job["dur"]


@pytest.fixture
def configured(tmp_path):
    """A client whose journal holds a retried job, a line cut short, and a name that is no UTF-8."""
    journal = tmp_path / "jobs.journal"
    strange = event(9.0, "client", "job_done", job_id="strange", label="caf\udcff.c", attempts=1, seconds=0.1)
    written = [json.dumps(each) for each in [*TWO_ATTEMPTS, strange]]
    journal.write_text("\n".join([*written, '{"epoch": 1']))
    os.utime(journal, (1, 1))
    (tmp_path / "client.toml").write_text(f'[log]\njournal = "{journal}"\n')
    return {"SCCACHE_CONF": str(tmp_path / "client.toml")}


def test_a_job_of_which_nothing_is_known(configured):
    """An unknown job is one sentence and exit status 1; so is any job where there is no journal."""
    for env in (configured, {**configured, "SCCACHE_CONF": "", "XDG_CONFIG_HOME": "/x", "XDG_CACHE_HOME": "/x"}):
        done = command("trace", "nobody", env=env)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("sccache-twisted: No job nobody is known in ")
        assert done.stderr.count("\n") == 1


def test_lists(configured, tmp_path):
    """The last, the slowest, the retried with their reasons, and a trace file."""
    assert "caf\\xff.c" in command("trace", "--last", env=configured).stdout
    slowest = command("trace", "--slowest", "1", env=configured)
    assert slowest.stdout.splitlines()[0] == f"{JOB}  done on {A}, 2 attempts, 4.600 s  src/a.c"
    retried = command("trace", "--retried", env=configured).stdout.splitlines()
    assert retried[1:] == [f"    attempt 1 on {B} failed (peer_lost): It is gone."]
    done = command("trace", "--chrome", tmp_path / "t.json", env=configured)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert command("trace", JOB, "--journal", tmp_path / "none", env=configured).returncode == 2


@pytest.fixture
def room():
    """A directory that job users may enter, whatever other test runs do to pytest's own."""
    with tempfile.TemporaryDirectory(prefix="sccache-twisted-test-", dir="/var/tmp") as made:
        path = Path(made)
        path.chmod(0o711)
        yield path


def test_a_real_job_is_told_by_all_processes(room):
    """A job through a cluster has one timeline out of three journals, though nothing logs below info."""
    home = room / "c"
    started = command("cluster", "start", "--dir", home, "--workers", "1", "--slots", "1")
    try:
        assert started.returncode == 0, started.stderr
        env = {"SCCACHE_CONF": str(home / "client.toml"), "SCCACHE_CACHE_SIZE": "0"}
        (room / "a.c").write_text("int answer(int x) { return x + 42; }\n")
        compiled = subprocess.run(
            [LAUNCHER, "gcc", "-c", "a.c", "-o", "a.o"], cwd=room, env={**os.environ, **env}, check=False
        )
        assert compiled.returncode == 0
        shown = command("trace", "--last", env=env)
        document = room / "chrome.json"
        assert command("trace", "--chrome", document, env=env).returncode == 0
    finally:
        assert command("cluster", "stop", "--dir", home).returncode == 0
    assert shown.returncode == 0, shown.stderr
    told_of = [line[27:].split()[0] for line in shown.stdout.splitlines() if line.startswith("  +")]
    expected = ["asked", "toolchain", "toolchain", "blobs", "running", "finished", "result"]
    assert [word for word in told_of if word != "queued"] == expected, shown.stdout
    assert "(accepted)" in shown.stdout
    assert [each for each in json.loads(document.read_text())["traceEvents"] if each.get("cat") == "job"]
    written = {}
    for role in ("client", "scheduler", "worker-1"):
        records = [json.loads(line) for line in (home / "logs" / f"{role}.jobs").read_text().splitlines()]
        assert all({"job_id", "attempt", "event", "epoch", "role"} <= record.keys() for record in records)
        written[role] = {record["event"]: record for record in records}
    assert written["client"].keys() >= {"worker_accepted", "toolchain_sent", "blobs_sent", "job_done"}
    assert written["scheduler"].keys() >= {"worker_asked", "worker_accepted"}
    assert written["worker-1"].keys() >= {"lease_granted", "lease_claimed", "job_running", "job_finished"}
    # Whoever asks ahead knows of no worker yet.
    placed = [record for records in written.values() for name, record in records.items() if name != "lease_ahead"]
    server_ids = {record["server_id"] for record in placed}
    assert len(server_ids) == 1
