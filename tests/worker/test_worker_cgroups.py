"""Control groups as the kernel's files show them; version 2 as a directory of such files, as few machines have it."""

import os
import subprocess

import pytest
from worker_kit import LIMITS

from sccache_twisted.worker.cgroups import make_groups

OURS = str(os.getpid())
FILES = {
    "memory.max": "max\n",
    "memory.swap.max": "max\n",
    "memory.oom.group": "0\n",
    "pids.max": "max\n",
    "cgroup.procs": "",
}


@pytest.fixture
def unified(tmp_path):
    """What version 2 shows of a group that was delegated to us alone, with the group of slot 0 as mkdir(2) makes it."""
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / "cgroup.procs").write_text(f"{OURS}\n")
    for name in (f"sccache-twisted-{OURS}-0", f"sccache-twisted-{OURS}-1"):
        (tmp_path / name).mkdir()
        for file, content in FILES.items():
            (tmp_path / name / file).write_text(content)
    return tmp_path


def test_a_group_of_version_2_bounds_memory_and_processes(unified):
    """Each slot has a group with the job's bounds, no swap, and all or none killed; we ourselves make room for them."""
    groups = make_groups(2, LIMITS, str(unified))
    assert [group.path.name for group in groups] == [f"sccache-twisted-{OURS}-{slot}" for slot in (0, 1)]
    for group in groups:
        assert group.unified
        told = {name: (group.path / name).read_text().strip() for name in FILES}
        assert told == {
            "memory.max": str(LIMITS.memory_bytes),
            "memory.swap.max": "0",
            "memory.oom.group": "1",
            "pids.max": str(LIMITS.processes + 2),
            "cgroup.procs": "",
        }
    assert (unified / "cgroup.subtree_control").read_text() == "+memory +pids"
    assert (unified / f"sccache-twisted-{OURS}" / "cgroup.procs").read_text() == OURS


def test_who_enters_and_who_was_killed_in_version_2(unified):
    """A process is put under its bounds by its pid; the kernel's count of what it killed for memory is read."""
    group, _ = make_groups(2, LIMITS, str(unified))
    group.enter(4242)
    assert (group.path / "cgroup.procs").read_text() == "4242"
    assert group.oom_kills() == 0
    (group.path / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 1\n")
    assert group.oom_kills() == 3


@pytest.mark.parametrize("missing", ["controller", "file"])
def test_without_the_memory_controller_there_are_no_groups(unified, missing):
    """Where memory is not delegated, or is no version 2 at all, no group is made: the sampler has to do."""
    if missing == "controller":
        (unified / "cgroup.controllers").write_text("cpu pids\n")
    else:
        (unified / "cgroup.controllers").unlink()
    assert make_groups(2, LIMITS, str(unified)) is None
    assert (unified / "cgroup.subtree_control").read_text() == ""


def test_groups_of_a_worker_that_was_killed_are_swept(unified):
    """A group that is named after a process that is gone is removed; another living worker's stays."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    for pid in (gone.pid, os.getppid()):
        (unified / f"sccache-twisted-{pid}-0").mkdir()
    make_groups(1, LIMITS, str(unified))
    assert not (unified / f"sccache-twisted-{gone.pid}-0").exists()
    assert (unified / f"sccache-twisted-{os.getppid()}-0").exists()


def test_version_1_bounds_memory_and_swap_together(tmp_path):
    """Where memory is a hierarchy of its own the bound is set there, before that on memory and swap."""
    top = tmp_path / "memory"
    group = top / f"sccache-twisted-{OURS}-0"
    group.mkdir(parents=True)
    (top / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        (group / name).write_text("9223372036854771712\n")
    made = make_groups(1, LIMITS, str(tmp_path))
    if made is None:  # this kernel has version 2 alone, and says so in /proc/self/cgroup
        assert not any(":memory:" in line for line in open("/proc/self/cgroup", encoding="utf-8"))  # noqa: SIM115
        return
    assert not made[0].unified
    for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        assert (group / name).read_text() == str(LIMITS.memory_bytes)
    (group / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    assert made[0].oom_kills() == 5
