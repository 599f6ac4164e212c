"""Reading: the door for files. Slices of JSONL or Parquet in, checked rows and counted rejects out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from serve.io.discovery import Slice, Source, discover, plan
from serve.io.jsonl import read_lines
from serve.io.parquet import read_columns
from serve.io.validation import SCHEMA, Batch

_SLICE_BYTES = 128 << 20


def read(part: Slice) -> Iterator[Batch]:
    """Rows of a slice in order, a few megabytes at a time.

    Raises:
        InputError: when the file can't be read on, or its columns can't be exchanges.
    """
    return read_columns(part) if part.source.kind == "parquet" else read_lines(part)


def read_all(sources: Sequence[Source]) -> Iterator[Batch]:
    """Rows of whole files in order, a few megabytes at a time.

    Raises:
        InputError: when a file can't be read, or its columns can't be exchanges.
    """
    for share in plan(sources, _SLICE_BYTES):
        for part in share:
            yield from read(part)


def read_paths(paths: Sequence[Path]) -> Iterator[Batch]:
    """As `read_all`, for all files that `discover` finds under these paths."""
    return read_all(discover(paths).sources)


@dataclass(frozen=True, slots=True)
class Selected:
    """Rows that were looked for, in one table, and how many rows of all that were read can't be used."""

    table: pa.Table
    n_rejected: int


def select(sources: Sequence[Source], *, session_id: str) -> Selected:
    """All rows that may belong to a session: those with its id, also where it continues one (`id-2`), and those of the
    account that a made-up id names.

    Raises:
        InputError: when a file can't be read, or its columns can't be exchanges.
    """
    tables, n_rejected = [SCHEMA.empty_table()], 0
    account_id = session_id.rpartition("/")[0]
    begun, _, nth = session_id.rpartition("-")
    ids = pa.array([session_id, *([begun] if nth.isdecimal() else [])], pa.large_string())
    for batch in read_all(sources):
        given, owner = batch.table.column("session_id"), batch.table.column("account_id")
        own = pc.and_(pc.is_null(given), pc.equal(owner, account_id))
        tables.append(batch.table.filter(pc.or_(pc.is_in(given, ids), own)))
        n_rejected += len(batch.rejects)
    return Selected(pa.concat_tables(tables), n_rejected)
