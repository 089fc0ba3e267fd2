"""What a job's process tree uses, by either way of finding the tree."""

import os
import subprocess
import sys
from contextlib import suppress

import pytest

from sccache_twisted.worker import limits
from sccache_twisted.worker.limits import Usage, measure

MIB = 1 << 20
TREE = """
import os, sys, threading, time

def child(bytes_held):
    if os.fork() == 0:
        held = b"x" * bytes_held
        os.write(1, b".")
        time.sleep(1000)

def grandchild():
    if os.fork() == 0:
        child(8 << 20)
        os.write(1, b".")
        time.sleep(1000)

child(4 << 20)
thread = threading.Thread(target=lambda: (grandchild(), time.sleep(1000)))
thread.start()
fd = os.memfd_create("kept")
os.write(fd, b"x" * (2 << 20))
os.write(1, b".")
thread.join()
"""
"""Itself, a child of its first thread, a child of another, and that one's child: four processes."""


@pytest.fixture
def tree():
    """The pid of a tree's root, once all of it is there."""
    with subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE, start_new_session=True) as root:
        assert root.stdout is not None
        for _ in range(4):
            assert root.stdout.read(1) == b"."
        yield root.pid
        os.killpg(root.pid, 9)


@pytest.fixture(params=["named", "searched"])
def way(request, monkeypatch):
    """How children are found; a kernel without lists of children has no such file."""
    exists = os.path.exists
    if request.param == "searched":
        monkeypatch.setattr(limits.os.path, "exists", lambda path: not path.endswith("/children") and exists(path))
    else:
        assert exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children"), "this kernel names no children"
    return request.param


def test_a_tree_is_measured_whole(tree, way):
    assert measure([tree])[tree].processes == 4
    assert measure([tree])[tree].memory_bytes > 14 * MIB
    assert measure([tree, os.getpid()])[tree].processes == 4


def test_who_is_gone_uses_nothing(way):
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert measure([ended.pid]) == {ended.pid: Usage()}


def test_a_look_at_a_job_does_not_look_at_the_machine(tree, monkeypatch):
    """A worker with many slots has thousands of processes; looking at each for each look took most of a core."""
    looked = set()
    inside = {str(pid) for pid in (tree, *_descendants(tree))}
    read, listed = limits._read, os.listdir

    def reading(path):
        looked.add(path.split("/")[2])
        return read(path)

    def listing(path):
        looked.add(path.split("/")[2])
        return listed(path)

    monkeypatch.setattr(limits, "_read", reading)
    monkeypatch.setattr(limits.os, "listdir", listing)
    measure([tree])
    assert looked == inside


def _descendants(root):
    """Every process of the root's session."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(ProcessLookupError):
            if os.getsid(int(name)) == root:
                found.add(int(name))
    return found - {root}
