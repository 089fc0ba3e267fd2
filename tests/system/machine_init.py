"""The first process of a machine: it hides what is another's, says that it is ready, and buries the dead.

    python machine_init.py ROOT HOSTNAME KEEP…

Runs in mount, PID and UTS namespaces of its own. Every private directory of the machine is bound over the host's from
below ROOT; each KEEP is where a part of the program lies, and stays what it is although a directory above it is hidden.
Standard library only, no import of ours: the machine has nothing yet.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

PRIVATE = ("tmp", "run", "home", "var/lib", "etc")


def _mount(*words):
    subprocess.run(["mount", *words], check=True)


def main(root, hostname, kept):
    """Make the machine; never returns."""
    socket.sethostname(hostname)
    aside = Path(tempfile.mkdtemp(dir=root))
    for number, place in enumerate(kept):
        (aside / str(number)).mkdir()
        _mount("--bind", place, str(aside / str(number)))
    subprocess.run(["cp", "-a", "/etc/.", f"{root}/etc"], check=True)
    with open(f"{root}/etc/hosts", "ab") as hosts:
        hosts.write(Path(f"{root}/hosts").read_bytes())
    # Python may live below a home that strangers can't enter; here only that part of the home is left.
    hidden = {"/" + Path(place).parts[1] for place in kept if Path(place).parts[1] in {"root", "home"}}
    for name in PRIVATE:
        if name not in {"tmp", "home"}:
            _mount("--bind", f"{root}/{name}", f"/{name}")
    _mount("--bind", f"{root}/home", "/home")
    for place in sorted(hidden - {"/home"}):
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", place)
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/opt")
    os.mkdir("/opt/sccache-twisted")
    _mount("--bind", sys.prefix, "/opt/sccache-twisted")
    for number, place in enumerate(kept):
        if not Path(place).exists():
            Path(place).mkdir(parents=True)
            _mount("--bind", str(aside / str(number)), place)
    # Last, since everything that was bound so far lies below the host's /tmp; so may parts of the program itself.
    for number, place in enumerate(kept):
        if Path(place).is_relative_to("/tmp"):
            there = Path(f"{root}{place}")
            there.mkdir(parents=True)
            _mount("--bind", str(aside / str(number)), str(there))
    _mount("--rbind", f"{root}/tmp", "/tmp")
    os.chmod("/tmp", 0o1777)
    os.write(1, b"ready\n")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        signal.sigwait({signal.SIGCHLD})
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            continue


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
