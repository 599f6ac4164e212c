"""Exchanges: the door for files. Slices of JSONL or Parquet in, checked rows and counted rejects out."""

from __future__ import annotations

from collections.abc import Iterator

from serve.columns import read_columns
from serve.lines import read_lines
from serve.rows import Batch
from serve.sources import Slice


def read(part: Slice) -> Iterator[Batch]:
    """Rows of a slice in order, a few megabytes at a time.

    Raises:
        InputFault: when the file can't be read on, or its columns can't be exchanges.
    """
    return read_columns(part) if part.source.kind == "parquet" else read_lines(part)
