"""What was measured once and must not be stepped into again, where it takes whole processes or the whole package."""

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest
from lone_kit import lone_daemon
from support.cluster import wait_for
from support.farm import Farm
from support.farm.roles import TWISTD

import sccache_twisted

PACKAGE = Path(sccache_twisted.__file__).parent
ROOT = PACKAGE.parent
FORKING = {"spawnProcess", "fork", "forkpty", "preexec_fn", "multiprocessing", "deferToProcess", "getProcessOutput"}
"""Names that lead to fork(2), whose cost grows with the process."""
SLOWLY_STARTED = {"user", "group", "extra_groups", "process_group"}
"""Words for Popen that keep it from vfork(2), in one Python or another."""


def modules():
    """Every module of the package, with its tree. The launcher stands apart: it is small, and forks to be nobody's."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent.name != "launcher":
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def names(tree):
    """Every name, attribute, imported name and keyword that a module's text has."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.Import(names=imported) | ast.ImportFrom(names=imported):
                for each in imported:
                    yield from each.name.split(".")
            case _:
                continue


def test_nothing_in_the_package_forks():
    """No process is started by reactor.spawnProcess, or in a way that keeps Popen from vfork."""
    for path, tree in modules():
        assert FORKING & set(names(tree)) == set(), path
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("subprocess."):
                assert SLOWLY_STARTED & {word.arg for word in call.keywords} == set(), path


def test_no_port_is_listened_on_by_a_service_that_only_logs_its_failure():
    """A StreamServerEndpointService fails nobody's start; ListeningService is what there is."""
    for path, tree in modules():
        assert {"StreamServerEndpointService", "strports"} & set(names(tree)) == set(), path


@pytest.mark.root
def test_a_job_costs_no_fork(tmp_path):
    """Whatever a daemon and a worker start for a compilation, they start without a copy of their page tables."""
    (tmp_path / "a.c").write_text("int a;\n")
    with Farm() as farm:
        worker, client = farm.worker("w", start=False), farm.client("c", start=False)
        logs = [tmp_path / role.name for role in (worker, client)]
        for role, log in zip((worker, client), logs, strict=True):
            # A tracer of its own, so that the process is still ours.
            role.wrap = ("strace", "-D", "-f", "-qq", "-e", "trace=fork,vfork,clone,clone3", "-o", str(log))
            role.start()
        farm.registered(worker)
        client.ready()
        done = client.call("gcc", "-c", "a.c", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (finished,) = client.events("job_done")
        assert finished["server_id"] == worker.server_id
        worker.finish()
        client.finish()
    # Of the processes below theirs, the compiler's driver for instance, nothing is asked.
    for role, log in zip((worker, client), logs, strict=True):
        own = re.findall(rf"^{role.pid} +(.*)$", log.read_text(encoding="utf-8"), re.MULTILINE)
        started = [line for line in own if "CLONE_THREAD" not in line and not line.startswith(("+++", "---"))]
        assert started, role.name
        assert [line for line in started if "vfork" not in line.lower()] == [], role.name


def test_twistd_knows_the_three_roles():
    """The way in which a checkout is installed here shows them, as a plain editable install would not."""
    shown = subprocess.run([str(TWISTD), "--help"], cwd="/", capture_output=True, text=True, timeout=60, check=True)
    for role in ("client", "scheduler", "worker"):
        assert f"sccache-{role}" in shown.stdout
    assert "editable_mode=compat" in (ROOT / ".ci/bootstrap").read_text(encoding="utf-8")


def test_the_directory_of_plugins_is_no_package():
    """An ``__init__.py`` in it would hide the plugins of everybody else, or theirs ours."""
    assert [path for path in (ROOT / "twisted").rglob("__init__.py*") if "__pycache__" not in path.parts] == []
    assert (ROOT / "twisted/plugins/sccache_twisted_plugins.py").is_file()


def test_a_daemon_runs_no_plugin_of_where_it_is_called(tmp_path):
    """A plugin of Twisted's in the caller's directory is a stranger's file: a daemon reads none."""
    plugins = tmp_path / "there/twisted/plugins"
    plugins.mkdir(parents=True)
    (plugins / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    (tmp_path / "there/a.c").write_text("int a;\n")
    home = tmp_path / "client"
    with lone_daemon(home, start=False) as client:
        try:
            assert client.call("gcc", "-c", "a.c", cwd=tmp_path / "there").returncode == 0
            assert client.stats()["compile_requests"] == 1
            assert not (tmp_path / "ran").exists()
        finally:
            subprocess.run([*client.launcher, "--stop-server"], env=client.env, capture_output=True, check=False)
            wait_for(lambda: not os.path.exists(client.socket), "the daemon has gone")
