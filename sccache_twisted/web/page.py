"""The one page for a person: how busy the cluster is, who is in it, who waits."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from sccache_twisted.web.status import Shown, status

_WAITING_SHOWN = 20
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin-top: 2rem }
dl { display: flex; flex-wrap: wrap; gap: 2rem; margin: 0 } dt { color: #666; font-size: .85rem }
dd { margin: 0; font-size: 1.5rem; font-variant-numeric: tabular-nums }
table { border-collapse: collapse; width: 100% } th { text-align: left; color: #666; font-weight: 500 }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ddd } .n { text-align: right }
td.n { font-variant-numeric: tabular-nums } .suspect { color: #a60 } .draining { color: #777 } .alive { color: #070 }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #ddd } th, td { border-color: #333 } }
"""


def page(scheduler: Shown) -> str:
    """The page as HTML."""
    shown = status(scheduler, 0, _WAITING_SHOWN)
    about, workers, queue = shown["scheduler"], shown["workers"], shown["queue"]
    numbers = [
        ("workers", about["workers"]),
        ("slots", about["slots"]),
        ("running", about["running"]),
        ("waiting", about["queued"]),
        ("up", _duration(about["uptime"])),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        '<meta name="viewport" content="width=device-width"><title>sccache-twisted</title>'
        f"<style>{_STYLE}</style></head><body><h1>sccache-twisted {escape(about['version'])}</h1>"
        f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>' for name, value in numbers)}</dl>"
        f"<h2>Workers</h2>{_workers(workers)}<h2>Waiting</h2>{_queue(queue, about['queued'])}</body></html>\n"
    )


def _workers(workers: list[dict[str, Any]]) -> str:
    if not workers:
        return "<p>No worker has registered.</p>"
    head = ("name", "state", "#slots", "#load", "#free memory", "#toolchains", "#failures", "machine", "address")
    rows = (
        (
            worker["name"],
            worker["state"],
            f"{worker['running']}/{worker['slots']}",
            f"{worker['load']:.1f}",
            _size(worker["free_memory"]),
            worker["toolchains"],
            f"{worker['failures']:g}",
            worker["arch"],
            worker["address"],
        )
        for worker in workers
    )
    return _table(head, rows)


def _queue(queue: list[dict[str, Any]], total: int) -> str:
    if not queue:
        return "<p>Nobody waits.</p>"
    rows = ((one["label"], f"{one['waiting']:.1f} s", one["client_id"], one["job_id"]) for one in queue)
    more = f"<p>and {total - len(queue)} more</p>" if total > len(queue) else ""
    return _table(("what", "#since", "client", "job"), rows) + more


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    numeric = [name.startswith("#") for name in head]
    titles = "".join(f"<th{_class(name)}>{escape(name.lstrip('#'))}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(_cell(value, is_number) for value, is_number in zip(row, numeric, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _class(name: str) -> str:
    return ' class="n"' if name.startswith("#") else ""


def _cell(value: object, is_number: bool) -> str:
    text = escape(str(value))
    if is_number:
        return f'<td class="n">{text}</td>'
    return f'<td class="{text}">{text}</td>' if text in {"alive", "suspect", "draining"} else f"<td>{text}</td>"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{rest} s"


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
