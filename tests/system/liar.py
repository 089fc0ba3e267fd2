"""A worker that lies: ``python liar.py LIE_FILE twistd …`` is that twistd, and what it answers is as LIE_FILE says.

Everything but the lie is the product's own: service, slots, stores, sandbox and TLS. The file holds JSON, read anew for
each job: ``lie``, a name of ``LIES``, and ``elsewhere``, a path that no job has any business with.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import zstandard
from attrs import evolve, frozen
from twisted.scripts import twistd

from sccache_twisted.errors import NoWorkers, StillQueued, UnknownAttempt
from sccache_twisted.model import Action, ActionResult, FileInput, OutputFile
from sccache_twisted.wire.frames import FrameDecoder, encode_frame
from sccache_twisted.wire.http import parse_digest
from sccache_twisted.wire.jobs import (
    RESULT,
    decode_answer,
    encode_failure,
    encode_missing,
    encode_progress,
    encode_result,
)
from sccache_twisted.worker import service
from sccache_twisted.worker.jobs import Jobs

LIMIT = 4 << 30
RLE_BLOCK = 128 << 10
"""The most that a block of zstd's, four bytes of it, expands to."""


@frozen
class Answer:
    """An honest answer about to be sent: its last frame, what that says, and a path where nothing is to be written."""

    frame: bytes
    result: ActionResult
    elsewhere: bytes

    @property
    def output(self) -> OutputFile:
        """The first output: the object."""
        return self.result.outputs[0]

    def with_outputs(self, *outputs: OutputFile) -> bytes:
        """The frame of the result with other outputs."""
        return encode_result(evolve(self.result, outputs=outputs), 1)

    def with_more(self, path: bytes) -> bytes:
        """The frame of the result with one output more."""
        return self.with_outputs(*self.result.outputs, OutputFile(path, b"canary"))

    def with_field(self, name: str, value: object) -> bytes:
        """The frame of the result with a field that says something else."""
        ((_, payload),) = FrameDecoder(LIMIT).feed(self.frame)
        told = msgpack.unpackb(zstandard.ZstdDecompressor().decompress(payload))
        return packed({**told, name: value})


def packed(value: object) -> bytes:
    """A result frame with this in it."""
    return encode_frame(RESULT, zstandard.ZstdCompressor().compress(msgpack.packb(value)))


def expanding(announced: int | None, size: int) -> bytes:
    """A result frame that is small and expands to ``size`` zeros, whatever it announces."""
    descriptor, told = (0xC0, struct.pack("<Q", announced)) if announced is not None else (0, b"")
    window = b"\x38"  # 128 KiB
    count = size // RLE_BLOCK
    blocks = [(RLE_BLOCK << 3 | 1 << 1 | (at == count - 1)).to_bytes(3, "little") + b"\0" for at in range(count)]
    return encode_frame(RESULT, b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + window + told + b"".join(blocks))


def many_lists(count: int) -> bytes:
    """A result frame with this many empty lists, a byte each, that Python would need sixty bytes each for."""
    inner = b"\xdc" + struct.pack(">H", 1 << 10) + b"\x90" * (1 << 10)
    lists = b"\xdd" + struct.pack(">I", count >> 10) + inner * (count >> 10)
    return encode_frame(RESULT, zstandard.ZstdCompressor().compress(lists))


LIES: dict[str, Callable[[Answer], bytes]] = {
    # Outputs.
    "an output too many": lambda answer: answer.with_more(answer.output.path + b".extra"),
    "an output elsewhere": lambda answer: answer.with_more(answer.elsewhere),
    "an output above": lambda answer: answer.with_more(
        os.path.dirname(answer.output.path) + b"/../" + os.path.basename(answer.elsewhere)
    ),
    "an output twice": lambda answer: answer.with_outputs(*answer.result.outputs, answer.output),
    "no output at all": lambda answer: answer.with_outputs(),
    "no depfile": lambda answer: answer.with_outputs(answer.output),
    # Values.
    "status 999": lambda answer: answer.with_field("exit_code", 999),
    "a status in words": lambda answer: answer.with_field("exit_code", "0"),
    "a mode in words": lambda answer: answer.with_field("outputs", [(answer.output.path, "rwx", b"")]),
    "an output without content": lambda answer: answer.with_field("outputs", [(answer.output.path, 0o120777)]),
    "outputs as a map": lambda answer: answer.with_field("outputs", {answer.output.path: answer.output.data}),
    "a number": lambda _: packed(7),
    # Frames.
    "half a frame": lambda answer: answer.frame[: len(answer.frame) // 2],
    "no frame": lambda _: b"",
    "an empty frame": lambda _: b"\0\0\0\0",
    "a frame of 2 GiB": lambda _: struct.pack(">I", 2 << 30) + RESULT + bytes(1000),
    "a frame of unknown kind": lambda answer: encode_frame(b"?", answer.frame[5:]),
    "progress that is garbage": lambda answer: encode_frame(b"p", b"\xc1") + answer.frame,
    "a result that is garbage": lambda _: encode_frame(RESULT, b"garbage"),
    "msgpack that is garbage": lambda _: encode_frame(RESULT, zstandard.ZstdCompressor().compress(b"\xc1garbage")),
    "a failure that is garbage": lambda _: encode_frame(b"e", b"\xc1"),
    "a frame behind the end": lambda answer: answer.frame + encode_progress("running"),
    "bytes behind the end": lambda answer: answer.frame + b"\0",
    "two results": lambda answer: answer.frame * 2,
    # Sizes.
    "a bomb of 3 GiB": lambda _: expanding(3 << 30, 3 << 30),
    "a bomb that says it is small": lambda _: expanding(1000, 1 << 30),
    "a bomb that says nothing": lambda _: expanding(None, 1 << 30),
    "a bomb of lists": lambda _: many_lists(8 << 20),
    # What is not a worker's to say.
    "that there are no workers": lambda _: encode_failure(NoWorkers()),
    "that the job is queued": lambda _: encode_failure(StillQueued()),
    "that it never heard of it": lambda _: encode_failure(UnknownAttempt()),
    # Inputs, of which LyingJobs tells.
    "inputs missing for ever": lambda answer: answer.frame,
    "inputs missing that are none": lambda answer: answer.frame,
    "no inputs missing": lambda _: encode_missing([]),
    # Silence, which Talk keeps.
    "nothing at all": lambda answer: answer.frame,
    "nothing more": lambda answer: answer.frame,
    # And its opposite.
    "progress for ever": lambda answer: answer.frame,
    # What is no lie.
    "the truth": lambda answer: answer.frame,
    "an impossible mode": lambda answer: answer.with_outputs(
        *(evolve(output, mode=0o7777777) for output in answer.result.outputs)
    ),
}


class Talk:
    """A client's request, told something else. See ITalk."""

    def __init__(self, talk: Any, lie: str, elsewhere: bytes) -> None:
        self._talk = talk
        self._lie = lie
        self._elsewhere = elsewhere
        self._said = False

    def send(self, frame: bytes) -> None:
        """Progress."""
        if self._lie != "nothing at all" and not (self._lie == "nothing more" and self._said):
            self._said = True
            self._talk.send(frame)

    def end(self, frame: bytes) -> None:
        """The last frame."""
        if self._lie.startswith("nothing "):
            return
        if self._lie == "progress for ever":
            from twisted.internet import reactor  # installed by twistd

            self._talk.send(encode_progress("running"))
            reactor.callLater(0.5, self.end, frame)
            return
        ((kind, payload),) = FrameDecoder(LIMIT).feed(frame)
        if kind != RESULT:
            self._talk.end(frame)
            return
        result = decode_answer(kind, payload, LIMIT)
        assert isinstance(result, ActionResult)
        self._talk.end(LIES[self._lie](Answer(frame, result, self._elsewhere)))

    def abort(self) -> None:
        """Hang up."""
        self._talk.abort()


class LyingJobs(Jobs):
    """The jobs of a worker that lies as ``file`` says."""

    file: Path

    def told(self) -> tuple[str, bytes]:
        """The lie of the day."""
        told = json.loads(self.file.read_text())
        return told["lie"], os.fsencode(told["elsewhere"])

    def claim(self, attempt: Any, token: str, body: bytes, talk: Any) -> int:
        """A client has sent its job."""
        return super().claim(attempt, token, body, Talk(talk, *self.told()))

    def _unpack(self, body: bytes) -> tuple[Action, list[Any]]:
        action, absent = super()._unpack(body)
        lie, _ = self.told()
        if lie == "inputs missing for ever":
            absent = [entry.digest for entry in action.inputs if isinstance(entry, FileInput)]
        elif lie == "inputs missing that are none":
            absent = [parse_digest("0" * 64)]
        return action, absent


def main() -> None:
    """Be twistd."""
    LyingJobs.file = Path(sys.argv[1])
    service.Jobs = LyingJobs  # type: ignore[misc]
    sys.argv = sys.argv[2:]
    twistd.run()


if __name__ == "__main__":
    main()
