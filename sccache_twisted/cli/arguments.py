"""The command line: sccache's options as they are spelled there, and commands of our own."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

from sccache_twisted import __version__
from sccache_twisted.launcher.origin import kind

_UNITS = {"w": 7 * 86400.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}

Run = Callable[[argparse.Namespace], int]

_DESCRIPTION = """\
Compiles C and C++ on a cluster of workers:  sccache-twisted COMPILER ARGS…
Also under another name: a link named gcc that points here compiles with the next gcc in PATH."""

_EPILOG = """\
New here? "sccache-twisted cluster start --dir ~/cluster" starts a cluster on this machine and says how to use it;
"sccache-twisted doctor" tells what is missing on this machine."""


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"sccache-twisted {__version__} ({kind()} launcher)")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """Ends with one sentence and status 2, as the other errors do."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'sccache-twisted: {message}. See "{self.prog} --help".\n')


def parse(words: list[str]) -> argparse.Namespace:
    """The arguments; ``run`` in them is the command. Exits by itself for ``--help``, ``--version`` and mistakes."""
    return _parser().parse_args(words or ["--help"])


def _lazily(module: str, function: str) -> Run:
    def run(arguments: argparse.Namespace) -> int:
        command: Run = getattr(import_module(f"sccache_twisted.cli.{module}"), function)
        return command(arguments)

    return run


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sccache-twisted",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action=_Version, nargs=0, help="say the version and which launcher this is")
    parser.add_argument(
        "--stats-format", choices=("text", "json"), default="text", help="how --show-stats and --dist-status answer"
    )
    parser.set_defaults(run=_nothing_asked)
    daemon = parser.add_argument_group("the daemon").add_mutually_exclusive_group()
    for flags, function, text in (
        (("-s", "--show-stats"), "show_stats", "what was compiled, where, and why not on a worker"),
        (("--show-adv-stats",), "show_adv_stats", "the same, with hits and misses by language and compiler"),
        (("-z", "--zero-stats"), "zero_stats", "count from zero again"),
        (("--start-server",), "start_server", "start the daemon, which otherwise starts by itself"),
        (("--stop-server",), "stop_server", "end the daemon"),
        (("--dist-status",), "dist_status", "whether a scheduler answers, and what it has"),
    ):
        daemon.add_argument(*flags, dest="run", action="store_const", const=_lazily("daemon", function), help=text)
    daemon.add_argument(
        "--package-toolchain",
        nargs=2,
        metavar=("EXE", "OUT"),
        action=_Package,
        help="write what a worker would be sent for the compiler EXE to OUT, a .tar.zst",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Parser)
    _cache(commands)
    _cluster(commands)
    _invitations(commands)
    doctor = commands.add_parser("doctor", help="tell what is missing on this machine, and what to do")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.set_defaults(run=_lazily("doctor", "doctor"))
    jobs = commands.add_parser("jobs", help='print a sensible N for "make -jN" with the cluster as it is')
    jobs.set_defaults(run=_lazily("daemon", "jobs"))
    _drain(commands)
    _trace(commands)
    why = commands.add_parser("why", help="tell why a file was compiled again, or why it is not cached")
    why.add_argument("files", metavar="FILE", nargs="+", help="a source, or an object that was made of one")
    why.add_argument("--format", choices=("text", "json"), default="text", help="how to answer (default: text)")
    why.set_defaults(run=_lazily("why", "why"))
    return parser


class _Package(argparse.Action):
    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        _option_string: str | None = None,
    ) -> None:
        namespace.executable, namespace.output = values
        namespace.run = _lazily("toolchain", "package_toolchain")


def _nothing_asked(_arguments: argparse.Namespace) -> int:
    return _parser().error("nothing to do")


def _cache(commands: Any) -> None:
    cache = commands.add_parser("cache", help="how much is stored, and removing what is old or all of it")
    verbs = cache.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, text in (
        ("size", "entries, bytes, limit and last uses of each level of the cache"),
        ("clear", "remove everything that is stored on this machine; shared stores stay as they are"),
        ("evict", "remove what was not used for some time from this machine's disk"),
    ):
        verb = verbs.add_parser(name, help=text, description=text)
        verb.add_argument("--format", choices=("text", "json"), default="text", help="how to answer (default: text)")
        if name != "size":
            levels = "disk or memory" if name == "clear" else "disk"
            verb.add_argument("--level", metavar="NAME", default="", help=f"only this level: {levels}")
        if name == "evict":
            verb.add_argument(
                "--older-than", type=_age, required=True, metavar="AGE", help="such as 30d; w, d, h, m and s count"
            )
        verb.set_defaults(run=_lazily("cache", name))


def _cluster(commands: Any) -> None:
    cluster = commands.add_parser("cluster", help="a whole cluster on this machine")
    verbs = cluster.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
        parser.add_argument("--dir", metavar="DIR", required=True, help="the directory that the cluster lives in")
        parser.set_defaults(run=_lazily("cluster", name))
        return parser

    start = verb("start", "start a scheduler and workers; returns when all of them are ready")
    start.add_argument("--workers", type=_count, default=3, metavar="N", help="how many (default: 3)")
    start.add_argument("--slots", type=_count, default=0, metavar="N", help="jobs at once on each worker")
    status = verb("status", "show what runs")
    status.add_argument("--json", action="store_true", help="for programs")
    add = verb("add", "start one more worker")
    add.add_argument("--name", metavar="N", default="", help="its name (default: the next free worker-N)")
    add.add_argument("--slots", type=_count, default=0, metavar="N", help="jobs at once (default: as the others)")
    remove = verb("remove", "send a worker a signal; TERM lets it finish its jobs and leave")
    remove.add_argument("name", metavar="NAME")
    remove.add_argument("--signal", choices=("TERM", "KILL", "STOP", "CONT"), default="TERM")
    verb("stop", "end everything, the client daemon too")


def _invitations(commands: Any) -> None:
    invite = commands.add_parser(
        "invite", help="on the scheduler's machine: print a line that another machine's join takes"
    )
    invite.add_argument("role", choices=("client", "worker"))
    invite.add_argument("--name", metavar="N", default="", help="the token's name, by which it is listed and revoked")
    invite.add_argument("--config", metavar="FILE", help="the scheduler's file")
    invite.set_defaults(run=_lazily("invitations", "invite"))

    token = commands.add_parser("token", help="on the scheduler's machine: the tokens that are valid")
    verbs = token.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    listing = verbs.add_parser("list", help="names, roles and dates")
    listing.add_argument("--json", action="store_true", help="for programs")
    revoke = verbs.add_parser("revoke", help="end a token")
    revoke.add_argument("name", metavar="NAME")
    for verb, function in ((listing, "token_list"), (revoke, "token_revoke")):
        verb.add_argument("--config", metavar="FILE", help="the scheduler's file")
        verb.set_defaults(run=_lazily("invitations", function))

    join = commands.add_parser("join", help="on another machine: become a client or a worker, with a line of invite's")
    join.add_argument("line", metavar="LINE", help='as "invite" printed it; "-" reads it from standard input')
    join.add_argument("--config", metavar="FILE", help="the file to write")
    join.add_argument("--force", action="store_true", help="replace a file that is there")
    join.add_argument("--name", metavar="N", default="", help="the worker's name (default: this host's)")
    join.set_defaults(run=_lazily("invitations", "join"))


def _drain(commands: Any) -> None:
    drain = commands.add_parser(
        "drain", help="on the scheduler's machine: let a worker finish its jobs and leave, without its getting more"
    )
    drain.add_argument("worker", metavar="WORKER", help="a name, which may be several workers', or a server_id")
    drain.add_argument("--config", metavar="FILE", help="the scheduler's file")
    drain.add_argument("--wait", action="store_true", help="return when it has left")
    drain.add_argument(
        "--timeout",
        type=_seconds,
        default=330.0,
        metavar="SECONDS",
        help="the longest that --wait waits (default: 330, the worker's timers.drain_seconds and half a minute)",
    )
    drain.add_argument("--json", action="store_true", help="for programs")
    drain.set_defaults(run=_lazily("drain", "drain"))


def _trace(commands: Any) -> None:
    trace = commands.add_parser("trace", help="what became of a job: who was asked, what was sent, how long it took")
    what = trace.add_mutually_exclusive_group(required=True)
    what.add_argument("job_id", metavar="JOB_ID", nargs="?", help="the timeline of this job")
    what.add_argument("--last", action="store_true", help="the timeline of the last job")
    what.add_argument("--slowest", type=_count, metavar="N", help="the N jobs of the last build that took longest")
    what.add_argument(
        "--retried", action="store_true", help="the jobs of the last build that were tried again, and why"
    )
    what.add_argument("--chrome", metavar="FILE", help="write the last build as a trace for Chrome or Perfetto")
    trace.add_argument("--all", action="store_true", help="not only the last build")
    trace.add_argument(
        "--journal", metavar="FILE", action="append", default=[], help="read this log.journal too; may be repeated"
    )
    trace.set_defaults(run=_lazily("trace", "trace"))


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return int(text)


def _age(text: str) -> float:
    count, unit = text[:-1], text[-1:]
    if not count.isascii() or not count.isdigit() or unit not in _UNITS or len(count) > 6:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age: write a whole number and w, d, h, m or s, as in 30d")
    return int(count) * _UNITS[unit]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds
