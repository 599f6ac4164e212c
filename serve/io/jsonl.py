"""Jsonl: exchanges from JSONL, plain or gzipped, one JSON object a line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from serve.io.discovery import InputError, Slice, fault_text
from serve.io.json_values import NOT_JSON, REPEATED, json_fault, parse_json
from serve.io.logs.values import text_id
from serve.io.timestamps import json_times
from serve.io.validation import REPLACED, SCHEMA, Batch, Rows, filled, ids
from serve.sessions.prompt_text import storable

MAX_LINE_BYTES = 16 << 20
_NOT_UTF8, _NOT_OBJECT = "not UTF-8", "not a JSON object"
_TOO_LONG = f"line is longer than {MAX_LINE_BYTES >> 20} MiB"
NOT_ROWS = (_NOT_UTF8, NOT_JSON, REPEATED, _NOT_OBJECT, _TOO_LONG)
"""Reasons that reject a line before it has columns."""

_BLOCK_BYTES = 4 << 20
_BOM = b"\xef\xbb\xbf"
_QUOTED = tuple(f'"{name}"'.encode() for name in SCHEMA.names)
_ESCAPED_ASCII = b"\\u00"


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
            row = _value(line) if len(line) <= MAX_LINE_BYTES else None
        except ValueError as fault:
            if line.strip():
                rejects[number] = _NOT_UTF8 if isinstance(fault, UnicodeDecodeError) else json_fault(fault)
            continue
        if type(row) is dict:
            rows.append(row)
            numbers.append(number)
        else:
            rejects[number] = _NOT_OBJECT if len(line) <= MAX_LINE_BYTES else _TOO_LONG
    return _of_json(rows, numbers, fixed).checked(rejects, len(lines))


def _value(line: bytes) -> Any:
    """The JSON value of a line; only where a column may come twice, the slower reader that would notice is used."""
    text = line.decode()
    if any(line.count(name) > 1 for name in _QUOTED) or _ESCAPED_ASCII in line:
        return parse_json(text)
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError):  # a long integer, or deep nesting, in what may be of no interest
        return parse_json(text)


def _of_json(rows: list[dict[str, Any]], numbers: list[int], fixed: Mapping[str, str]) -> Rows:
    faults: dict[int, str] = {}
    notes: Counter[str] = Counter()
    account_id = _ids("account_id", [row.get("account_id") for row in rows], faults)
    session_id = _ids("session_id", [row.get("session_id") for row in rows], faults)
    return Rows(
        lines=np.array(numbers, dtype=np.int64),
        account_id=filled(account_id, fixed.get("account_id")),
        session_id=filled(session_id, fixed.get("session_id")),
        at=json_times([row.get("at") for row in rows], notes),
        prompt=_prompts([row.get("prompt") for row in rows], faults, notes),
        faults=faults,
        notes=notes,
    )


def _ids(name: str, values: list[Any], faults: dict[int, str]) -> pa.Array:
    """A column of ids as texts, null where there is none or it isn't one."""
    if set(map(type, values)) <= {str, NoneType}:
        try:
            return ids(pa.array(values, pa.large_string()))
        except UnicodeEncodeError:
            pass  # some id has a lone surrogate: look at each
    found = list(map(text_id, values))
    for row, value in enumerate(values):
        if found[row] is None and value is not None and type(value) is not str:
            faults.setdefault(row, f"{name} is of type {type(value).__name__}, expected str")
    return pa.array(found, pa.large_string())


def _prompts(values: list[Any], faults: dict[int, str], notes: Counter[str]) -> pa.Array:
    """A column of texts, null where there is none or it isn't one."""
    if not set(map(type, values)) <= {str, NoneType}:
        for row, value in enumerate(values):
            if value is not None and type(value) is not str:
                faults.setdefault(row, f"prompt is of type {type(value).__name__}, expected str")
                values[row] = None
    try:
        return pa.array(values, pa.large_string())
    except UnicodeEncodeError:
        stored = [value if value is None else storable(value) for value in values]
        notes[REPLACED] += sum(value != own for value, own in zip(values, stored, strict=True))
        return pa.array(stored, pa.large_string())
