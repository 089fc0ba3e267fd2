"""Every module of this room ends without an unhandled failure."""

from __future__ import annotations

import gc

import pytest
from twisted.logger import globalLogPublisher


@pytest.fixture(autouse=True, scope="module")
def nothing_unhandled():
    # By the module, since a failure that nobody handles is told when it is collected, and collecting takes a while.
    failures = []

    def observe(event):
        if event.get("log_failure") is not None or event.get("isError"):
            failures.append(event)

    globalLogPublisher.addObserver(observe)
    yield
    gc.collect()
    globalLogPublisher.removeObserver(observe)
    assert [event.get("log_failure") or event for event in failures] == []


@pytest.fixture
def events():
    """The (event name, event) pairs logged by the test."""
    found = []

    def observe(event):
        if event.get("event"):
            found.append((event["event"], event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def reactor():
    from twisted.internet import reactor

    return reactor
