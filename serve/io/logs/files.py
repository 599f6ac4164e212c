"""Files: logs opened by what they hold, not by name: JSON of any layout, CSV, Parquet or text, compressed or not."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from serve.io.json_values import NOT_JSON, RepeatedKeyError, json_fault, parse_json, parse_json_at

MAX_RECORD_CHARS = 64 << 20
SAMPLE_RECORDS = 400
_SAMPLE_CHARS = 1 << 20
_BLOCK_CHARS = 1 << 20
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_ENCODINGS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_LISTS = (
    "data", "traces", "observations", "records", "Records", "results", "rows", "items", "value", "logs", "events",
)  # fmt: skip
_ABOUT_PAGES = frozenset({
    "meta", "metadata", "object", "has_more", "next", "count", "total", "page", "cursor", "first_id", "last_id",
    "limit", "nextLink", "pagination", "links", "url", "status", "success", "version", "totalItems", "totalPages",
    "error",
})  # fmt: skip
_PAGE = re.compile(rf'\s*\{{\s*"(?:{"|".join(_LISTS)})"\s*:\s*\[')
_ARRAY = re.compile(r"\s*\[")
_NEXT_OBJECT = re.compile(r"\n\s{0,8}(?=\{)")
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]")
_SPACES = re.compile(r"[\s,\x1e]*")
_TOO_LONG = f"longer than {MAX_RECORD_CHARS >> 20} Mi characters"
NOT_UTF8 = "not UTF-8"


class LogError(ValueError):
    """A log that can't be read on: names the file and says why; never quotes it."""


@dataclass(frozen=True, slots=True)
class Record:
    """A row of a log: its value, or the fault that it has none; `line` counts lines or rows from 1."""

    line: int
    value: Any = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """What recognising a format looks at: the first objects of a log, and the beginning of its text."""

    kind: str
    objects: tuple[dict[str, Any], ...]
    text: str = field(repr=False)


class Log:
    """A file of unknown kind; every method reads it from the start."""

    def __init__(self, path: str | Path) -> None:
        """Read the file at `path`."""
        self.path = Path(path)

    @property
    def name(self) -> str:
        """The file's name up to the first dot."""
        return self.path.name.lstrip(".").split(".", 1)[0]

    @cached_property
    def kind(self) -> str:
        """`empty`, `parquet`, `lines` (a JSON value a line), `json` (values of any layout), `csv` or `text`."""
        with self._bytes() as stream:
            head = _read_bytes(stream, self.path)
        if head == b"PAR1":
            return "parquet"
        return _kind_of(self.head)

    @cached_property
    def head(self) -> str:
        """The beginning of the text, up to a million characters; empty for Parquet."""
        with self._text() as stream:
            return _read(stream, _SAMPLE_CHARS, self.path)

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
                yield from _csv_rows(stream, self.head, self.path)
        elif self.kind == "lines":
            yield from _line_values(self.lines())
        elif self.kind == "json":
            with self._text() as stream:
                yield from _json_values(stream, self.path)

    def lines(self) -> Iterator[str]:
        """Lines without their ends, which may be of any system.

        Raises:
            LogError: when the file can't be read on.
        """
        with self._text() as stream:
            while line := _read_line(stream, self.path):
                yield line.rstrip("\n")

    def text(self) -> str:
        """All of a text file, up to the size of one record."""
        with self._text() as stream:
            return _read(stream, MAX_RECORD_CHARS, self.path)

    def _sampled(self, text: str) -> Iterator[Record]:
        if self.kind in ("parquet", "json"):
            return self.records()
        if self.kind == "csv":
            return _csv_rows(io.StringIO(text), text, self.path)
        return _line_values(iter(text.split("\n"))) if self.kind == "lines" else iter(())

    def _parquet_rows(self) -> Iterator[Record]:
        line = 0
        try:
            with pq.ParquetFile(self.path, pre_buffer=False) as file:
                for batch in file.iter_batches(256):
                    for row in batch.to_pylist():
                        line += 1
                        yield Record(line, row)
        except (OSError, ValueError, pa.ArrowException) as fault:
            raise LogError(f"{self.path}: can't be read beyond row {line}: {type(fault).__name__}") from None

    def _bytes(self) -> BinaryIO:
        try:
            raw = pa.OSFile(str(self.path))
            head = raw.read(4)
            codec = next((codec for magic, codec in _MAGIC.items() if head.startswith(magic)), None)
            raw.seek(0)
            stream = pa.CompressedInputStream(raw, codec) if codec else raw
        except (OSError, pa.ArrowException) as fault:
            raise LogError(f"{self.path}: can't be opened: {_said(fault)}") from None
        return io.BufferedReader(stream, 1 << 20) if codec else stream

    def _text(self) -> io.TextIOWrapper:
        with self._bytes() as stream:
            head = _read_bytes(stream, self.path)
        encoding = next((name for mark, name in _ENCODINGS if head.startswith(mark)), _without_mark(head))
        return io.TextIOWrapper(self._bytes(), encoding=encoding, errors="surrogateescape", newline=None)


def _read_bytes(stream: BinaryIO, path: Path) -> bytes:
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


def _read(stream: io.TextIOWrapper, n_chars: int, path: Path) -> str:
    try:
        return stream.read(n_chars)
    except (OSError, EOFError, UnicodeError, pa.ArrowException) as fault:
        raise LogError(f"{path}: can't be read: {type(fault).__name__}") from None


def _read_line(stream: io.TextIOWrapper, path: Path) -> str:
    try:
        return stream.readline(MAX_RECORD_CHARS)
    except (OSError, EOFError, UnicodeError, pa.ArrowException) as fault:
        raise LogError(f"{path}: can't be read: {type(fault).__name__}") from None


def _kind_of(head: str) -> str:
    start = head.lstrip()
    if not start:
        return "empty"
    if start[0] in "{[":
        return _json_kind(start)
    first = start.split("\n", 1)[0]
    return "csv" if _delimiter(first) and len(_names(first)) > 1 else "text"


def _json_kind(start: str) -> str:
    """`lines` where one of the first lines is a JSON object or array, `json` for every other layout."""
    lines = [line.strip() for line in start.split("\n", 6)]
    whole = [line for line in (lines if len(lines) < 7 else lines[:-1]) if line]
    if len(whole) == 1 and (start[0] == "[" or _PAGE.match(start)):
        return "json"
    return "lines" if any(line[:1] in ("{", "[") and _is_json(line) for line in whole if len(line) > 2) else "json"


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except RepeatedKeyError:
        return True
    except ValueError:
        return False
    return True


def _line_values(lines: Iterator[str]) -> Iterator[Record]:
    """The value of each line; an array gives one record for each of its elements."""
    for number, line in enumerate(lines, 1):
        if not (line := line.strip("\ufeff \t\r")):
            continue
        try:
            value = parse_json(line)
        except ValueError as fault:
            yield Record(number, fault=_TOO_LONG if len(line) >= MAX_RECORD_CHARS else json_fault(fault))
            continue
        if not line.isascii() and _ESCAPED_BYTES.search(line):
            yield Record(number, fault=NOT_UTF8)
            continue
        yield from (Record(number, row) for row in _rows_of(value))


def _json_values(stream: io.TextIOWrapper, path: Path) -> Iterator[Record]:
    """Elements of an array, of the list of a page (`{"data": [...]}`), or values one after another."""
    reader = _ValueReader(stream, path)
    _ = reader.skip(_PAGE) or reader.skip(_ARRAY)
    number = 0
    while (value := reader.next()) is not _END:
        number += 1
        if isinstance(value, _Broken):
            yield Record(number, fault=value.reason)
            continue
        rows = _rows_of(value)
        yield from (Record(number, row) for row in rows)
        number += len(rows) - 1


def _rows_of(value: Any) -> list[Any]:
    """The rows of one JSON value: of a page its list, of anything else itself."""
    if isinstance(value, dict) and len(value) <= len(_ABOUT_PAGES) and not set(value) - _ABOUT_PAGES - set(_LISTS):
        lists = [value[name] for name in _LISTS if isinstance(value.get(name), list)]
        if len(lists) == 1 and all(isinstance(item, dict) for item in lists[0]):
            return list(lists[0])
    return value if isinstance(value, list) else [value]


_END = object()


@dataclass(frozen=True, slots=True)
class _Broken:
    """Text that is no value, and why."""

    reason: str


class _ValueReader:
    """JSON values from a stream, with only what is not yet parsed in memory."""

    def __init__(self, stream: io.TextIOWrapper, path: Path) -> None:
        self._stream, self._path = stream, path
        self._text = _read(stream, _BLOCK_CHARS, path)
        self._place = 0
        self._is_whole = len(self._text) < _BLOCK_CHARS
        self._next_size = _BLOCK_CHARS

    def skip(self, pattern: re.Pattern[str]) -> bool:
        """Go on behind what matches at the place reached, if it does."""
        found = pattern.match(self._text, self._place)
        self._place = found.end() if found else self._place
        return found is not None

    def next(self) -> Any:
        """The next value, a `_Broken` where there is something else, `_END` at the end."""
        while self.skip(_SPACES) and self._place == len(self._text) and self._grow():
            pass
        if self._text[self._place : self._place + 1] in ("", "]", "}"):
            return _END
        while True:
            try:
                value, self._place = parse_json_at(self._text, self._place)
            except RepeatedKeyError as fault:
                return self._broken(json_fault(fault))
            except ValueError:
                if not self._grow():
                    return self._broken(NOT_JSON)
            else:
                self._next_size = _BLOCK_CHARS
                return value

    def _grow(self) -> bool:
        rest = self._text[self._place :]
        if self._is_whole or len(rest) > MAX_RECORD_CHARS:
            return False
        more = _read(self._stream, self._next_size, self._path)
        self._is_whole = len(more) < self._next_size
        self._text, self._place, self._next_size = rest + more, 0, self._next_size * 2
        return True

    def _broken(self, reason: str) -> _Broken:
        """Go on at the next line that begins an object, if there is one."""
        found = _NEXT_OBJECT.search(self._text, self._place)
        self._place = found.end() if found else len(self._text)
        return _Broken(reason)


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
    return best if counts[best] and all(re.fullmatch(r"[\w .:@/-]{1,60}", name) for name in names) else ""


def _names(first: str) -> list[str]:
    return [name.strip(' "\r') for name in first.split(_delimiter(first) or ",")]
