"""An action and its answer as bytes: msgpack inside zstd, every size bounded while decoding.

Knows the shapes that conversation 4 of ``wire`` names. Refuses to know what is done with them. Everything a
peer sends is checked here for type and size, so that the rooms above hold only well-formed values.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import msgpack
import zstandard
from attrs import frozen

from sccache_twisted.errors import Malformed, SccacheTwistedError, TooLarge, from_wire
from sccache_twisted.model import (
    Action,
    ActionResult,
    Digest,
    DirectoryInput,
    FileInput,
    Input,
    LinkInput,
    OutputFile,
    RunFigures,
)
from sccache_twisted.wire.frames import encode_frame
from sccache_twisted.wire.http import parse_digest

PROGRESS = b"p"
MISSING = b"m"
FAILURE = b"e"
RESULT = b"r"

MAX_ITEMS = 1 << 18
"""Most values of any kind in an answer: a value may take one byte on the wire, and sixty in memory."""

_LENGTH = struct.Struct(">I")
_MAX_HEADER = 128 << 20
_ITEMS_OF_JOB = 1 << 20
_ITEMS_OF_INPUT = 8


@frozen
class Progress:
    """The attempt is alive and in this phase."""

    phase: str


@frozen
class Missing:
    """The worker lacks these blobs; the attempt is leased still."""

    digests: tuple[Digest, ...]


# --- the request ----------------------------------------------------------------------------------


def encode_job(action: Action, blobs: Sequence[tuple[Digest, bytes]], level: int) -> bytes:
    """The body of a job request: the action, and the blobs that travel with it. CPU-bound: call it in a thread."""
    header = _pack(
        {
            "toolchain": bytes.fromhex(action.toolchain),
            "executable": action.executable,
            "argv": action.argv,
            "cwd": action.cwd,
            "env": action.env,
            "inputs": [_pack_input(entry) for entry in action.inputs],
            "outputs": action.outputs,
            "umask": action.umask,
            "memory": action.memory_bytes,
            "then": action.then,
            "blobs": [(bytes.fromhex(digest), len(data)) for digest, data in blobs],
        }
    )
    size = _LENGTH.size + len(header) + sum(len(data) for _, data in blobs)
    compressor = zstandard.ZstdCompressor(level=level).compressobj(size=size)
    parts = [compressor.compress(_LENGTH.pack(len(header)) + header)]
    parts.extend(compressor.compress(data) for _, data in blobs)
    parts.append(compressor.flush())
    return b"".join(parts)


def decode_job(body: bytes, *, max_plain: int, max_inputs: int) -> tuple[Action, tuple[tuple[Digest, bytes], ...]]:
    """The action in a request's body and the blobs behind it; raises Malformed or TooLarge."""
    plain = memoryview(_decompress(body, max_plain, "A job request"))
    if len(plain) < _LENGTH.size:
        raise Malformed("A job request ends before its header.")
    (length,) = _LENGTH.unpack_from(plain)
    if length > min(_MAX_HEADER, len(plain) - _LENGTH.size):
        raise Malformed("A job request ends before its header does.")
    at = _LENGTH.size + length
    items = _ITEMS_OF_JOB + _ITEMS_OF_INPUT * max_inputs
    header = _Map(_unpack(plain[_LENGTH.size : at], "A job's header", items), "A job's header")
    inputs = header.list("inputs")
    if len(inputs) > max_inputs:
        raise TooLarge(f"A job with {len(inputs)} inputs is over the limit of {max_inputs}.")
    action = Action(
        toolchain=_digest(header.bytes("toolchain")),
        executable=header.bytes("executable"),
        argv=_all_bytes(header.list("argv"), "argv"),
        cwd=header.bytes("cwd"),
        env=tuple(_pair(entry, "env") for entry in header.list("env")),
        inputs=tuple(_unpack_input(entry) for entry in inputs),
        outputs=_all_bytes(header.list("outputs"), "outputs"),
        umask=header.integer("umask") & 0o777,
        memory_bytes=header.integer("memory"),
        then=tuple(_command(entry) for entry in header.list("then")),
    )
    return action, tuple(_blobs(header.list("blobs"), plain, at))


def _blobs(announced: Sequence[Any], plain: memoryview, at: int) -> Iterator[tuple[Digest, bytes]]:
    for entry in announced:
        match entry:
            case [bytes(digest), int(size)] if 0 <= size <= len(plain) - at:
                yield _digest(digest), bytes(plain[at : at + size])
                at += size
            case _:
                raise Malformed("A job request ends before the blobs that it announces.")
    if at != len(plain):
        raise Malformed("A job request has bytes behind its last blob.")


def _pack_input(entry: Input) -> tuple[Any, ...]:
    match entry:
        case FileInput(path, digest, size, mtime_ns, executable):
            return (path, bytes.fromhex(digest), size, mtime_ns, executable)
        case LinkInput(path, target):
            return (path, target)
        case DirectoryInput(path):
            return (path,)


def _unpack_input(entry: Any) -> Input:
    match entry:
        case [bytes(path), bytes(digest), int(size), int(mtime_ns), bool(executable)] if size >= 0:
            return FileInput(path, _digest(digest), size, mtime_ns, executable)
        case [bytes(path), bytes(target)]:
            return LinkInput(path, target)
        case [bytes(path)]:
            return DirectoryInput(path)
        case _:
            raise Malformed("An input of a job is neither file, link nor directory.")


def _command(entry: Any) -> tuple[bytes, tuple[bytes, ...]]:
    match entry:
        case [bytes(executable), [*argv]]:
            return executable, _all_bytes(argv, "argv")
        case _:
            raise Malformed("A further command of a job is not an executable and its argv.")


# --- the answer -----------------------------------------------------------------------------------


def encode_progress(phase: str) -> bytes:
    """A progress frame."""
    return encode_frame(PROGRESS, _pack({"phase": phase}))


def encode_missing(digests: Iterable[Digest]) -> bytes:
    """The frame that asks for blobs."""
    return encode_frame(MISSING, _pack([bytes.fromhex(digest) for digest in digests]))


def encode_failure(error: SccacheTwistedError) -> bytes:
    """The frame that ends an attempt with an error."""
    return encode_frame(FAILURE, _pack({"code": error.code, "sentence": error.sentence}))


def encode_result(result: ActionResult, level: int) -> bytes:
    """The frame that ends an attempt with the compiler's answer. CPU-bound: call it in a thread when it is large."""
    figures = result.figures
    plain = _pack(
        {
            "exit_code": result.exit_code,
            "stdout": result.stdout,
            "stderr": result.stderr,
            "outputs": [(output.path, output.mode, output.data) for output in result.outputs],
            "undeclared": result.undeclared,
            "figures": (
                figures.prepare_seconds,
                figures.wall_seconds,
                figures.cpu_seconds,
                figures.peak_memory_bytes,
            ),
        }
    )
    return encode_frame(RESULT, zstandard.ZstdCompressor(level=level).compress(plain))


def decode_answer(kind: bytes, payload: bytes, max_plain: int) -> Progress | Missing | ActionResult:
    """What a frame of the answer says; raises the error that the worker reported, Malformed, or TooLarge."""
    if kind == RESULT:
        return _decode_result(_decompress(payload, max_plain, "A result"))
    if kind == MISSING:
        digests = _unpack(payload, "A list of missing blobs")
        if not isinstance(digests, list):
            raise Malformed("A list of missing blobs is not a list.")
        return Missing(tuple(_digest(digest) for digest in digests))
    if kind == PROGRESS:
        return Progress(_Map(_unpack(payload, "A progress frame"), "A progress frame").text("phase"))
    if kind == FAILURE:
        failure = _Map(_unpack(payload, "A failure frame"), "A failure frame")
        raise from_wire(failure.text("code"), failure.text("sentence"))
    raise Malformed(f"The worker sent a frame of unknown kind {kind!r}.")


def _decode_result(plain: bytes) -> ActionResult:
    result = _Map(_unpack(plain, "A result"), "A result")
    match result.list("figures"):
        case [int() | float() as prepare, int() | float() as wall, int() | float() as cpu, int(memory)]:
            figures = RunFigures(float(prepare), float(wall), float(cpu), memory)
        case _:
            raise Malformed("A result's figures are not four numbers.")
    return ActionResult(
        exit_code=result.integer("exit_code"),
        stdout=result.bytes("stdout"),
        stderr=result.bytes("stderr"),
        outputs=tuple(_output(entry) for entry in result.list("outputs")),
        figures=figures,
        undeclared=_all_bytes(result.list("undeclared"), "undeclared"),
    )


def _output(entry: Any) -> OutputFile:
    match entry:
        case [bytes(path), int(mode), bytes(data)]:
            return OutputFile(path, data, mode & 0o777)
        case _:
            raise Malformed("An output in a result is not path, mode and content.")


# --- below both -----------------------------------------------------------------------------------


def _pack(value: Any) -> bytes:
    packed = msgpack.packb(value, use_bin_type=True)
    if not isinstance(packed, bytes):
        raise TypeError("msgpack gave no bytes")
    return packed


def _unpack(data: bytes | memoryview, what: str, most: int = MAX_ITEMS) -> Any:
    """Decode msgpack that holds at most so many values; more are refused before they have all been made."""
    left = most

    def counted(container: Any) -> Any:
        nonlocal left
        left -= 1 + len(container)
        if left < 0:
            raise TooLarge(f"{what} holds more than {most} values.")
        return container

    try:
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_ext_len=0,
            max_array_len=most,
            max_map_len=most,
            list_hook=counted,
            object_hook=counted,
        )
    except (ValueError, UnicodeDecodeError, msgpack.exceptions.UnpackException):
        raise Malformed(f"{what} is not valid msgpack.") from None


def _decompress(data: bytes, limit: int, what: str) -> bytes:
    """Decompress one zstd frame. It must announce its size, so a bomb is refused before a byte of it is decoded."""
    try:
        size = zstandard.get_frame_parameters(data).content_size
        if size == zstandard.CONTENTSIZE_UNKNOWN:
            raise Malformed(f"{what} does not say how large it is.")
        if size > limit:
            raise TooLarge(f"{what} of {size} bytes is over the limit of {limit}.")
        plain = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError:
        raise Malformed(f"{what} is not one whole zstd frame.") from None
    return plain


def _digest(raw: Any) -> Digest:
    if not isinstance(raw, bytes):
        raise Malformed("A digest is not 32 bytes.")
    return parse_digest(raw.hex())


def _pair(entry: Any, what: str) -> tuple[bytes, bytes]:
    match entry:
        case [bytes(first), bytes(second)]:
            return first, second
        case _:
            raise Malformed(f"{what} holds something other than pairs of bytes.")


def _all_bytes(entries: Sequence[Any], what: str) -> tuple[bytes, ...]:
    if not all(isinstance(entry, bytes) for entry in entries):
        raise Malformed(f"{what} holds something other than bytes.")
    return tuple(entries)


class _Map:
    """A decoded map whose fields are taken out by type."""

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise Malformed(f"{what} is not a map.")
        self._value = value
        self._what = what

    def _wrong(self, name: str) -> NoReturn:
        raise Malformed(f"{self._what} has no valid {name!r}.")

    def bytes(self, name: str) -> bytes:
        value = self._value.get(name)
        return value if isinstance(value, bytes) else self._wrong(name)

    def text(self, name: str) -> str:
        value = self._value.get(name)
        return value if isinstance(value, str) else self._wrong(name)

    def integer(self, name: str) -> int:
        value = self._value.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else self._wrong(name)

    def list(self, name: str) -> list[Any]:
        value = self._value.get(name)
        return value if isinstance(value, list) else self._wrong(name)
