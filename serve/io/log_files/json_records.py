"""JSON records: rows out of JSON of any layout: a value a line, one array, a page of an API, or values in a row."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.io.json_values import NOT_JSON, RepeatedKeyError, json_fault, parse_json, parse_json_at
from serve.io.log_files.opening import MAX_RECORD_CHARS, read_chars

_BLOCK_CHARS = 1 << 20
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
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S{0,16} (?:std(?:out|err) [FP] )?(?=[{\[])")
"""What log collectors write before a JSON value on its line."""

_SPACES = re.compile(r"[\s,\x1e]*")
_TOO_LONG = f"longer than {MAX_RECORD_CHARS >> 20} Mi characters"
NOT_UTF8 = "not UTF-8"


@dataclass(frozen=True, slots=True)
class Record:
    """A row of a log: its value, or the fault that it has none; `line` counts lines or rows from 1."""

    line: int
    value: Any = None
    fault: str = ""


def json_kind(start: str) -> str:
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


def without_stamp(line: str) -> str:
    """A line without the time that a log collector has put before its JSON value."""
    stamp = None if line[:1] in ("{", "[") else _STAMP.match(line)
    return line[stamp.end() :] if stamp else line


def line_values(lines: Iterator[str]) -> Iterator[Record]:
    """The value of each line; an array gives one record for each of its elements."""
    for number, line in enumerate(lines, 1):
        if not (line := without_stamp(line.strip("\ufeff \t\r"))):
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


def json_values(stream: io.TextIOWrapper, path: Path) -> Iterator[Record]:
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
        if not lists and isinstance(value.get("data"), dict):
            return _rows_of(value["data"])
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
        self._text = read_chars(stream, _BLOCK_CHARS, path)
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
        more = read_chars(self._stream, self._next_size, self._path)
        self._is_whole = len(more) < self._next_size
        self._text, self._place, self._next_size = rest + more, 0, self._next_size * 2
        return True

    def _broken(self, reason: str) -> _Broken:
        """Go on at the next line that begins an object, if there is one."""
        found = _NEXT_OBJECT.search(self._text, self._place)
        self._place = found.end() if found else len(self._text)
        return _Broken(reason)
