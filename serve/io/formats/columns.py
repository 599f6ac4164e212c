"""Columns: a table of one's own, with the prompt as a text, as parts, or as the messages of the request."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from serve.io.json_values import parse_json
from serve.io.log_files.files import Log, Sample
from serve.io.logs.bodies import outcome, talk_in
from serve.io.logs.contents import content_of, words_of
from serve.io.logs.requests import (
    HARNESS,
    NO_CONTENT,
    TOOL_RESULTS,
    Format,
    Outcome,
    Rejected,
    Request,
    Skipped,
    as_row,
)  # fmt: skip
from serve.io.logs.talks import one_turn
from serve.io.logs.values import text_id
from serve.io.timestamps import has_day_first, noted_seconds

ALIASES = {
    "account_id": (
        "accountid",
        "account",
        "userid",
        "user",
        "customerid",
        "customer",
        "clientid",
        "tenantid",
        "apikeyid",
    ),
    "session_id": ("sessionid", "session", "conversationid", "conversation", "threadid", "chatid"),
    "at": ("at", "timestamp", "time", "ts", "createdat", "datetime", "sentat", "date"),
    "prompt": ("prompt", "text", "content", "input", "query", "question", "userprompt", "message"),
    "messages": ("messages",),
    "system": ("system", "systemprompt"),
}
"""Names by which a column is found where none has the name of the contract, without case and punctuation."""


def named(names: Mapping[str, Any] | list[str]) -> dict[str, str]:
    """The column that holds each field, among these names: of that name, else of one that means it."""
    plain = {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(list(names))}
    found = {}
    for field, aliases in ALIASES.items():
        column = field if field in names else next((plain[alias] for alias in aliases if alias in plain), None)
        if column is not None:
            found[field] = column
    return found


def likely(names: list[str]) -> str:
    """`--columns` for columns whose names are nearly those of the contract; empty where none is."""
    plain = {re.sub(r"[^a-z]", "", name.lower()): name for name in names}
    pairs = {}
    for field in ("account_id", "session_id", "at", "prompt"):
        close = difflib.get_close_matches(field.replace("_", ""), plain, 1, 0.75)
        if close:
            pairs[field] = plain[close[0]]
    return ",".join(f"{field}={name}" for field, name in pairs.items()) if "prompt" in pairs else ""


def parsed(text: str | None) -> dict[str, str]:
    """The columns that `account_id=user,prompt=text` names, by field.

    Raises:
        ValueError: when it isn't of this form, or names an unknown field.
    """
    pairs = [part.partition("=") for part in text.split(",")] if text else []
    for field, equals, column in pairs:
        if not (equals and column and field in ALIASES):
            raise ValueError(f"columns has {field!r}, expected FIELD=COLUMN with a field of {', '.join(ALIASES)}")
    return {field: column for field, _, column in pairs}


def _recognises(sample: Sample) -> float:
    rows = sample.objects
    return 0.9 * sum(map(_matches, rows)) / len(rows) if rows else 0.0


def _matches(row: dict[str, Any]) -> bool:
    fields = named(row)
    return "account_id" in fields and ("prompt" in fields or "messages" in fields)


def mapped(columns: Mapping[str, str]) -> Format:
    """This format with the column that each field is read from."""
    return Format("columns", "a table", _recognises, lambda log: _read(log, columns))


def _requests(log: Log) -> Iterator[Outcome]:
    return _read(log, {})


def _read(log: Log, columns: Mapping[str, str]) -> Iterator[Outcome]:
    is_plain = all(isinstance(row.get(named(row).get("prompt", "prompt")), str) for row in log.sample.objects)
    is_day_first = has_day_first([row.get({**named(row), **columns}.get("at", "at")) for row in log.sample.objects])
    for number, record in enumerate(log.records()):
        row = as_row(record)
        if isinstance(row, Rejected):
            yield row
        else:
            key = f"{log.path} {number}" if is_plain else _copy_key(row)
            yield _parse(record.line, row, {**named(row), **columns}, key, is_day_first=is_day_first)


def _parse(line: int, row: dict[str, Any], columns: dict[str, str], key: str, *, is_day_first: bool) -> Outcome:
    notes: Counter[str] = Counter()
    fields = {field: row.get(column) for field, column in columns.items()}
    about = {
        "account_id": text_id(fields.get("account_id")), "session_id": text_id(fields.get("session_id")),
        "at": noted_seconds(fields.get("at"), notes, is_day_first=is_day_first), "notes": tuple(notes),
    }  # fmt: skip
    if about["account_id"] is None:
        return Rejected(line, "account_id is missing")
    if fields.get("messages") is not None:
        return outcome(line, talk_in(fields["messages"]), **about)
    return _of_prompt(line, fields.get("prompt"), about, key)


def _copy_key(row: dict[str, Any]) -> str:
    """The same for exact copies of a row."""
    return json.dumps(row, sort_keys=True, default=str)


def _of_prompt(line: int, value: object, about: dict[str, Any], key: str) -> Outcome:
    if value is None:
        return Rejected(line, "prompt is missing")
    if isinstance(value, str) and value.strip()[:2] in ("[{", "[]"):
        value = _parts(value)
    if value in ([], ""):
        return Skipped(line, NO_CONTENT)
    if isinstance(value, list) and any(isinstance(part, dict) and "role" in part for part in value):
        return outcome(line, talk_in(value), **about)
    if not isinstance(value, str | list | dict):
        return Rejected(line, f"prompt is of type {type(value).__name__}, expected str or a list of parts")
    content = content_of(value)
    if words_of(content.text).text:
        return Request(line, talk=one_turn(content.text), key=key, **{**about, "session_id": about["session_id"] or ""})
    return Skipped(line, TOOL_RESULTS if content.has_tool else HARNESS if content.text else NO_CONTENT)


def _parts(text: str) -> object:
    """A list of parts that is written as JSON text, else the text."""
    try:
        parts = parse_json(text)
    except ValueError:
        return text
    is_parts = isinstance(parts, list) and all(
        isinstance(part, dict) and ("type" in part or "text" in part) for part in parts
    )
    return parts if is_parts else text


FORMAT = Format("columns", "a table with its own columns", _recognises, _requests)
