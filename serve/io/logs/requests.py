"""Requests: what one row of a log says was sent, whatever its format."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from serve.io.log_files.files import Log, Sample
from serve.io.log_files.json_records import Record

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Turn:
    """One user message, without wrappers; `after_summary` where a summary of older messages stands before it.

    `at` is its own time in seconds since 1970, NaN where it has none.
    """

    text: str
    at: float = math.nan
    after_summary: bool = False


@dataclass(frozen=True, slots=True)
class Talk:
    """The messages of one request: user turns in order, and what else it holds.

    `has_answers`: whether there are answers or tool messages. `ends_with_tool`: whether the newest message is the
    result of a tool. `summarized`: whether a summary stands after the last turn.
    """

    turns: tuple[Turn, ...] = ()
    system: str = ""
    has_answers: bool = False
    ends_with_tool: bool = False
    summarized: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a chat model.

    `session_id` is None where the log names no session: the thread is then found by the history. `branch` names a
    conversation of its own inside the session. `key`, where given, makes every turn a prompt of its own that counts
    once for each key. `request_id` and `follows` chain requests that send only what is new; `is_stateful` means that
    the session itself holds the history. `notes` say how the row's time was read, as plural nouns.
    """

    line: int
    account_id: str | None
    talk: Talk
    at: float = math.nan
    session_id: str | None = None
    branch: str = ""
    key: str | None = None
    request_id: str | None = None
    follows: str | None = None
    is_stateful: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that can't be understood, and why; the reason never quotes the row."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that is well understood, but no request to a chat model; `reason` is a plural noun."""

    line: int
    reason: str


Outcome = Request | Rejected | Skipped

NOT_CHAT = "requests to other endpoints"
EMBEDDINGS = "embeddings"
FAILED = "failed requests"
NO_CONTENT = "requests without stored content"
NOT_USER = "rows that no user sent"
HARNESS = "messages of a harness"
SUMMARIES = "summaries"
TOOL_RESULTS = "tool results"
REPEATS = "repeats"


@dataclass(frozen=True, slots=True)
class Format:
    """A log format: `name` is typed, `title` is for people.

    `recognises` gives the share of a sample, 0-1, that looks like this format; `requests` reads a log.
    """

    name: str
    title: str
    recognises: Callable[[Sample], float]
    requests: Callable[[Log], Iterator[Outcome]]


def share_of(test: Callable[[dict[str, Any]], bool]) -> Callable[[Sample], float]:
    """A recogniser: the share of a sample's objects that pass a test."""

    def recognises(sample: Sample) -> float:
        rows = sample.objects
        return sum(map(test, rows)) / len(rows) if rows else 0.0

    return recognises


def each_row(parse: Callable[[int, dict[str, Any]], Outcome]) -> Callable[[Log], Iterator[Outcome]]:
    """A reader for formats whose rows stand on their own."""
    return each_part(lambda row: (row,), parse)


def each_part(
    parts: Callable[[dict[str, Any]], Iterable[Part]], parse: Callable[[int, Part], Outcome]
) -> Callable[[Log], Iterator[Outcome]]:
    """A reader for formats whose rows hold parts, each a request that stands on its own."""

    def requests(log: Log) -> Iterator[Outcome]:
        for record in log.records():
            row = as_row(record)
            if isinstance(row, Rejected):
                yield row
            else:
                yield from (parse(record.line, part) for part in parts(row))

    return requests


def as_row(record: Record) -> dict[str, Any] | Rejected:
    """The object of a record, or why there is none."""
    if record.fault:
        return Rejected(record.line, record.fault)
    if not isinstance(record.value, dict):
        return Rejected(record.line, "not a JSON object")
    return record.value
