"""Request bodies, read within limits: bytes, inflated bytes, seconds, JSON values, and memory of all together."""

from __future__ import annotations

import asyncio
import re
import threading
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from serve.http.problems import Fault, ProblemError
from serve.io.json_values import REPEATED, RepeatedKeyError, parse_json

Model = TypeVar("Model", bound=BaseModel)
MAX_FAULTS = 20
_STEP = 1 << 18
MAX_VALUES = 250_000
"""Values of one body; a parser holds the interpreter for about 0.1 microseconds a value, and takes 50 bytes or more."""

_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
"""Escapes of JSON texts: pairs of surrogates, lone ones (in the group), and others."""
_SLICE = 1 << 18
_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_IS_BEFORE_A_VALUE = np.isin(np.arange(256), np.frombuffer(b",[{", np.uint8))


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Most bytes of a body, sent or inflated, most seconds it may take to arrive, and most bytes of all bodies."""

    n_bytes: int = 8 << 20
    seconds: float = 10.0
    n_bytes_of_all: int = 64 << 20


class BodyMemory:
    """What the bodies of all requests hold together; safe between threads."""

    def __init__(self, n_bytes: int) -> None:
        """Begin with nothing held."""
        self._n_bytes, self.n_held = n_bytes, 0
        self._lock = threading.Lock()

    def take(self, n_bytes: int) -> None:
        """Hold more.

        Raises:
            ProblemError: 503 when there is no room.
        """
        with self._lock:
            if self.n_held + n_bytes > self._n_bytes:
                raise ProblemError(503, "too many bodies are being read", retry_after=1)
            self.n_held += n_bytes

    def give_back(self, n_bytes: int) -> None:
        """Hold less."""
        with self._lock:
            self.n_held -= n_bytes


@dataclass(slots=True)
class Body:
    """One request's body; its bytes count as held until it is closed."""

    limits: BodyLimits
    memory: BodyMemory
    is_gzip: bool = False
    sent: bytearray = field(default_factory=bytearray)
    _n_taken: int = 0

    def add(self, part: bytes) -> None:
        """Append what arrived.

        Raises:
            ProblemError: 413 or 503.
        """
        self._take(len(part), len(self.sent) + len(part))
        self.sent += part

    def plain(self) -> bytearray:
        """The body, inflated where it is gzip; for a worker thread.

        Raises:
            ProblemError: 413, 422 or 503.
        """
        return self._inflated() if self.is_gzip else self.sent

    def close(self) -> None:
        """Let go of it; may be called again."""
        n_taken, self._n_taken = self._n_taken, 0
        self.memory.give_back(n_taken)
        self.sent = bytearray()

    def _inflated(self) -> bytearray:
        inflater = zlib.decompressobj(wbits=31)
        plain, rest = bytearray(), bytes(self.sent)
        try:
            while not inflater.eof:
                part = inflater.decompress(rest, _STEP)
                rest = inflater.unconsumed_tail
                if not (part or rest or inflater.eof):
                    raise ProblemError(422, "the body is cut short")
                self._take(len(part), len(plain) + len(part))
                plain += part
            if inflater.unused_data:
                raise ProblemError(422, "something follows the gzip data of the body")
        except zlib.error:
            raise ProblemError(422, "the body is not gzip") from None
        return plain

    def _take(self, n_bytes: int, n_whole: int) -> None:
        if n_whole > self.limits.n_bytes:
            raise too_large(self.limits.n_bytes)
        self.memory.take(n_bytes)
        self._n_taken += n_bytes


async def read_body(
    parts: AsyncIterator[bytes], headers: dict[str, str], limits: BodyLimits, memory: BodyMemory
) -> Body:
    """The body as it arrived; the caller closes it.

    Raises:
        ProblemError: 408, 413, 415 or 503; nothing is held then.
    """
    body = Body(limits, memory, _is_gzip(headers))
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in parts:
                body.add(part)
    except TimeoutError:
        body.close()
        raise ProblemError(408, f"the body did not arrive within {limits.seconds:g} s") from None
    except BaseException:
        body.close()
        raise
    return body


def _is_gzip(headers: dict[str, str]) -> bool:
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ProblemError(415, "expected content-type: application/json")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise ProblemError(415, "expected content-encoding: gzip, or none")
    return encoding == "gzip"


def too_large(n_bytes: int) -> ProblemError:
    """The body has more bytes than this."""
    return ProblemError(413, f"a body may have {n_bytes:,} bytes")


def parse(body: bytes | bytearray, model: type[Model], n_values: int = MAX_VALUES) -> Model:
    """The body as a record; lists stop at their first fault, so that faults are few however long a body is.

    Raises:
        ProblemError: 413 or 422, with where and why, never with what was sent.
    """
    refuse_too_many(body, n_values)
    _refuse_repeated_keys(body)
    try:
        return _validated(body, model)
    except ValidationError as fault:
        found = fault.errors(include_url=False, include_context=False, include_input=False)
        faults = tuple(Fault(_pointer(error["loc"]), _reason(error["type"], error["msg"])) for error in found)
        raise ProblemError(422, "the body can't be used; its first faults are listed", faults[:MAX_FAULTS]) from None


def _refuse_repeated_keys(body: bytes | bytearray) -> None:
    """Refuse an object that names a key twice, so that two readers may see two objects."""
    try:
        parse_json(body.decode())
    except RepeatedKeyError:
        raise ProblemError(422, REPEATED) from None
    except ValueError:
        pass  # the parser of the model says what is wrong


def _validated(body: bytes | bytearray, model: type[Model]) -> Model:
    """The body as a record; lone surrogates, which the parser refuses, are replaced."""
    try:
        return model.model_validate_json(body)
    except ValidationError as fault:
        mended = _ESCAPES.sub(_mended, body) if fault.errors()[0]["type"] == "json_invalid" else body
        if mended == body:
            raise
    return model.model_validate_json(mended)


def _mended(escape: re.Match[bytes]) -> bytes:
    """An escape of a JSON text, U+FFFD where it is a lone surrogate."""
    return b"\\ufffd" if escape[1] else escape[0]


def _pointer(places: tuple[int | str, ...]) -> str:
    """Only names of our own appear in it: unknown ones are ignored, not reported."""
    return "".join(f"/{place}" for place in places)


def _reason(kind: str, message: str) -> str:
    return "not JSON, or nested too deep" if kind == "json_invalid" else message


def refuse_too_many(body: bytes | bytearray, n_values: int = MAX_VALUES) -> None:
    """Refuse a body with more values than this.

    Raises:
        ProblemError: 413.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > n_values and count_values(body, n_values) > n_values:
        raise ProblemError(413, f"a body may have {n_values:,} JSON values")


def count_values(body: bytes | bytearray, enough: int | None = None) -> int:
    """Commas and opening brackets outside of strings, which are at least as many as the values beyond the first.

    Counting ends early once there are more than `enough`. It works in slices, most of the time without the
    interpreter's lock, so that other threads go on.
    """
    data = np.frombuffer(body, np.uint8)
    n, is_inside, is_escaped = 0, False, False
    for start in range(0, len(data), _SLICE):
        part = data[start : start + _SLICE]
        escaped, is_escaped = _escaped(part, is_escaped)
        inside = np.logical_xor.accumulate((part == _QUOTE) & ~escaped) ^ is_inside
        is_inside = bool(inside[-1])
        n += int(np.count_nonzero(_IS_BEFORE_A_VALUE[part] & ~inside))
        if enough is not None and n > enough:
            break
    return n


def _escaped(part: NDArray[np.uint8], is_escaped: bool) -> tuple[NDArray[np.bool_], bool]:
    """Which bytes a backslash before them escapes, and whether the byte after the last one is escaped.

    A byte is escaped where a run of backslashes of odd length ends before it.
    """
    slashes = part == _BACKSLASH
    odd = np.zeros(len(part) + 1, np.bool_)
    odd[0] = is_escaped
    if slashes.any():
        place = np.arange(len(part), dtype=np.int32)
        before = np.int32(-2 if is_escaped else -1)  # a run that began in the slice before is one longer
        last_other = np.maximum.accumulate(np.where(slashes, before, place))
        odd[1:] = ((place - last_other) & 1).astype(np.bool_)
    return odd[:-1], bool(odd[-1])
