"""From a compilation and its inputs to an action: what the worker runs, in which world.

The command is the user's own, at the user's own paths. Only for ``-march=native`` it is what the user's driver says
that it would run, since the worker's processor is another one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from attrs import evolve, frozen

from sccache_twisted.client.calls import Call
from sccache_twisted.client.inputs.question import Gathered
from sccache_twisted.compilers.colour import coloured
from sccache_twisted.compilers.environment import travelling
from sccache_twisted.compilers.native import NotUnderstood, parse_commands, plan, query_args
from sccache_twisted.interfaces import IProcessRunner
from sccache_twisted.model import JOB_TEMPORARY, Action, Compilation, Digest, RunsLocally

_OUTPUT_LIMIT = 4 << 20

Step = tuple[bytes, tuple[bytes, ...]]
"""An absolute path and the words to run it with."""


@frozen
class Command:
    """What is run, one step after the other, and what the driver itself had to say before."""

    steps: tuple[Step, ...]
    said: bytes = b""


async def command_of(runner: IProcessRunner, call: Call, compilation: Compilation, cwd: bytes) -> Command | RunsLocally:
    """The command of a compilation; for this machine's processor the driver is asked for its own steps."""
    args = coloured(compilation.args, compilation, call.stderr_is_tty, call.env)
    compiler = compilation.compiler
    if not compilation.native:
        return Command(((compiler.executable, (compiler.argv0, *args)),))
    try:
        asked = query_args(evolve(compilation, args=args))
        said = await runner.run(
            [compiler.argv0, *asked],
            executable=compiler.executable,
            cwd=cwd,
            env=call.env,
            umask=0o077,
            limit=_OUTPUT_LIMIT,
        )
        temporary = call.env.get(b"TMPDIR", b"").rstrip(b"/")
        steps = plan(parse_commands(said.stderr), (temporary, b"/tmp"), JOB_TEMPORARY + b"/step").steps
    except NotUnderstood as problem:
        return RunsLocally("native_unknown", str(problem))
    if said.status != 0:
        return RunsLocally("native_unknown", f"the driver's -### ended with status {said.status}.")
    programs = [_program(words[0], cwd, call.env) for words in steps]
    found = tuple((program, words) for program, words in zip(programs, steps, strict=True) if program)
    if len(found) < len(steps):
        return RunsLocally("native_unknown", "a program that the driver would run is not in PATH.")
    return Command(found, _driver_messages(compiler.argv0, said.stderr))


def make_action(
    call: Call, compilation: Compilation, command: Command, gathered: Gathered, toolchain: Digest, cwd: bytes
) -> Action:
    """The action that a worker gets."""
    (executable, argv), *then = command.steps
    outputs = zip(gathered.outputs, compilation.outputs, strict=True)
    return Action(
        toolchain=toolchain,
        executable=executable,
        argv=argv,
        cwd=cwd,
        env=travelling(call.env),
        inputs=gathered.inputs,
        outputs=gathered.outputs,
        umask=call.umask,
        then=tuple(then),
        optional=frozenset(place for place, output in outputs if not output.required),
    )


def _program(name: bytes, cwd: bytes, env: Mapping[bytes, bytes]) -> bytes:
    """What the driver's execvp would run; empty if there is nothing."""
    if name.startswith(b"/"):
        return name
    if b"/" in name:
        return cwd.rstrip(b"/") + b"/" + name
    for directory in env.get(b"PATH", b"/bin:/usr/bin").split(b":"):
        path = directory + b"/" + name
        if path.startswith(b"/") and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return b""


_PAINT = rb"\x1b\[[\d;]*[mK]"
"""What colours words on a terminal."""


def _driver_messages(argv0: bytes, chatter: bytes) -> bytes:
    """What the driver itself had to say, which the steps will not say again."""
    # clang calls itself by the name of its program, whichever link it was called by.
    name = re.escape(os.path.basename(argv0))
    mark = re.compile(rb"(?:%b)*(?:%b|clang[\w.+-]*):(?:%b)* " % (_PAINT, name, _PAINT))
    return b"".join(line + b"\n" for line in chatter.split(b"\n") if mark.match(line))
