"""``doctor``: what is missing on this machine, and what to do about it."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Iterator

from attrs import asdict

from sccache_twisted.cli import checks, launchers
from sccache_twisted.cli.checks import Finding, Grade
from sccache_twisted.config import ClientSettings, SchedulerSettings, WorkerSettings

_MARKS = {Grade.FINE: "ok  ", Grade.WORTH_KNOWING: "note", Grade.MISSING: "FAIL"}


def doctor(arguments: Namespace) -> int:
    """Look at everything, print it, and answer 1 if something is missing without which nothing runs."""
    findings = []
    for finding in _look():
        findings.append(finding)
        if not arguments.json:
            print(f"{_MARKS[finding.grade]}  {finding.subject}: {finding.sentence}", flush=True)
            if finding.advice:
                print(f"        {finding.advice}")
    missing = [finding for finding in findings if finding.grade is Grade.MISSING]
    if arguments.json:
        print(json.dumps([asdict(finding, value_serializer=_plain) for finding in findings]))
    elif missing:
        print(f"\n{len(missing)} of {len(findings)} checks failed: see what to do above.")
    else:
        print("\nNothing essential is missing.")
    return 1 if missing else 0


def _look() -> Iterator[Finding]:
    yield checks.python()
    yield checks.plugins()
    yield launchers.finding()
    yield from checks.compilers()
    client, found = checks.configuration("client", ClientSettings)
    yield found
    worker, found = checks.configuration("worker", WorkerSettings)
    yield found
    _scheduler, found = checks.configuration("scheduler", SchedulerSettings)
    yield found
    # Where jobs are only sent away, nothing is confined.
    runs_jobs = not (client and client.schedulers) or bool(worker and worker.schedulers)
    for check in (checks.bubblewrap, checks.namespaces):
        yield _demoted(check, runs_jobs)
    for settings in (client, worker):
        if settings is not None:
            yield from checks.schedulers(settings)
    yield checks.clock()
    yield from checks.disk(client, worker)
    yield checks.daemon()


def _demoted(check: Callable[[], Finding], essential: bool) -> Finding:
    finding = check()
    if essential or finding.grade is not Grade.MISSING:
        return finding
    return Finding(finding.subject, Grade.WORTH_KNOWING, f"{finding.sentence} Only workers need it.", finding.advice)


def _plain(_instance: object, _attribute: object, value: object) -> object:
    return value.value if isinstance(value, Grade) else value
