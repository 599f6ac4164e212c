"""Groups: rows of a log that belong together, gathered in whatever order they come, with a bound on memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zlib import crc32

from serve.io.log_files.files import Log
from serve.io.logs.requests import Outcome, Rejected, as_row

_MAX_CHARS = 64 << 20
_N_BUCKETS = 64

Piece = tuple[str, int, Any]
"""The group that a row belongs to, its line, and what is kept of it (a JSON value)."""


def grouped(pieces: Iterable[Piece]) -> Iterator[tuple[str, list[tuple[int, Any]]]]:
    """Each group once, its pieces in the order of the log; beyond some megabytes through files on disk."""
    groups: dict[str, list[tuple[int, Any]]] = {}
    n_chars = 0
    stream = iter(pieces)
    for key, line, value in stream:
        groups.setdefault(key, []).append((line, value))
        n_chars += len(json.dumps(value))
        if n_chars > _MAX_CHARS:
            yield from _through_files(groups, stream)
            return
    yield from groups.items()


def _through_files(
    groups: dict[str, list[tuple[int, Any]]], rest: Iterator[Piece]
) -> Iterator[tuple[str, list[tuple[int, Any]]]]:
    with tempfile.TemporaryDirectory(prefix="stillwatch.") as folder:
        paths = [Path(folder) / f"{bucket}.jsonl" for bucket in range(_N_BUCKETS)]
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("w", encoding="utf-8")) for path in paths]
            for key, pieces in groups.items():
                files[_bucket(key)].writelines(json.dumps([key, *piece]) + "\n" for piece in pieces)
            groups.clear()
            for piece in rest:
                files[_bucket(piece[0])].write(json.dumps(piece) + "\n")
        for path in paths:
            yield from _read_bucket(path)


def _bucket(key: str) -> int:
    return crc32(key.encode("utf-8", "replace")) % _N_BUCKETS


def _read_bucket(path: Path) -> Iterator[tuple[str, list[tuple[int, Any]]]]:
    groups: dict[str, list[tuple[int, Any]]] = {}
    with path.open(encoding="utf-8") as file:
        for key, line, value in map(json.loads, file):
            groups.setdefault(key, []).append((line, value))
    yield from groups.items()


def usable_rows(log: Log, faults: list[Outcome]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line and fields of each record that is a row; what is no row is added to `faults`."""
    for record in log.records():
        row = as_row(record)
        if isinstance(row, Rejected):
            faults.append(row)
        else:
            yield record.line, row
