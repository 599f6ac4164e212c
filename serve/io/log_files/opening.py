"""Opening: a file's bytes and text, compressed or not, in any of the usual encodings."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

MAX_RECORD_CHARS = 64 << 20
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_ENCODINGS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class LogError(ValueError):
    """A log that can't be read on: names the file and says why; never quotes it."""


def open_bytes(path: Path, opened: Callable[[pa.OSFile], None] | None = None) -> BinaryIO:
    """The bytes of a file, without the compression that its first bytes show; `opened` is given the file itself.

    Raises:
        LogError: when it can't be opened.
    """
    try:
        raw = pa.OSFile(str(path))
        if opened:
            opened(raw)
        head = raw.read(4)
        codec = next((codec for magic, codec in _MAGIC.items() if head.startswith(magic)), None)
        raw.seek(0)
        stream = pa.CompressedInputStream(raw, codec) if codec else raw
    except (OSError, pa.ArrowException) as fault:
        raise LogError(f"{path}: can't be opened: {_said(fault)}") from None
    return io.BufferedReader(stream, 1 << 20) if codec else stream


def open_text(path: Path, opened: Callable[[pa.OSFile], None] | None = None) -> io.TextIOWrapper:
    """The text of a file in the encoding that its first bytes show; what can't be decoded becomes lone surrogates.

    Raises:
        LogError: when it can't be opened.
    """
    head = first_bytes(path)
    encoding = next((name for mark, name in _ENCODINGS if head.startswith(mark)), _without_mark(head))
    return io.TextIOWrapper(open_bytes(path, opened), encoding=encoding, errors="surrogateescape", newline=None)


def first_bytes(path: Path) -> bytes:
    """The first four bytes of a file, fewer where it is shorter.

    Raises:
        LogError: when it can't be read.
    """
    with open_bytes(path) as stream:
        try:
            return stream.read(4)
        except (OSError, pa.ArrowException) as fault:
            raise LogError(f"{path}: can't be read: {_said(fault)}") from None


def _without_mark(head: bytes) -> str:
    """The encoding of a file without a byte order mark: zeros beside ASCII give UTF-16 away."""
    if len(head) >= 4 and head[1] == head[3] == 0 and head[0]:
        return "utf-16-le"
    return "utf-16-be" if len(head) >= 4 and head[0] == head[2] == 0 and head[1] else "utf-8"


def _said(fault: BaseException) -> str:
    text = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
    return " ".join(text.split())[:120]


def read_chars(stream: io.TextIOWrapper, n_chars: int, path: Path) -> str:
    """Up to `n_chars` of a text.

    Raises:
        LogError: when it can't be read on.
    """
    return _read_on(stream.read, n_chars, path)


def read_line(stream: io.TextIOWrapper, path: Path) -> str:
    """The next line with its end, of a very long one up to `MAX_RECORD_CHARS`.

    Raises:
        LogError: when it can't be read on.
    """
    return _read_on(stream.readline, MAX_RECORD_CHARS, path)


def _read_on(read: Callable[[int], str], n_chars: int, path: Path) -> str:
    try:
        return read(n_chars)
    except (OSError, EOFError, UnicodeError, pa.ArrowException) as fault:
        raise LogError(f"{path}: can't be read: {type(fault).__name__}") from None
