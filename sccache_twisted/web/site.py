"""The pages over HTTP: ``/`` for people, ``/status`` and ``/metrics`` for programs, ``/healthz`` for balancers.

Everybody may read them. The one order that is taken, ``POST /workers/{worker}/drain``, needs the control token in a
header that no browser sends by itself.
"""

from __future__ import annotations

import hmac
import json
from io import BytesIO
from typing import Any, Protocol

from klein import Klein
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Site
from werkzeug.exceptions import MethodNotAllowed, NotFound

from sccache_twisted.net.ports import ListeningService
from sccache_twisted.scheduler.views import WorkerView
from sccache_twisted.web.metrics import CONTENT_TYPE, exposition
from sccache_twisted.web.page import page
from sccache_twisted.web.status import Shown, status

_PAGE = 100
_LARGEST_PAGE = 1000
_FARTHEST = 10_000_000
_NAMES_SHOWN = 20


class Obeying(Shown, Protocol):
    """What orders need of a scheduler besides."""

    def order_drain(self, worker: str) -> list[WorkerView]:
        """Tell the worker of this server_id, or all of this name, to leave; those that were told."""


class StatusPages:
    """The pages of one scheduler. ``resource()`` is what a Site serves.

    ``control_token`` is what an order must show; with None, in the insecure mode, no order is taken.
    """

    app = Klein()

    def __init__(self, scheduler: Obeying, control_token: str | None = None) -> None:
        self._scheduler = scheduler
        self._token = control_token

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

    @app.route("/workers/<worker>/drain", methods=["POST"])
    def drain(self, request: IRequest, worker: str) -> bytes:
        """Let a worker finish its jobs and leave; JSON with those that were told, and how many jobs they still run."""
        if self._token is None:
            return _refuse(request, 403, "This scheduler is insecure: without identities it takes no orders.")
        if not _shows(request, self._token):
            request.setHeader(b"WWW-Authenticate", b"Bearer")
            return _refuse(request, 401, 'The control token is wrong or absent: use "sccache-twisted drain".')
        told = self._scheduler.order_drain(worker)
        if not told:
            return _refuse(request, 404, f"There is no worker {worker[:80]!r}; {self._known()}.")
        request.setResponseCode(202)
        _head(request, "application/json")
        draining = [{"name": each.name, "server_id": each.server_id, "running": each.running} for each in told]
        return json.dumps({"draining": draining}).encode() + b"\n"

    def _known(self) -> str:
        names = sorted({view.name for view in self._scheduler.worker_views()})
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        return f"there are {', '.join(names[:_NAMES_SHOWN])}{more}" if names else "none is registered"

    @app.handle_errors(NotFound)
    def unknown(self, request: IRequest, failure: Failure) -> bytes:  # noqa: ARG002 - klein gives it
        """Say which pages there are."""
        return _refuse(request, 404, "There is no such page; there are /, /status, /metrics and /healthz.")

    @app.handle_errors(MethodNotAllowed)
    def read_only(self, request: IRequest, failure: Failure) -> bytes:  # noqa: ARG002 - klein gives it
        """Say that pages are read only, and that orders are given by POST."""
        if request.path.startswith(b"/workers/"):
            request.setHeader(b"Allow", b"POST")
            return _refuse(request, 405, "This is an order, not a page: use POST.")
        request.setHeader(b"Allow", b"GET, HEAD")
        return _refuse(request, 405, "These pages can only be read: use GET or HEAD.")


class _QuietSite(Site):
    """Whoever watches a scheduler asks every few seconds; that is no news for its log."""

    def log(self, request: Any) -> None:
        """Called by Twisted for each request."""

    def getContentFile(self, length: int | None) -> BytesIO:  # noqa: ARG002 - Twisted gives it
        """Called by Twisted for a request's body, which would go to the disk: nothing here wants one."""
        return _Unread()


class _Unread(BytesIO):
    def write(self, data: Any) -> int:
        """Keep nothing."""
        return len(data)


def status_service(reactor: Any, endpoint: str, scheduler: Obeying, control_token: str | None) -> ListeningService:
    """Serves the pages on a Twisted endpoint string; its ``startService`` raises ConfigError for a taken port."""
    pages = StatusPages(scheduler, control_token)
    site = _QuietSite(pages.resource(), timeout=30, reactor=reactor)  # type: ignore[no-untyped-call]  # Twisted's Site has no types
    site.displayTracebacks = False
    site.noisy = False
    return ListeningService(reactor, endpoint, site, None, "scheduler's pages")


def _shows(request: IRequest, token: str) -> bool:
    shown: bytes = request.getHeader(b"authorization") or b""
    scheme, _, presented = shown.partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(presented.strip(), token.encode())


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
