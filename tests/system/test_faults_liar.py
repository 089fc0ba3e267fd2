"""A worker that lies is refused with a sentence that names it, and the job is done by another.

The liar is a worker's real process with true TLS that tells the client something else than its compiler did. Each
test proves from the log that the job was given to it first. Meanwhile another's compiler stands still on the honest
worker, which gives that one more load than the liar has, and has to stay as it is.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import frozen
from support import jobs
from support.cluster import wait_for
from support.farm import TIMERS, Farm, Worker
from support.processes import compilers_below
from support.small import FOR_EVER, slow_tree

pytestmark = pytest.mark.root

LIAR = Path(__file__).with_name("liar.py")
COMMAND = ("g++", "-g", "-O1", "-MMD", "-c", "a.cc", "-o", "a.o")
SOURCE = "inline int twice(int x) { return 2 * x; }\nint four() { return twice(2); }\n"
MOST_GROWTH = 100 << 20
SILENCE_SECONDS = 2.0

REFUSED = [
    ("an output too many", "malformed", "a.o.extra, which is no output of the job"),
    ("an output elsewhere", "malformed", "canary, which is no output of the job"),
    ("an output above", "malformed", "../canary, which is no output of the job"),
    ("an output twice", "malformed", "an output twice"),
    ("no output at all", "malformed", "a.o"),
    ("no depfile", "malformed", "a.d"),
    ("status 999", "malformed", "exit status 999"),
    ("a status in words", "malformed", "no valid 'exit_code'"),
    ("a mode in words", "malformed", "not path, mode and content"),
    ("an output without content", "malformed", "not path, mode and content"),
    ("outputs as a map", "malformed", "no valid 'outputs'"),
    ("a number", "malformed", "is not a map"),
    ("half a frame", "malformed", "ends before its end"),
    ("no frame", "malformed", "ends before its end"),
    ("an empty frame", "malformed", "is empty"),
    ("a frame of 2 GiB", "too_large", "over the limit"),
    ("a frame of unknown kind", "malformed", "unknown kind"),
    ("progress that is garbage", "malformed", "not valid msgpack"),
    ("a result that is garbage", "malformed", "not one whole zstd frame"),
    ("msgpack that is garbage", "malformed", "not valid msgpack"),
    ("a failure that is garbage", "malformed", "not valid msgpack"),
    ("a frame behind the end", "malformed", "goes on after the end"),
    ("bytes behind the end", "malformed", "ends before its end"),
    ("two results", "malformed", "goes on after the end"),
    ("a bomb of 3 GiB", "too_large", "over the limit"),
    ("a bomb that says it is small", "malformed", "not one whole zstd frame"),
    ("a bomb that says nothing", "malformed", "how large it is"),
    ("a bomb of lists", "too_large", "more than"),
    ("that there are no workers", "malformed", "answered: No living worker"),
    ("that the job is queued", "malformed", "answered: No slot was free"),
    ("inputs missing for ever", "missing_inputs", "still lacks inputs"),
    ("inputs missing that are none", "malformed", "no inputs of the job"),
    ("no inputs missing", "malformed", "no inputs of the job"),
    ("nothing at all", "silence", "moved no byte"),
    ("nothing more", "silence", "moved no byte"),
]


class Stage:
    """A liar, where a job goes first; an honest worker with a bystander's job; a client."""

    def __init__(self, farm: Farm, directory: Path) -> None:
        self.farm = farm
        self.work = directory / "work"
        self.elsewhere = directory / "canary"
        self._lie = directory / "lie.json"
        self.work.mkdir()
        (self.work / "a.cc").write_text(SOURCE)
        subprocess.run(COMMAND, cwd=self.work, check=True)
        self._plain = self._outputs()
        self.client = farm.client("c1")
        self.honest, self.liar = farm.worker("z1", start=False), farm.worker("a1", slots=8, start=False)
        self.liar.wrap = (sys.executable, str(LIAR), str(self._lie))

    def tell(self, lie: str) -> None:
        """What the liar is to say from now on."""
        self._lie.write_text(json.dumps({"lie": lie, "elsewhere": str(self.elsewhere)}))

    def known(self, worker: Worker) -> dict:
        """What the scheduler knows of a worker."""
        return self.farm.scheduler.workers()[worker.server_id]

    def compile(self) -> "Compiled":
        """Compile behind the launcher. Asserts that it went as if the compiler had been alone, and wrote no more."""
        earlier = self.client.mark()
        beside = sorted(os.listdir(self.elsewhere.parent))
        said = self.client.call(*COMMAND, cwd=self.work)
        assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")
        assert self._outputs() == self._plain
        assert sorted(os.listdir(self.elsewhere.parent)) == beside
        told = self.client.events(since=earlier)
        assert jobs.attempts(told, "job_local") == {}
        (done,) = (event for event in told if event["event"] == "job_done")
        attempts = jobs.attempts(told, "worker_accepted")
        assert attempts[done["job_id"], 1]["server_id"] == self.liar.server_id
        return Compiled(done, {number: event for (_, number), event in jobs.attempts(told, "job_failed").items()})

    def _outputs(self) -> dict[str, bytes]:
        """What the compiler made, which is removed; nothing else is there."""
        assert sorted(os.listdir(self.work)) == ["a.cc", "a.d", "a.o"]
        assert (self.work / "a.o").stat().st_mode & 0o7777 == 0o666 & ~_umask()
        found = {name: (self.work / name).read_bytes() for name in ("a.d", "a.o")}
        for name in found:
            (self.work / name).unlink()
        return found

    @contextlib.contextmanager
    def bystander(self, directory: Path, name: str):
        """Somebody's compiler on the honest worker, which stands still; its launcher's process."""
        tree = slow_tree(directory / name, 1)
        before = set(compilers_below(self.honest.pid))
        spins = ("-DSPINS=" + str(FOR_EVER), f"-fconstexpr-ops-limit={FOR_EVER}", f"-fconstexpr-loop-limit={FOR_EVER}")
        with self.farm.client("c9").calling("g++", "-c", *spins, tree.units[0], cwd=tree.root) as call:
            (process,) = wait_for(lambda: set(compilers_below(self.honest.pid)) - before, f"{name} compiles")
            handle = os.pidfd_open(process.pid)
            try:
                signal.pidfd_send_signal(handle, signal.SIGSTOP)
                yield call
            finally:
                os.close(handle)


@frozen
class Compiled:
    """How a job went: its job_done, and the job_failed of attempts by number."""

    done: dict
    failed: dict


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def staged(timers, directory):
    """Both workers have the toolchain, and the liar has less load."""
    directory.mkdir(exist_ok=True)
    with Farm(timers=timers) as farm:
        farm.workers("z1", slots=2)
        stage = Stage(farm, directory)
        stage.tell("the truth")
        with stage.bystander(directory, "one") as bystander:
            with stage.bystander(directory, "two"):
                # The honest one is full, so that this is the liar's.
                farm.workers("a1")
                assert stage.compile().failed == {}
            wait_for(lambda: stage.known(stage.honest)["running"] == 1, "the honest one has a free slot again")
            wait_for(lambda: stage.known(stage.liar)["toolchains"], "the liar is known to have the toolchain")
            yield stage
            assert bystander.poll() is None
            assert len(compilers_below(stage.honest.pid)) == 1


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A liar whose lies are soon forgotten."""
    timers = {
        **TIMERS,
        "scheduler": {**TIMERS["scheduler"], "blame_half_life_seconds": 0.05},
        "client": {**TIMERS["client"], "silence_seconds": SILENCE_SECONDS},
    }
    with staged(timers, tmp_path_factory.mktemp("stage")) as made:
        yield made


def _memory(pid, name):
    """A figure of /proc/PID/status, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(found) * 1024


@pytest.mark.parametrize(("lie", "code", "why"), REFUSED, ids=[lie for lie, _, _ in REFUSED])
def test_a_lie_is_refused(stage, lie, code, why):
    """The client says what was wrong and whose fault it was, and is none the worse; then the liar is trusted again."""
    daemon = stage.client.pid
    Path(f"/proc/{daemon}/clear_refs").write_text("5")
    before = _memory(daemon, "VmHWM")
    stage.tell(lie)
    try:
        compiled = stage.compile()
    finally:
        stage.tell("the truth")
    assert _memory(daemon, "VmHWM") - before < MOST_GROWTH
    (failed,) = compiled.failed.values()
    assert failed["attempt"] == 1
    assert (failed["server_id"], failed["code"]) == (stage.liar.server_id, code)
    assert failed["sentence"].startswith(f"Worker {stage.liar.server_id} ")
    assert why in failed["sentence"]
    assert compiled.done["server_id"] == stage.honest.server_id
    wait_for(lambda: stage.known(stage.liar)["state"] == "alive", "it is trusted again")
    again = stage.compile()
    assert again.failed == {}
    assert again.done["server_id"] == stage.liar.server_id


def test_a_worker_that_keeps_taking_jobs_back(stage):
    """Whoever accepts a job and twice knows nothing of it is not asked a third time."""
    stage.tell("that it never heard of it")
    try:
        compiled = stage.compile()
    finally:
        stage.tell("the truth")
    assert {(event["server_id"], event["code"]) for event in compiled.failed.values()} == {
        (stage.liar.server_id, "unknown_attempt")
    }
    assert len(compiled.failed) == 2
    assert compiled.done["server_id"] == stage.honest.server_id


def test_the_client_decides_what_an_output_may_do(stage):
    """An object's mode is the caller's business: set-uid and execute bits that a worker names change nothing."""
    stage.tell("an impossible mode")
    compiled = stage.compile()
    stage.tell("the truth")
    assert compiled.failed == {}
    assert compiled.done["server_id"] == stage.liar.server_id


def test_progress_for_ever(tmp_path):
    """Who shows progress and no result is given up after timers.answer_seconds, and another does the job."""
    timers = {**TIMERS, "client": {**TIMERS["client"], "answer_seconds": 4.0}}
    with Farm(timers=timers) as farm, ThreadPoolExecutor() as pool:
        stage = Stage(farm, tmp_path)
        stage.tell("progress for ever")
        farm.workers("a1")
        earlier = stage.client.mark()
        compiling = pool.submit(stage.compile)
        wait_for(lambda: stage.client.events("job_running", since=earlier), "the liar has the job")
        farm.workers("z1")
        compiled = compiling.result()
        (failed,) = compiled.failed.values()
        assert (failed["server_id"], failed["code"]) == (stage.liar.server_id, "silence")
        assert "has had the job for 4 s and shows progress, but no result" in failed["sentence"]
        assert compiled.done["server_id"] == stage.honest.server_id


@pytest.mark.full
def test_a_minute_of_silence(tmp_path):
    """With the timers of the real world a worker is given up after ten seconds without a byte."""
    with staged({"scheduler": {}, "worker": {}, "client": {}}, tmp_path) as stage:
        stage.tell("nothing at all")
        compiled = stage.compile()
        assert compiled.failed[1]["code"] == "silence"
        assert compiled.done["server_id"] == stage.honest.server_id
        assert 10.0 <= compiled.done["seconds"] < 30.0
