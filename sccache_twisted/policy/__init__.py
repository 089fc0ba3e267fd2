"""Decisions without a world: placement, suspicion, blame, retries, back-off, fairness.

Nothing here waits, reads a clock, draws randomness or knows Twisted: facts come in, decisions go out. A function
that needs the time takes ``now`` (seconds on any clock that only goes forward), one that needs chance takes a
``draw`` from [0, 1).
"""
