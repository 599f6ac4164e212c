"""Reading: the door for files. Slices of JSONL or Parquet in, checked rows and counted rejects out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

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
    """Rows that were looked for, in one table, where each is (`files`, and `lines` from 1; in Parquet rows), and how
    many rows of all that were read can't be used."""

    table: pa.Table
    files: tuple[str, ...]
    lines: NDArray[np.int64]
    n_rejected: int


def select_session(sources: Sequence[Source], session_id: str) -> Selected:
    """All rows that may belong to a session: those with its id, also where it continues one (`id-2`), and those of the
    account that a made-up id names.

    Raises:
        InputError: when a file can't be read, or its columns can't be exchanges.
    """
    account_id = session_id.rpartition("/")[0]
    begun, _, nth = session_id.rpartition("-")
    ids = pa.array([session_id, *([begun] if nth.isdecimal() else [])], pa.large_string())

    def is_wanted(table: pa.Table) -> pa.ChunkedArray:
        given, owner = table.column("session_id"), table.column("account_id")
        return pc.or_(pc.is_in(given, ids), pc.and_(pc.is_null(given), pc.equal(owner, account_id)))

    return _select(sources, is_wanted)


def select_account(sources: Sequence[Source], account_id: str) -> Selected:
    """All rows of an account.

    Raises:
        InputError: when a file can't be read, or its columns can't be exchanges.
    """
    return _select(sources, lambda table: pc.equal(table.column("account_id"), account_id))


def _select(sources: Sequence[Source], is_wanted: Callable[[pa.Table], pa.ChunkedArray]) -> Selected:
    tables, files, lines, n_rejected = [SCHEMA.empty_table()], list[str](), [np.zeros(0, np.int64)], 0
    n_before: Counter[str] = Counter()  # lines of the earlier slices of a file
    for part in (part for share in plan(sources, _SLICE_BYTES) for part in share):
        path, n_lines = part.source.path, 0
        for batch in read(part):
            chosen = np.flatnonzero(is_wanted(batch.table).fill_null(False).to_numpy())
            tables.append(batch.table.take(pa.array(chosen)))
            files += [path] * len(chosen)
            lines.append(batch.lines[chosen] + n_before[path])
            n_rejected += len(batch.rejects)
            n_lines += batch.n_lines
        n_before[path] += n_lines
    return Selected(pa.concat_tables(tables), tuple(files), np.concatenate(lines), n_rejected)
