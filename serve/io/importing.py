"""Importing: logs of any format to plain rows, each prompt once, in memory that doesn't grow with the logs.

Requests are first laid down on disk by account; then each partition, which holds whole accounts, is sorted by time and
its threads are followed.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Protocol, TextIO

import pyarrow as pa

from serve.io.formats import by_name, columns, recognise
from serve.io.log_files.files import Log
from serve.io.log_files.opening import LogError
from serve.io.logs.requests import HARNESS, REPEATS, TOOL_RESULTS, Format, Rejected, Request, Skipped
from serve.io.logs.spill import UNKNOWN, Spill, Spilled, Texts, read_partition
from serve.io.logs.threads import Threads
from serve.io.writers import Writer

SCHEMA = pa.schema([
    ("account_id", pa.large_string()), ("session_id", pa.large_string()), ("at", pa.float64()),
    ("prompt", pa.large_string()), ("system", pa.large_string()),
])  # fmt: skip
"""Columns of imported rows: `at` in seconds since 1970, null where unknown; `system` only where it was asked for, for
people who read the rows: no verdict depends on it."""

_PLAIN_NAME = re.compile(r"[\w .:@/()\[\]#$%&+*=-]{1,60}")
_NAME_WORDS = 4
_PARTITION_BYTES = 16 << 20
_MAX_PARTITIONS = 2048
_ROWS_PER_TABLE = 20_000


class Watcher(Protocol):
    """Who is told how far reading is; `serve.jobs.progress.Progress` is one."""

    def begin(self, stage: str, n_before: int) -> None:
        """A stage begins, `n_before` units of which were done before."""
        ...

    def tell(self, n_done: int, n_all: int, unit: str) -> None:
        """`n_done` of `n_all` units are done."""
        ...


@dataclass
class Reading:
    """What was found in the logs of one format: rows of the logs, requests, and prompts that are new."""

    title: str
    n_files: int = 0
    n_requests: int = 0
    n_prompts: int = 0
    n_unnamed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    n_accounts: int = 0
    notes: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """For people: what the logs were read as, and what became of their requests."""
        skipped = ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.most_common())
        text = f"{self.n_requests:,} requests -> {self.n_prompts:,} prompts of {self.n_accounts:,} accounts"
        unnamed = f"; {self.n_unnamed:,} requests name no account ({UNKNOWN})" if self.n_unnamed else ""
        noted = "".join(f"; {count:,} {note}" for note, count in self.notes.most_common())
        return f"read as {self.title}: {text}{f'; {skipped} skipped' if skipped else ''}{unnamed}{noted}"


@dataclass(frozen=True, slots=True)
class Choice:
    """How logs are to be read: the name of a format, None for what they look like, and columns by field."""

    form: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def format_of(log: Log, choice: Choice) -> Format | None:
    """The format to read a log with, None where it is empty.

    Raises:
        LogError: when it looks like no format.
    """
    if choice.columns:
        _require_columns(log, choice.columns)
        return columns.mapped(choice.columns)
    if choice.form:
        return by_name(choice.form)
    if log.kind == "empty":
        return None
    found = recognise(log.sample)
    if found is None and not (log.kind == "parquet" and not log.sample.objects):
        raise LogError(f"{log.path}: is of no known format: {_looks(log)}; see stillwatch formats")
    return found


def require_rows(readings: Sequence[Reading]) -> None:
    """Refuse logs all of whose rows were rejected.

    Raises:
        LogError: with the commonest reason.
    """
    rejected = sum((reading.rejected for reading in readings), Counter[str]())
    if rejected and not any(reading.n_requests or reading.skipped for reading in readings):
        (reason, count), n_all = rejected.most_common(1)[0], rejected.total()
        raise LogError(f"no row can be used: {n_all:,} rejected, {count:,} of them since {reason}")


def _require_columns(log: Log, chosen: Mapping[str, str]) -> None:
    """Refuse text without a header, and a CSV or Parquet table without a column that was chosen; rows of JSON may each
    have others."""
    if log.kind == "text":
        raise LogError(f"{log.path} has no header that names columns, expected {', '.join(chosen.values())} in one")
    if log.kind not in ("csv", "parquet"):
        return
    names = list(dict.fromkeys(name for row in log.sample.objects for name in row))
    for column in chosen.values():
        if names and column not in names:
            raise LogError(f"{log.path} has no column {column!r}; it has {shown_names(names)}")


def shown_names(names: Iterable[str]) -> str:
    """Some names of columns, cut to what an error may show: the first line of what is no table may be a prompt."""
    return ", ".join(name[:40] if _is_plain(name) else "..." for name in list(names)[:8])


def _is_plain(name: str) -> bool:
    return name.count(" ") < _NAME_WORDS and _PLAIN_NAME.fullmatch(name) is not None


def _looks(log: Log) -> str:
    """What a log of no known format looks like; never a value of it."""
    objects = log.sample.objects
    if objects:
        names = shown_names(objects[0])
        close = columns.likely(list(objects[0]))
        hint = f" (use --columns {close or 'account_id=..,prompt=..'})"
        return f"{log.kind} whose first row has {names or 'no fields'}{hint}"
    if "\0" in log.head:
        return "binary data"
    return {"text": "text, but no log of a known program", "csv": "CSV without rows"}.get(
        log.kind, "JSON without objects"
    )


class Import:
    """Logs of one format on their way to plain rows."""

    def __init__(self, form: Format, folder: Path, n_bytes: int, *, with_system: bool = False) -> None:
        """Work in `folder`, for about `n_bytes` of logs."""
        self.reading = Reading(form.title)
        self._form = form
        self._folder = folder
        self._n_partitions = max(1, min(_MAX_PARTITIONS, n_bytes // _PARTITION_BYTES + 1))
        self._spill = Spill(folder, self._n_partitions, with_system=with_system)

    def read(self, log: Log, rejects: TextIO) -> None:
        """Take a log in; rows that can't be understood go to `rejects`.

        Raises:
            LogError: when it can't be read on.
        """
        reading = self.reading
        reading.n_files += 1
        self._spill.begin_log()
        for outcome in self._form.requests(log):
            if isinstance(outcome, Request):
                reading.n_requests += 1
                reading.n_unnamed += outcome.account_id is None
                reading.notes.update(outcome.notes)
                self._spill.add(outcome)
            elif isinstance(outcome, Skipped):
                reading.skipped[outcome.reason] += 1
            else:
                reading.rejected[outcome.reason] += 1
                rejects.write(_reject(log, outcome))

    def write(self, writer: Writer, watcher: Watcher | None = None) -> None:
        """Write the rows of what was read, by partition of accounts, then account, then time."""
        self._spill.flush()
        if watcher:
            watcher.begin("threads", 0)
        for index in range(self._n_partitions):
            if watcher:
                watcher.tell(index, self._n_partitions, "parts")
            requests, texts = read_partition(self._folder, index)
            for table in _tables(_rows(requests, texts, self.reading)):
                writer.add(table)


def _reject(log: Log, rejected: Rejected) -> str:
    return json.dumps({"file": str(log.path), "line": rejected.line, "reason": rejected.reason}) + "\n"


Row = tuple[str, str | None, float | None, str, str | None]


def _rows(requests: Sequence[Spilled], texts: Texts, reading: Reading) -> Iterator[Row]:
    """The rows of a partition: of each account in order of time."""
    for account_id, own in groupby(requests, key=lambda request: request.account_id):
        threads, n_before = Threads(), reading.n_prompts
        for request in own:
            place = threads.add(request.ask)
            if not place.new:
                reading.skipped[_nothing_new(request)] += 1
            reading.n_prompts += len(place.new)
            for index in place.new:
                yield _row(account_id, place.session_id, request, texts, index)
        reading.n_accounts += reading.n_prompts > n_before


def _nothing_new(request: Spilled) -> str:
    return TOOL_RESULTS if request.ends_with_tool else REPEATS if request.ask.hashes else HARNESS


def _row(account_id: str, session_id: str, request: Spilled, texts: Texts, index: int) -> Row:
    own_at = request.turn_times[index]
    at = request.ask.at if math.isnan(own_at) else own_at
    system = None if request.system is None else texts.get(account_id, request.system)
    prompt = texts.get(account_id, request.ask.hashes[index])
    return account_id, session_id or None, None if math.isnan(at) else at, prompt, system


def _tables(rows: Iterator[Row]) -> Iterator[pa.Table]:
    waiting: list[Row] = []
    for row in rows:
        waiting.append(row)
        if len(waiting) >= _ROWS_PER_TABLE:
            yield _table(waiting)
            waiting = []
    if waiting:
        yield _table(waiting)


def _table(rows: list[Row]) -> pa.Table:
    arrays = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), SCHEMA.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)
