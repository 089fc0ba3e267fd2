"""A scheduler's /status page, read as JSON."""

from __future__ import annotations

import http.client
import json
from typing import Any

_SECONDS = 5.0


def scheduler_status(address: str) -> list[dict[str, Any]]:
    """The workers that the scheduler at ``address`` (host:port of its pages) knows; none while it does not answer."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return []
    connection = http.client.HTTPConnection(host, int(port), timeout=_SECONDS)
    try:
        connection.request("GET", "/status", headers={"Accept": "application/json"})
        found = json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException):
        return []
    finally:
        connection.close()
    workers = found.get("workers") if isinstance(found, dict) else None
    return [worker for worker in workers or () if isinstance(worker, dict) and "name" in worker]
