"""Files: logs opened by what they hold, not by name: JSON of any layout, CSV, Parquet or text, compressed or not."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from serve.io.log_files.json_records import Record, json_kind, json_values, line_values, without_stamp
from serve.io.log_files.opening import MAX_RECORD_CHARS, LogError, first_bytes, open_text, read_chars, read_line

SAMPLE_RECORDS = 400
_SAMPLE_CHARS = 1 << 20
_WATCHED_ROWS = 64
_NAME_CHARS = 60  # of a column
_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Sample:
    """What recognising a format looks at: the first objects of a log, and the beginning of its text."""

    kind: str
    objects: tuple[dict[str, Any], ...]
    text: str = field(repr=False)


class Log:
    """A file of unknown kind; every method reads it from the start."""

    def __init__(self, path: str | Path, watch: Callable[[int], None] | None = None) -> None:
        """Read the file at `path`; `watch` is called now and then with the bytes of it that are read."""
        self.path = Path(path)
        self._watch = watch
        self._file: pa.OSFile | None = None

    @property
    def name(self) -> str:
        """The file's name up to the first dot."""
        return self.path.name.lstrip(".").split(".", 1)[0]

    @cached_property
    def kind(self) -> str:
        """`empty`, `parquet`, `lines` (a JSON value a line), `json` (values of any layout), `csv` or `text`."""
        return "parquet" if first_bytes(self.path) == b"PAR1" else _kind_of(self.head)

    @cached_property
    def head(self) -> str:
        """The beginning of the text, up to a million characters; empty for Parquet."""
        with open_text(self.path) as stream:
            return read_chars(stream, _SAMPLE_CHARS, self.path)

    @cached_property
    def sample(self) -> Sample:
        """See `Sample`."""
        text = "" if self.kind == "parquet" else self.head
        first = [record.value for record in itertools.islice(self._sampled(text), SAMPLE_RECORDS)]
        return Sample(self.kind, tuple(value for value in first if isinstance(value, dict)), text)

    def records(self) -> Iterator[Record]:
        """Every row; of an array its elements.

        Raises:
            LogError: when the file can't be read on.
        """
        if self.kind == "parquet":
            yield from self._parquet_rows()
        elif self.kind == "csv":
            with self._text() as stream:
                yield from self._watched(_csv_rows(stream, self.head, self.path))
        elif self.kind == "lines":
            yield from line_values(self.lines())
        elif self.kind == "json":
            with self._text() as stream:
                yield from self._watched(json_values(stream, self.path))

    def lines(self) -> Iterator[str]:
        """Lines without their ends, which may be of any system.

        Raises:
            LogError: when the file can't be read on.
        """
        with self._text() as stream:
            yield from self._watched(_lines(stream, self.path))

    def text(self) -> str:
        """All of a text file, up to the size of one record."""
        with open_text(self.path) as stream:
            return read_chars(stream, MAX_RECORD_CHARS, self.path)

    def _text(self) -> io.TextIOWrapper:
        return open_text(self.path, self._opened)

    def _opened(self, file: pa.OSFile) -> None:
        self._file = file

    def _watched(self, rows: Iterator[_Row]) -> Iterator[_Row]:
        """These rows; now and then it is told how far the file is read."""
        for number, row in enumerate(rows):
            if self._watch and self._file and number % _WATCHED_ROWS == 0:
                self._watch(self._file.tell())
            yield row

    def _sampled(self, text: str) -> Iterator[Record]:
        if self.kind in ("parquet", "json"):
            return self.records()
        if self.kind == "csv":
            return _csv_rows(io.StringIO(text), text, self.path)
        return line_values(iter(text.split("\n"))) if self.kind == "lines" else iter(())

    def _parquet_rows(self) -> Iterator[Record]:
        line = 0
        try:
            with pq.ParquetFile(self.path, pre_buffer=False) as file:
                for batch in file.iter_batches(256):
                    if self._watch:
                        self._watch(self.path.stat().st_size * line // max(file.metadata.num_rows, 1))
                    for row in batch.to_pylist():
                        line += 1
                        yield Record(line, row)
        except (OSError, ValueError, pa.ArrowException) as fault:
            raise LogError(f"{self.path}: can't be read beyond row {line}: {type(fault).__name__}") from None


def _lines(stream: io.TextIOWrapper, path: Path) -> Iterator[str]:
    while line := read_line(stream, path):
        yield line.rstrip("\n")


def _kind_of(head: str) -> str:
    start = head.lstrip()
    if not start:
        return "empty"
    if start[0] in "{[":
        return json_kind(start)
    first = start.split("\n", 1)[0]
    if without_stamp(first) is not first:
        return "lines"
    return "csv" if _delimiter(first) and len(_names(first)) > 1 else "text"


def _csv_rows(stream: Any, head: str, path: Path) -> Iterator[Record]:
    """Rows of a CSV file as objects; a row with more or fewer fields than the header is a fault."""
    csv.field_size_limit(MAX_RECORD_CHARS)
    first = head.lstrip().split("\n", 1)[0]
    rows = csv.reader(stream, delimiter=_delimiter(first) or ",", strict=False)
    try:
        header = [name.strip() for name in next(rows, [])]
        for row in rows:
            if not row:
                continue
            fault = "" if len(row) == len(header) else f"has {len(row)} fields, expected {len(header)}"
            yield Record(rows.line_num, dict(zip(header, row, strict=False)), fault)
    except (csv.Error, OSError, pa.ArrowException) as fault:
        raise LogError(f"{path}: can't be read beyond line {rows.line_num}: {type(fault).__name__}") from None


def _delimiter(first: str) -> str:
    """What separates the names in the first line, where they are names."""
    counts = {mark: first.count(mark) for mark in ",;\t"}
    best = max(counts, key=counts.__getitem__)
    names = [name.strip(' "\r') for name in first.split(best)]
    are_names = all(len(name) <= _NAME_CHARS and name.isprintable() for name in names)
    return best if counts[best] and are_names and 2 * sum(map(bool, names)) >= len(names) else ""


def _names(first: str) -> list[str]:
    return [name.strip(' "\r') for name in first.split(_delimiter(first) or ",")]
