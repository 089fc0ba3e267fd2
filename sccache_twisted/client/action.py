"""From a compilation and its inputs to an action: what the worker runs, in which world.

The command is the user's own, at the user's own paths. Only for ``-march=native`` it is what the user's driver says
that it would run, since the worker's processor is another one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from attrs import evolve, field, frozen

from sccache_twisted.client.calls import Call
from sccache_twisted.client.inputs.gather import Gathered
from sccache_twisted.client.inputs.memo import Changed, FileMemo
from sccache_twisted.client.inputs.walk import Walk
from sccache_twisted.compilers.colour import colour_args
from sccache_twisted.compilers.environment import travelling
from sccache_twisted.compilers.native import NotUnderstood, Plan, parse_commands, plan, query_args, shell_script
from sccache_twisted.interfaces import IProcessRunner
from sccache_twisted.model import Action, Compilation, Digest, Input, RunsLocally
from sccache_twisted.toolchains.elf import read_elf

_OUTPUT_LIMIT = 4 << 20
_SHELL = b"/bin/sh"
_IN_EVERY_TOOLCHAIN = (b"libc.so", b"ld-linux", b"ld64", b"ld.so", b"linux-vdso")


@frozen
class Command:
    """What is run: the program, its words, files that it leaves behind besides the outputs, what the driver said."""

    executable: bytes
    argv: tuple[bytes, ...]
    leftovers: tuple[bytes, ...] = ()
    said: bytes = b""
    inputs: tuple[Input, ...] = field(default=(), repr=False)


class ActionMaker:
    """Makes actions; asks drivers for their own steps where it must."""

    def __init__(self, runner: IProcessRunner, memo: FileMemo) -> None:
        self._runner = runner
        self._memo = memo
        self._shell: tuple[Input, ...] | None = None

    async def command(
        self, call: Call, compilation: Compilation, cwd: bytes, main_output: bytes
    ) -> Command | RunsLocally:
        """The command of a compilation. ``main_output``: the physical path of the object."""
        args = (*compilation.args, *colour_args(compilation, call.stderr_is_tty, call.env))
        compiler = compilation.compiler
        if not compilation.native:
            return Command(compiler.executable, (compiler.argv0, *args))
        try:
            asked = query_args(evolve(compilation, args=args))
            said = await self._runner.run(
                [compiler.argv0, *asked],
                executable=compiler.executable,
                cwd=cwd,
                env=call.env,
                umask=0o077,
                limit=_OUTPUT_LIMIT,
            )
            temporary = call.env.get(b"TMPDIR", b"/tmp").rstrip(b"/")
            steps = plan(parse_commands(said.stderr), (temporary, b"/tmp"), main_output + b".step")
        except NotUnderstood as problem:
            return RunsLocally("native_unknown", str(problem))
        if said.status != 0:
            return RunsLocally("native_unknown", f"the driver's -### ended with status {said.status}.")
        return await self._sequence(steps, _driver_messages(compiler.argv0, said.stderr))

    async def _sequence(self, steps: Plan, said: bytes) -> Command | RunsLocally:
        if len(steps.steps) == 1 and steps.steps[0][0].startswith(b"/"):
            return Command(steps.steps[0][0], steps.steps[0], steps.intermediates, said)
        if self._shell is None:
            shell = await self._shell_inputs()
            if shell is None:
                return RunsLocally("native_unknown", "/bin/sh, which runs the driver's steps, can't be sent along.")
            self._shell = shell
        argv = (b"sh", b"-c", shell_script(steps.steps))
        return Command(_SHELL, argv, steps.intermediates, said, self._shell)

    async def _shell_inputs(self) -> tuple[Input, ...] | None:
        """The shell with its links and libraries; what every toolchain holds is left to the toolchain."""
        elf = read_elf(_SHELL)
        libraries: list[bytes] = []
        if elf is not None and elf.interpreter:
            listed = await self._runner.run(
                [elf.interpreter, b"--list", _SHELL],
                executable=elf.interpreter,
                cwd=b"/",
                env={b"LC_ALL": b"C"},
                umask=0o077,
                limit=_OUTPUT_LIMIT,
            )
            words = [line.split() for line in listed.stdout.splitlines()]
            libraries = [word for line in words for word in line if word.startswith(b"/")]
        walk = Walk()
        files: dict[bytes, Input] = {}
        for path in (_SHELL, *libraries):
            if os.path.basename(path).startswith(_IN_EVERY_TOOLCHAIN):
                continue
            found = walk.file(path)
            if found is None:
                return None
            try:
                files[found[0]] = self._memo.facts(*found).input
            except (Changed, OSError):
                return None
        return (*walk.inputs(), *files.values())


def make_action(
    call: Call, command: Command, gathered: Gathered, toolchain: Digest, cwd: bytes, env: Mapping[bytes, bytes]
) -> Action:
    """The action that a worker gets."""
    return Action(
        toolchain=toolchain,
        executable=command.executable,
        argv=command.argv,
        cwd=cwd,
        env=travelling(env),
        inputs=_merged(gathered.inputs, command.inputs),
        outputs=(*gathered.outputs, *command.leftovers),
        umask=call.umask,
    )


def _merged(inputs: tuple[Input, ...], more: tuple[Input, ...]) -> tuple[Input, ...]:
    if not more:
        return inputs
    known = {item.path for item in inputs}
    return (*inputs, *(item for item in more if item.path not in known))


def _driver_messages(argv0: bytes, chatter: bytes) -> bytes:
    """What the driver itself had to say, which the steps will not say again."""
    mark = os.path.basename(argv0) + b": "
    return b"".join(line + b"\n" for line in chatter.split(b"\n") if line.startswith(mark))
