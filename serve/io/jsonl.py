"""Jsonl: exchanges from JSONL, plain or gzipped, one JSON object a line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from serve.io.discovery import InputError, Slice, fault_text
from serve.io.timestamps import json_times
from serve.io.validation import Batch, Rows, filled

MAX_LINE_BYTES = 16 << 20
NOT_ROWS = ("not UTF-8", "not JSON", "not a JSON object", f"line is longer than {MAX_LINE_BYTES >> 20} MiB")
"""Reasons that reject a line before it has columns."""

_BLOCK_BYTES = 4 << 20
_BOM = b"\xef\xbb\xbf"


def read_lines(part: Slice) -> Iterator[Batch]:
    """Rows of a slice of lines, see `exchanges.read`."""
    n_lines = 0
    for lines in _line_blocks(part):
        yield _parse(lines, n_lines, dict(part.source.fixed))
        n_lines += len(lines)


def _line_blocks(part: Slice) -> Iterator[list[bytes]]:
    """Whole lines without their ends, some megabytes at a time; of a line beyond the limit only the beginning."""
    path, n_lines = part.source.path, 0
    try:
        with _open(part) as stream:
            rest = b""
            for block in _blocks(stream, part):
                whole, end, rest = (rest + block).rpartition(b"\n")
                if end:
                    lines = whole.split(b"\n")
                    n_lines += len(lines)
                    yield lines
                rest = rest[: MAX_LINE_BYTES + 1]
            if rest:
                yield [rest]
    except (OSError, EOFError, zlib.error) as fault:  # gzip: EOFError where it is truncated, the others where corrupt
        raise InputError(f"{path}: can't be read beyond line {n_lines}: {fault_text(fault)}") from fault


def _open(part: Slice) -> BinaryIO:
    if part.source.kind == "gzip":
        return gzip.open(part.source.path, "rb")  # type: ignore[return-value]
    stream = Path(part.source.path).open("rb")  # noqa: SIM115 (the caller closes it)
    stream.seek(part.start)
    return stream


def _blocks(stream: BinaryIO, part: Slice) -> Iterator[bytes]:
    """The bytes of the slice, without a byte order mark."""
    left = part.stop - part.start if part.source.kind == "jsonl" else None
    first = part.start == 0
    while block := stream.read(_BLOCK_BYTES if left is None else min(_BLOCK_BYTES, left)):
        left = None if left is None else left - len(block)
        yield block.removeprefix(_BOM) if first else block
        first = False
    if left:
        raise InputError(f"{part.source.path}: is {left} bytes shorter than when the job began")


def _parse(lines: Sequence[bytes], n_before: int, fixed: Mapping[str, str]) -> Batch:
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    rejects: dict[int, str] = {}
    for number, line in enumerate(lines, n_before + 1):
        try:
            row = json.loads(line.decode()) if len(line) <= MAX_LINE_BYTES else None
        except (ValueError, RecursionError) as fault:
            if line.strip():
                rejects[number] = NOT_ROWS[0] if isinstance(fault, UnicodeDecodeError) else NOT_ROWS[1]
            continue
        if type(row) is dict:
            rows.append(row)
            numbers.append(number)
        else:
            rejects[number] = NOT_ROWS[2] if len(line) <= MAX_LINE_BYTES else NOT_ROWS[3]
    return _of_json(rows, numbers, fixed).checked(rejects, len(lines))


def _of_json(rows: list[dict[str, Any]], numbers: list[int], fixed: Mapping[str, str]) -> Rows:
    faults: dict[int, str] = {}
    texts = {
        name: _json_texts(name, [row.get(name) for row in rows], faults)
        for name in ("account_id", "prompt", "session_id")
    }
    return Rows(
        lines=np.array(numbers, dtype=np.int64),
        account_id=filled(texts["account_id"], fixed.get("account_id")),
        session_id=filled(texts["session_id"], fixed.get("session_id")),
        at=json_times([row.get("at") for row in rows], faults),
        prompt=texts["prompt"],
        faults=faults,
    )


def _json_texts(name: str, values: list[Any], faults: dict[int, str]) -> pa.Array:
    """A column of texts, null where there is none or it isn't one."""
    if not set(map(type, values)) <= {str, NoneType}:
        for row, value in enumerate(values):
            if value is not None and type(value) is not str:
                faults.setdefault(row, f"{name} is of type {type(value).__name__}, expected str")
                values[row] = None
    try:
        return pa.array(values, pa.large_string())
    except UnicodeEncodeError:
        return pa.array([_encodable(name, row, value, faults) for row, value in enumerate(values)], pa.large_string())


def _encodable(name: str, row: int, value: str | None, faults: dict[int, str]) -> str | None:
    try:
        if value is not None:
            value.encode()
    except UnicodeEncodeError:
        faults.setdefault(row, f"{name} holds a lone surrogate")
        return None
    return value
