"""The files in examples/ are right: systemd likes the units, every key is known, every named file is there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from machines_kit import BIN, EXAMPLES, REPOSITORY, Unit

from sccache_twisted.config import ClientSettings, SchedulerSettings, WorkerSettings
from sccache_twisted.config.load import ROLES, load

UNITS = sorted(path.name for path in (EXAMPLES / "systemd").glob("*.service"))
KINDS = {"client": ClientSettings, "scheduler": SchedulerSettings, "worker": WorkerSettings}


@pytest.mark.parametrize("role", sorted(KINDS))
def test_an_example_file_is_read_without_a_mistake(role):
    """Every key of an example is a key of its role, with a value that it may have."""
    path = EXAMPLES / f"{role}.toml"
    settings = load(KINDS[role], path.read_text(), str(path), {"HOME": "/home/dev"})
    assert isinstance(settings, ROLES[role])


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_its_role_with_its_own_file(name):
    """ExecStart is a foreground twistd without a pid file, and names the role's file in /etc."""
    unit = Unit.read(name)
    role = name.removeprefix("sccache-twisted-").removesuffix(".service")
    assert unit.command == [
        f"{BIN}/twistd",
        "--nodaemon",
        "--pidfile=",
        f"sccache-{role}",
        "--config",
        f"/etc/sccache-twisted/{role}.toml",
    ]


def test_systemd_waits_for_a_draining_worker():
    """TimeoutStopSec is longer than the example's drain_seconds, so that systemd kills no job that may finish."""
    path = EXAMPLES / "worker.toml"
    settings = load(WorkerSettings, path.read_text(), str(path), {})
    assert int(Unit.read("sccache-twisted-worker.service").service["TimeoutStopSec"]) > settings.drain_seconds


def test_the_scheduler_may_write_where_its_file_says():
    """The state directory of the example is the one that the unit makes for the scheduler's user."""
    path = EXAMPLES / "scheduler.toml"
    settings = load(SchedulerSettings, path.read_text(), str(path), {})
    unit = Unit.read("sccache-twisted-scheduler.service")
    assert settings.state_dir == f"/var/lib/{unit.service['StateDirectory']}"


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
@pytest.mark.skipif(os.getuid() != 0, reason="puts the program where the unit expects it, in a namespace")
def test_systemd_finds_nothing_to_complain_about(name):
    """systemd-analyze verify accepts a unit where the program is installed as the README says."""
    script = (
        "mount -t tmpfs tmpfs /opt && mkdir /opt/sccache-twisted && "
        f"mount --bind {sys.prefix} /opt/sccache-twisted && exec systemd-analyze verify {EXAMPLES}/systemd/{name}"
    )
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "sccache-twisted" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_readme_names_files_that_are_there():
    """Every file and unit that examples/README.md names exists."""
    named = re.findall(r"`([\w./*-]+\.(?:toml|service|py))`", (EXAMPLES / "README.md").read_text())
    assert named
    assert [name for name in named if not (EXAMPLES / name).exists()] == []
    assert Path(REPOSITORY / "docs/configuration.md").exists()
