"""Small C programs for the sandbox, and a look at the processes of this machine."""

import os

from twisted.internet.defer import Deferred

HEAD = """
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
"""


def body(code):
    return HEAD + "int main(int argc, char **argv) {" + code + "return 0; }"


def processes(name):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                if stream.read().split(b"\0")[0] == name:
                    found.append(int(pid))
        except OSError:
            continue
    return found


def find_process(name):
    return next(iter(processes(name)), None)


def parent_of(pid):
    with open(f"/proc/{pid}/stat", "rb") as stream:
        return int(stream.read().rpartition(b")")[2].split()[1])


async def until(reactor, fact):
    """Wait until a fact holds; the reactor goes on meanwhile."""
    for _ in range(2000):
        found = fact()
        if found:
            return found
        turn = Deferred()
        reactor.callLater(0.005, turn.callback, None)
        await turn
    raise AssertionError("it never came to that")


def uids_of(pid):
    with open(f"/proc/{pid}/status") as status:
        return {int(uid) for uid in next(line for line in status if line.startswith("Uid:")).split()[1:]}
