"""What has been compared in this run, to be told at its end."""

COUNTED: dict[str, set[str]] = {"projects": set(), "cases": set(), "held against the oracle": set()}
