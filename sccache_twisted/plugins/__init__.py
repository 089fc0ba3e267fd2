"""The composition roots: what ``twistd sccache-client``, ``sccache-scheduler`` and ``sccache-worker`` put together.

Each role has its Options and a straight-line ``makeService``. ``common`` holds what they share: reading settings so
that a mistake is one sentence and not a traceback, logging in our formats, starting, saying that it is ready, ending.
Here and in ``cli`` only is the reactor named. Refuses to know anything about jobs.
"""
