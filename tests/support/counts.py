"""What has been counted in a run, told at its end: counted in any process, told by the one that speaks to the user.

A test counts by ``record_property(COUNTED, (line, what, item))``; an item counts once, and only if its test passed.
"""

from typing import Any

COUNTED = "counted"
_lines: dict[str, dict[str, set[str]]] = {}


def pytest_runtest_logreport(report: Any) -> None:
    """Hear of a test that has ended, perhaps in another process."""
    if report.when == "call" and report.passed:
        for name, value in report.user_properties:
            if name == COUNTED:
                line, what, item = value
                _lines.setdefault(line, {}).setdefault(what, set()).add(item)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how much there was of each."""
    for line, counts in sorted(_lines.items()):
        told = ", ".join(f"{len(items)} {what}" for what, items in sorted(counts.items()))
        terminalreporter.write_line(f"{line}: {told}")
