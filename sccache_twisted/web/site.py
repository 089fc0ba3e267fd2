"""The pages over HTTP: ``/`` for people, ``/status`` and ``/metrics`` for programs, ``/healthz`` for balancers."""

from __future__ import annotations

import json
from typing import Any

from klein import Klein
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Site
from werkzeug.exceptions import MethodNotAllowed, NotFound

from sccache_twisted.net.ports import ListeningService
from sccache_twisted.web.metrics import CONTENT_TYPE, exposition
from sccache_twisted.web.page import page
from sccache_twisted.web.status import Shown, status

_PAGE = 100
_LARGEST_PAGE = 1000
_FARTHEST = 10_000_000


class StatusPages:
    """The pages of one scheduler. ``resource()`` is what a Site serves."""

    app = Klein()

    def __init__(self, scheduler: Shown) -> None:
        self._scheduler = scheduler

    def resource(self) -> Any:
        """The pages as a twisted.web resource."""
        return self.app.resource()

    @app.route("/healthz", methods=["GET"])
    def healthz(self, request: IRequest) -> bytes:
        """Say that the scheduler is alive."""
        _head(request, "text/plain; charset=utf-8")
        return b"ok\n"

    @app.route("/status", methods=["GET"])
    def status(self, request: IRequest) -> bytes:
        """The whole state as JSON; ``offset`` and ``limit`` choose a page of the queue."""
        try:
            offset = _number(request, b"offset", 0, _FARTHEST)
            limit = _number(request, b"limit", _PAGE, _LARGEST_PAGE)
        except ValueError as error:
            return _refuse(request, 400, str(error))
        _head(request, "application/json")
        return json.dumps(status(self._scheduler, offset, limit)).encode() + b"\n"

    @app.route("/metrics", methods=["GET"])
    def metrics(self, request: IRequest) -> bytes:
        """The figures for Prometheus."""
        _head(request, CONTENT_TYPE)
        return exposition(self._scheduler)

    @app.route("/", methods=["GET"])
    def front(self, request: IRequest) -> bytes:
        """The page for a person."""
        _head(request, "text/html; charset=utf-8")
        return page(self._scheduler).encode("utf-8", "replace")

    @app.handle_errors(NotFound)
    def unknown(self, request: IRequest, failure: Failure) -> bytes:  # noqa: ARG002 - klein gives it
        """Say which pages there are."""
        return _refuse(request, 404, "There is no such page; there are /, /status, /metrics and /healthz.")

    @app.handle_errors(MethodNotAllowed)
    def read_only(self, request: IRequest, failure: Failure) -> bytes:  # noqa: ARG002 - klein gives it
        """Say that pages are read only."""
        request.setHeader(b"Allow", b"GET, HEAD")
        return _refuse(request, 405, "These pages can only be read: use GET or HEAD.")


class _QuietSite(Site):
    """Whoever watches a scheduler asks every few seconds; that is no news for its log."""

    def log(self, request: Any) -> None:
        """Called by Twisted for each request."""


def status_service(reactor: Any, endpoint: str, scheduler: Shown) -> ListeningService:
    """Serves the pages on a Twisted endpoint string; its ``startService`` raises ConfigError for a taken port."""
    site = _QuietSite(StatusPages(scheduler).resource(), timeout=30, reactor=reactor)  # type: ignore[no-untyped-call]  # Twisted's Site has no types
    site.displayTracebacks = False
    site.noisy = False
    return ListeningService(reactor, endpoint, site, None, "scheduler's pages")


def _head(request: IRequest, content_type: str) -> None:
    request.setHeader(b"Content-Type", content_type.encode("ascii"))
    request.setHeader(b"Cache-Control", b"no-store")
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    request.setHeader(b"Content-Security-Policy", b"default-src 'none'; style-src 'unsafe-inline'")


def _refuse(request: IRequest, code: int, sentence: str) -> bytes:
    request.setResponseCode(code)
    _head(request, "text/plain; charset=utf-8")
    return sentence.encode() + b"\n"


def _number(request: IRequest, name: bytes, default: int, largest: int) -> int:
    values: list[bytes] = (request.args or {}).get(name, [])
    if not values:
        return default
    text = values[-1].decode("utf-8", "replace")
    if not text.isascii() or not text.isdigit() or len(text) > 12 or int(text) > largest:
        raise ValueError(f"{name.decode()}={text[:40]!r} is not a number from 0 to {largest}.")
    return int(text)
