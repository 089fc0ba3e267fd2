"""Scheduler, workers and client on machines of their own, deployed by the examples, with invite and join.

Each machine is a network, mount, process and host name space: nothing is shared but a network and the program. What
is done is what examples/README.md says, with the units and files that lie beside it.
"""

import json
import os
import re
import shlex

import pytest
import tomllib
from machines_kit import BIN, EXAMPLES, Network, Unit, copied, objects, registered, shell_lines, status_page
from support.cluster import wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.getuid() != 0, reason="makes network namespaces and users"),
]

SCHEDULER = "sccache-twisted-scheduler.service"
WORKER = "sccache-twisted-worker.service"
SITE = "build.example"
UNITS = 11
PROJECT = "/home/dev/project"
SHORT_TIMERS = '\n[timers]\nscheduler_grace_seconds = "500ms"\nconnect_seconds = 2\n'
MAKEFILE = """\
CFLAGS = -O1 -g -Wall -Iinclude
OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c)) $(patsubst %.cc,%.o,$(wildcard *.cc))
all: $(OBJECTS)
%.o: %.c
\t$(CC) $(CFLAGS) -MMD -c $< -o $@
%.o: %.cc
\t$(CXX) $(CFLAGS) -std=c++17 -MMD -c $< -o $@
clean:
\trm -f *.o *.d
"""


def write_project(directory):
    """A tree of 22 translation units, half C and half C++, with headers of their own and of the system."""
    (directory / "include").mkdir(parents=True)
    (directory / "Makefile").write_text(MAKEFILE)
    (directory / "include/common.h").write_text("#pragma once\n#define SCALE(x) ((x) * 3 + 1)\n")
    for number in range(UNITS):
        (directory / f"part{number}.c").write_text(
            f'#include <stdio.h>\n#include "common.h"\nint part{number}(int x)\n'
            f'{{\n    int unused;\n    printf("%d\\n", SCALE(x));\n    return x + {number};\n}}\n'
        )
        (directory / f"piece{number}.cc").write_text(
            f'#include <cstdio>\n#include <utility>\n#include "common.h"\nstd::pair<int, int> piece{number}(int n)\n'
            f"{{\n    return std::make_pair(SCALE(n), {number});\n}}\n"
        )


class Site:
    """The machines, and what an operator and a developer do on them."""

    def __init__(self, network):
        self.network = network
        self.scheduler = network["head"]
        self.desk = network["desk"]
        self.user = ""
        self.alone = {}

    def install_scheduler(self):
        """What examples/README.md says, line by line."""
        head = self.scheduler
        copied(head, EXAMPLES, "/home/examples")
        for line in shell_lines(EXAMPLES / "README.md"):
            for words in (shlex.split(part) for part in line.split(" && ")):
                if words[:2] == ["sudo", "-u"]:
                    self.user = words[2]
                    self.invitation = head.must(*words[3:], user=self.user).strip()
                elif words[:3] == ["systemctl", "enable", "--now"]:
                    head.start_unit(Unit.read(f"{words[3]}.service"))
                    wait_for(lambda: head.serves(10600) and head.serves(10601), "the scheduler listens")
                elif words[0] not in {"systemctl", "python3", f"{BIN}/pip"}:
                    head.must("sh", "-c", shlex.join(words).replace("'systemd/*.service'", "systemd/*.service"),
                              cwd="/home/examples")  # fmt: skip

    def invite(self, role):
        return self.scheduler.must(f"{BIN}/sccache-twisted", "invite", role, user=self.user).strip()

    def join_worker(self, name, line, more=None):
        """Join, start the unit, wait until the scheduler knows the worker; its server_id."""
        machine = self.network[name]
        unit = Unit.read(WORKER)
        machine.must(f"{BIN}/sccache-twisted", "join", line)
        joined = machine.root / unit.config.lstrip("/")
        if more is not None:
            joined.write_text(like_example(more, joined.read_text()))
        machine.start_unit(unit)
        return registered(self.scheduler, name)

    def join_client(self):
        """A developer's account and his tree; the client's file is the example's with the scheduler in it."""
        desk = self.desk
        desk.must("useradd", "--create-home", "dev")
        self.as_dev(f"{BIN}/sccache-twisted", "join", self.invite("client"))
        joined = desk.root / "home/dev/.config/sccache-twisted/client.toml"
        joined.write_text(like_example("client.toml", joined.read_text()) + SHORT_TIMERS)
        write_project(desk.root / PROJECT.lstrip("/"))
        desk.must("chown", "-R", "dev:dev", PROJECT)

    def as_dev(self, *argv, cwd="/home/dev", **env):
        env = {"SCCACHE_ERROR_LOG": "/home/dev/client.log", "SCCACHE_RECACHE": "1", **env}
        return self.desk.must(*argv, user="dev", cwd=cwd, env=env)

    def build(self, *words):
        """Build the tree anew; every object by its name, and the counters."""
        self.as_dev("make", "clean", cwd=PROJECT)
        if words:
            self.as_dev(f"{BIN}/sccache-twisted", "--zero-stats")
        self.as_dev("make", "-j8", *words, cwd=PROJECT)
        found = objects(self.desk.root / PROJECT.lstrip("/"))
        assert len(found) == 2 * UNITS
        return found, self.stats() if words else {}

    def plain(self):
        """What the compiler alone makes of the tree."""
        if not self.alone:
            self.alone, _ = self.build()
        return self.alone

    def stats(self):
        told = self.as_dev(f"{BIN}/sccache-twisted", "--show-stats", "--stats-format", "json")
        return json.loads(told)["stats"]


OURS = ("CC=sccache-twisted gcc", "CXX=sccache-twisted g++")


def like_example(name, joined):
    """The example's file with the keys that join wrote in the place of its own, as its first comment says."""
    text = (EXAMPLES / name).read_text()
    for line in joined.splitlines():
        key = line.partition(" = ")[0]
        if " = " in line and key in {"schedulers", "token_file"}:
            text, count = re.subn(rf"^{key} = .*$", lambda _, line=line: line, text, flags=re.MULTILINE)
            assert count == 1, f"examples/{name} has no {key}"
    tomllib.loads(text)
    return text


@pytest.fixture(scope="module")
def site():
    """Everything deployed: the scheduler on head, a worker on rack-7, a developer on desk; rack-8 has nothing yet."""
    with Network("head", "rack-7", "rack-8", "desk", aliases={"head": SITE}) as network:
        made = Site(network)
        try:
            made.install_scheduler()
            made.server_id = made.join_worker("rack-7", made.invitation, "worker.toml")
            made.join_client()
            yield made
            made.desk.call(f"{BIN}/sccache-twisted", "--stop-server", user="dev")
        except BaseException:
            network.show_logs()
            raise


def test_nothing_is_shared_but_the_network(site):
    """No machine sees another's files or processes; each has its own name, and reaches the scheduler by name."""
    for name, machine in site.network.machines.items():
        assert machine.must("hostname").strip() == name
        (machine.root / "tmp" / f"only-{name}").touch()
    for name, machine in site.network.machines.items():
        assert [each for each in machine.must("ls", "/tmp").split() if each.startswith("only-")] == [f"only-{name}"]
        assert ("sccache-scheduler" in machine.must("ps", "-e", "-o", "args")) == (name == "head")
    assert site.desk.call("ls", "/etc/sccache-twisted").returncode != 0
    for name in ("worker.toml", "worker.token"):
        assert site.network["rack-7"].must("stat", "-c", "%a", f"/etc/sccache-twisted/{name}").strip() == "600"


def test_a_build_runs_on_the_worker_and_equals_the_local_one(site):
    """22 C and C++ files with make: all ran on rack-7, none here, and every object is the plain compiler's."""
    plain = site.plain()
    ours, stats = site.build(*OURS)
    assert [name for name in plain if plain[name] != ours.get(name)] == []
    assert stats["local_compiles"] == {}
    assert set(stats["dist_compiles"]) <= {"rack-7", "rack-8"}
    assert stats["dist_compiles"]["rack-7"] > 0
    assert sum(stats["dist_compiles"].values()) == 2 * UNITS
    assert "Traceback" not in (site.desk.root / "home/dev/client.log").read_text()


def test_the_library_says_on_which_worker_it_compiled(site):
    """examples/compile_one.py prints the server_id that the scheduler knows the worker by."""
    copied(site.desk, EXAMPLES / "compile_one.py", "/home/dev/compile_one.py", "dev")
    words = (f"{BIN}/python3", "/home/dev/compile_one.py", "gcc", "-c", "part0.c", "-Iinclude", "-o", "/home/dev/one.o")
    said = site.as_dev(*words, cwd=PROJECT)
    known = {worker["server_id"] for worker in status_page(site.scheduler)["workers"]}
    where = re.search(r"^compiled on (\S+) in", said, re.MULTILINE)
    assert where is not None, said
    assert where[1] in known


def test_a_second_worker_joins_and_takes_jobs(site):
    """A machine that joins while everything runs gets its part of the next build; objects stay what they were."""
    plain = site.plain()
    first = site.server_id
    second = site.join_worker("rack-8", site.invite("worker"))
    assert first != second
    ours, stats = site.build(*OURS)
    assert ours == plain
    assert stats["local_compiles"] == {}
    assert set(stats["dist_compiles"]) == {"rack-7", "rack-8"}
    assert sum(stats["dist_compiles"].values()) == 2 * UNITS


def test_without_a_scheduler_the_client_says_so_and_compiles_here(site):
    """A stopped scheduler is named with what is wrong; the build goes on here, and distributes again afterwards."""
    scheduler = next(each for each in site.scheduler.running if each.unit.path.name == SCHEDULER)
    assert scheduler.stop() == 0
    assert "Traceback" not in scheduler.said()

    def told():
        found = json.loads(site.as_dev(f"{BIN}/sccache-twisted", "--dist-status"))
        state = found.get("NotConnected")
        return state if state and "cannot be reached" in state[1] else None

    address, sentence = wait_for(told, "the client has dialled the scheduler again, in vain")
    assert address == f"tls://{SITE}:10600"
    assert f"The scheduler at {SITE}:10600 cannot be reached: Connection refused." in sentence
    site.as_dev(f"{BIN}/sccache-twisted", "--zero-stats")
    site.as_dev("sccache-twisted", "gcc", "-c", "part0.c", "-Iinclude", "-o", "/home/dev/alone.o", cwd=PROJECT)
    assert site.stats()["local_compiles"] == {"no_scheduler": 1}
    log = (site.desk.root / "home/dev/client.log").read_text()
    assert "compiles locally (no_scheduler): No scheduler could be reached." in log

    site.scheduler.start_unit(Unit.read(SCHEDULER))
    wait_for(lambda: site.scheduler.serves(10600), "the scheduler listens again")
    registered(site.scheduler, "rack-7")
    connected = (f"{BIN}/sccache-twisted", "--dist-status")
    wait_for(lambda: "SchedulerStatus" in json.loads(site.as_dev(*connected)), "the client has found it again")
    site.as_dev("sccache-twisted", "gcc", "-c", "part0.c", "-Iinclude", "-o", "/home/dev/again.o", cwd=PROJECT)
    stats = site.stats()
    assert stats["local_compiles"] == {"no_scheduler": 1}
    assert sum(stats["dist_compiles"].values()) == 1


def test_a_worker_that_is_stopped_drains_and_leaves(site):
    """The unit's KillSignal ends a worker with status 0, without a traceback, and the scheduler knows it no more."""
    name = "rack-7"
    worker = next(each for each in site.network[name].running if each.unit.path.name == WORKER)
    assert worker.stop() == 0
    assert "Traceback" not in worker.said()
    gone = lambda: name not in {each["name"] for each in status_page(site.scheduler)["workers"]}  # noqa: E731
    wait_for(gone, "the worker has left")
    site.server_id = _restarted(site, name)


def _restarted(site, name):
    site.network[name].start_unit(Unit.read(WORKER))
    return registered(site.scheduler, name)
