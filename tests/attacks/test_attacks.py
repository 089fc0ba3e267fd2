"""Hostile jobs, archives and requests: what each tries has no effect outside, and the next job is right."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter

import pytest
from attack_outside import ORDINARY, SECRET, Outside, as_user
from attack_table import ATTACKS
from support.counts import COUNTED

pytestmark = pytest.mark.root

BY_NAME = {attack.name: attack for attack in ATTACKS}


@pytest.mark.parametrize("name", BY_NAME)
def test_an_attack_has_no_effect_outside(attacked, name, record_property):
    """It is answered as it should be, gets nothing, nobody outside notices; slot, stores and next job are right."""
    attack = BY_NAME[name]
    result = attacked.tell("attack", name=name)
    said = f"{result['sentence']}\n{result['stdout']}"
    assert "GOT" not in said, result
    if attack.code != "either":
        assert result["code"] == attack.code, result
    else:
        assert result["code"] not in {"worker_fault", "worker_storage", "internal"}, result
    assert attack.says in said
    assert ("ENDED" in said) or not attack.ends, result
    assert SECRET not in json.dumps(result)
    assert all(mode & ~0o777 == 0 for mode, _ in result["outputs"].values())
    attacked.around.unharmed()
    attacked.leaves_nothing()
    attacked.compiles()
    record_property(COUNTED, ("attacks", "as root" if attacked.root else "as an ordinary user", name))


def test_there_are_enough_attacks_and_each_is_another():
    """At least forty attacks, no two of a name, each said in words."""
    assert len(BY_NAME) == len(ATTACKS) >= 40
    assert [count for count in Counter(attack.does for attack in ATTACKS).values() if count > 1] == []


@pytest.fixture(scope="module")
def unconfined(hostile_program):
    """What lies around a worker, with nothing between it and the attacker."""
    made = Outside(hostile_program)
    made.begin(ORDINARY + 1)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("name", "gets"),
    [
        ("secrets", ["reads(path)"]),
        ("network", ["connect(socket(AF_INET,"]),
        ("unix_sockets", ["name, length", "name, sizeof name"]),
        ("signals", ["kill(pids[i], SIGUSR1)", "setpriority"]),
        ("tracing", ["process_vm_readv(pids", "open(path"]),
        ("disk_allocated", ["fallocate(fd, modes[i]", "ioctl(fd, 0x40305828"]),
        ("surface", ["userfaultfd, 1"]),
        ("memory_of_nobody", ["shmget"]),
        ("sockets", ["socket(40"]),
        ("bounds", ["no bound"]),
    ],
)
def test_without_a_sandbox_the_same_program_succeeds(unconfined, name, gets):
    """The attacks are real: run by the same user beside a worker instead of in one, each gets what it is after."""
    words = [name, str(unconfined.outside), str(unconfined.canary), str(unconfined.port), unconfined.abstract]
    argv = [*as_user(ORDINARY + 1), str(unconfined.directory / "attack"), *words, "/nowhere", str(unconfined.canary)]
    scratch = unconfined.directory / "scratch"
    scratch.mkdir(exist_ok=True)
    scratch.chmod(0o777)
    done = subprocess.run(
        argv,
        cwd=scratch,
        env={"TMPDIR": "/nowhere"},
        capture_output=True,
        check=False,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    for what in gets:
        assert any(what in line for line in done.stdout.decode().splitlines() if line.startswith("GOT")), done
    assert os.path.exists(f"/proc/{unconfined.canary}")
