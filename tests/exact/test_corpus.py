"""Small projects made to break exactness: a worker's files, bytes and status are the compiler's own.

Each is compiled plainly and then through a cluster in the same directory, equal in every file and mode and in every
byte of output. What is expected to run on a worker must have; what stays must name its reason. The plain run is watched
by strace, and what it found and missed is held against what the client ships.
"""

import os
import shutil
import subprocess
import time

import pytest
import pytest_twisted
from corpus import CASES
from oracle import Around, World, client, held_against, response_files
from strace_log import traced
from support.counts import COUNTED
from support.trees import differences, set_aside, snapshot
from support.trees.commands import Result
from twisted.internet import reactor

from sccache_twisted.client.calls import Call


def links_below(site):
    """Where each link of a project leads."""
    return {os.fsencode(path): physical(path) for path in site.rglob("*") if path.is_symlink()}


def physical(path):
    return os.path.realpath(os.fsencode(path))


@pytest.fixture(scope="module")
def ours(toolchain_store):
    """The client's pipeline in this process."""
    with client(reactor, toolchain_store) as made:
        yield made


@pytest.mark.parametrize(
    ("project", "compiler"),
    [
        pytest.param(project, compiler, id=f"{project.name}-{compiler}", marks=[] if light else pytest.mark.full)
        for project, compiler, light in CASES
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_project_compiles_on_a_worker_as_it_does_here(bench, ours, project, compiler, record_property):
    """Files, modes, output and status are equal; what the compiler found and missed is what was shipped."""
    site = bench.site
    words, env = project.words(compiler, site), project.environment(compiler, site)
    cwd = os.fsencode(site / project.cwd)
    seen = None

    def plain():
        nonlocal seen
        done, seen = traced(words, cwd, env, bench.logs, project.umask)
        return done

    def remote():
        return subprocess.run(
            [*bench.cluster.launcher, *words],
            cwd=cwd,
            env=env | bench.env,
            capture_output=True,
            check=False,
            umask=project.umask,
            stdin=subprocess.DEVNULL,
        )

    sides = []
    shipped = None
    told = []
    for name, run in (("plain", plain), ("remote", remote)):
        for place in (site, bench.kept / name):
            shutil.rmtree(place, ignore_errors=True)
        site.mkdir()
        project.lay_out(site, compiler)
        before = snapshot(site)
        links = links_below(site)
        bench.news()
        done = run()
        if name == "plain":
            call = Call(tuple(words), physical(cwd), env, project.umask, stderr_is_tty=False, arrival_ns=time.time_ns())
            shipped = await ours.shipped(call)
            if shipped.action is not None:
                told = held_against(seen, World(shipped), Around(env, links, response_files(words, cwd)))
        results = {("site", project.name): Result(done.returncode, done.stdout, done.stderr)}
        sides.append(set_aside(site, before, bench.kept / name, results))
    assert differences(*sides, dwo_ids_vary=project.varies) == []
    assert sides[0].results["site", project.name].status == project.ends_with(compiler), (
        sides[0].results["site", project.name].stderr.decode()
    )
    reason = project.reason(compiler)
    if shipped is not None and reason != "confirm_error":
        assert shipped.reason == reason
    assert told == [], "\n".join(told)
    if not reason:
        events = bench.heard("job_done", "job_local")
        assert [event["sentence"] for event in events if event["event"] == "job_local"] == []
        assert {event["server_id"] for event in events if event["event"] == "job_done"} <= bench.servers
    case = f"{project.name}-{compiler}"
    counts = [("projects", project.name), ("cases", case)]
    if shipped is not None and shipped.action is not None:
        counts.append(("held against the oracle", case))
    for what, item in counts:
        record_property(COUNTED, ("exactness corpus", what, item))
