"""LiteLLM: what its guardrail and its log callback send, as requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from serve.gateways.traffic import ReceivedLog
from serve.io.formats import litellm
from serve.io.json_values import json_fault, parse_json
from serve.io.log_files.json_records import Record
from serve.io.logs.bodies import outcome, talk_in
from serve.io.logs.requests import NO_CONTENT, Outcome, Request, Skipped
from serve.io.logs.values import as_object, first_id

_IDS = {
    "end_user": "user_api_key_end_user_id", "user": "user_api_key_user_id", "team": "user_api_key_team_id",
    "key": "user_api_key_hash",
}  # fmt: skip
"""How the guardrail's `request_data`, and the metadata of a log, name ids."""

_REDACTED = "redacted-by-litellm"
"""What LiteLLM logs in place of messages that it is set not to log."""


def guardrail_request(body: dict[str, Any], account: Sequence[str]) -> Outcome:
    """The request that a guardrail is asked about; the first of the ids `account` that there is names the account.

    Without `structured_messages`, which say who spoke, the last of the `texts` is the prompt.
    """
    ids = as_object(body.get("request_data"))
    messages, texts = body.get("structured_messages"), body.get("texts")
    if not messages:
        last = texts[-1] if isinstance(texts, list) and texts else None
        messages = [{"role": "user", "content": last}] if isinstance(last, str) else None
    return outcome(1, talk_in(messages), account_id=first_id(*(ids.get(_IDS[name]) for name in account)))


def rows_of(text: str) -> list[object]:
    """The rows of what the callback sends: an array, an object, or an object a line.

    Raises:
        ValueError: when it is nothing of these; the sentence doesn't quote it.
    """
    try:
        found = parse_json(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise ValueError("the body is not JSON") from None
        return [_row(number, line) for number, line in enumerate(lines, 1)]
    if not isinstance(found, list | dict):
        raise ValueError("the body is no object, no array and no lines of objects")
    return found if isinstance(found, list) else [found]


def _row(number: int, line: str) -> Record:
    try:
        return Record(number, parse_json(line))
    except ValueError as fault:
        return Record(number, fault=json_fault(fault))


def logged(rows: Sequence[object], account: Sequence[str]) -> Iterator[Outcome]:
    """The requests of a log's rows (`StandardLoggingPayload`); of the account's own session, whatever their trace."""
    plain = [row.value if isinstance(row, Record) else row for row in rows]
    values = [_readable(value) if isinstance(value, dict) else value for value in plain]
    records = [Record(number, value) for number, value in enumerate(values, 1)]
    faults = [row if isinstance(row, Record) and row.fault else None for row in rows]
    log = ReceivedLog(fault or record for fault, record in zip(faults, records, strict=True))
    for found, value in zip(litellm.FORMAT.requests(log), values, strict=True):
        yield _named(found, value, account) if isinstance(found, Request) else found


def _named(found: Request, row: object, account: Sequence[str]) -> Outcome:
    if any(turn.text == _REDACTED for turn in found.talk.turns):
        return Skipped(found.line, NO_CONTENT)
    fields = as_object(row)
    ids = as_object(fields.get("metadata"))
    given = {name: first_id(ids.get(key)) for name, key in _IDS.items()}
    asked = as_object(fields.get("model_parameters")).get("user")  # all that the library has, without the proxy
    given["end_user"] = first_id(fields.get("end_user"), given["end_user"], asked)
    return replace(found, account_id=first_id(*(given[name] for name in account)), session_id=None)


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose messages may be one text, the input of a request to the Responses API."""
    messages = row.get("messages")
    if isinstance(messages, str) and messages.strip() and messages.strip()[0] not in "[{":
        return row | {"messages": [{"role": "user", "content": messages}]}
    return row
