"""``python -m sccache_twisted.cli ARGS``: what the launcher becomes for anything that is not a compiler."""

from __future__ import annotations

import os
import sys

from sccache_twisted.cli.arguments import parse
from sccache_twisted.errors import SccacheTwistedError


def main(words: list[str]) -> int:
    """Run one command; its exit status, 2 when it failed with a sentence."""
    arguments = parse(words)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except SccacheTwistedError as error:
        print(f"sccache-twisted: {error.explained()}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read us has seen enough; Python must not complain about it again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
