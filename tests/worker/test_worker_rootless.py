"""The same sandbox for a worker that is an ordinary user."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from worker_kit import ENV, open_directory

UID = 2000062000

# Bounds on time and the absence of processes are judged, so nothing else may run.
pytestmark = [pytest.mark.root, pytest.mark.alone]


@pytest.fixture
def directory():
    made = open_directory()
    os.chown(made, UID, UID)
    yield made
    shutil.rmtree(made)


def test_an_ordinary_user_confines_jobs_too(packaged, directory):
    """Rootless, objects equal local ones, and a job with the worker's own uid can change nothing of the worker's."""
    toolchain = packaged("gcc")
    archive = directory / "gcc.tar.zst"
    shutil.copy(os.fsdecode(toolchain.path), archive)
    archive.chmod(0o644)
    here = Path(__file__).parent
    probe = [sys.executable, str(here / "rootless_probe.py"), str(directory), toolchain.digest, str(archive)]
    front = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--"]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{here}:{here.parents[1]}", "HOME": str(directory)}
    done = subprocess.run([*front, *probe], capture_output=True, check=False, cwd="/", env=env, timeout=120)
    told = json.loads(done.stdout.splitlines()[-1]) if done.stdout else done.stderr.decode()
    assert told == {
        "attack": f"mount 0\nuid {UID}\n",
        "bomb": "the job started more than the 64 processes that are allowed",
        "left": [],
        "intact": True,
        "uid": UID,
    }
    argv = ["gcc", "-g", "-c", "a.c", "-o", "a.o"]
    subprocess.run(argv, cwd=directory / "src", env=dict(ENV), check=True)
    assert (directory / "remote.o").read_bytes() == (directory / "src" / "a.o").read_bytes()
