"""Request bodies: what a request carries, read within limits: bytes, inflated bytes, seconds and depth."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from serve.http.problems import Fault, ProblemError

Model = TypeVar("Model", bound=BaseModel)
MAX_FAULTS = 20


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Most bytes of a body, sent or inflated, and most seconds that it may take to arrive."""

    n_bytes: int = 8 << 20
    seconds: float = 10.0


async def read_body(parts: AsyncIterator[bytes], headers: dict[str, str], limits: BodyLimits) -> bytes:
    """The body, inflated where it is gzip.

    Raises:
        ProblemError: 408, 413, 415 or 422.
    """
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ProblemError(415, "expected content-type: application/json")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise ProblemError(415, "expected content-encoding: gzip, or none")
    body = await _gathered(parts, limits)
    return _inflated(body, limits.n_bytes) if encoding == "gzip" else body


async def _gathered(parts: AsyncIterator[bytes], limits: BodyLimits) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in parts:
                body += part
                if len(body) > limits.n_bytes:
                    raise too_large(limits.n_bytes)
    except TimeoutError:
        raise ProblemError(408, f"the body did not arrive within {limits.seconds:g} s") from None
    return bytes(body)


def too_large(n_bytes: int) -> ProblemError:
    """The body has more bytes than this."""
    return ProblemError(413, f"a body may have {n_bytes:,} bytes")


def _inflated(body: bytes, n_bytes: int) -> bytes:
    """Never holds more than `n_bytes` and one, whatever was promised."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(body, n_bytes + 1)
    except zlib.error:
        raise ProblemError(422, "the body is not gzip") from None
    if len(plain) > n_bytes:
        raise too_large(n_bytes)
    if not inflater.eof:
        raise ProblemError(422, "the body is cut short")
    return plain


def parse(body: bytes, model: type[Model]) -> Model:
    """The body as a record.

    Raises:
        ProblemError: 422, with where and why, never with what was sent.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as fault:
        found = fault.errors(include_url=False, include_context=False, include_input=False)
        faults = tuple(
            Fault(_pointer(error["loc"]), _told(error["type"], error["msg"])) for error in found[:MAX_FAULTS]
        )
        raise ProblemError(422, f"the body can't be used in {len(found)} places", faults) from None


def _pointer(places: tuple[int | str, ...]) -> str:
    """Only names of our own appear in it: unknown ones are ignored, not reported."""
    return "".join(f"/{place}" for place in places)


def _told(kind: str, message: str) -> str:
    return "not JSON, or nested too deep" if kind == "json_invalid" else message
