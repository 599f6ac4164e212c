"""OTLP GenAI events: the older form of OpenTelemetry's conventions, one event a message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serve.io.formats.otlp_genai import account_of, span_refusal
from serve.io.json_values import parse_json
from serve.io.log_files.files import Log
from serve.io.logs.bodies import Refusal, outcome
from serve.io.logs.groups import Piece, grouped, usable_rows
from serve.io.logs.otlp import Entry, attributes_of, log_records, plain, spans
from serve.io.logs.requests import NO_CONTENT, Format, Outcome, Talk, share_of
from serve.io.logs.talks import talk_of
from serve.io.logs.values import as_object, first_time, objects, text_id

_ROLES = {
    "gen_ai.user.message": "user", "gen_ai.system.message": "system", "gen_ai.tool.message": "tool",
    "gen_ai.assistant.message": "assistant", "gen_ai.developer.message": "system",
}  # fmt: skip
_CHOICE = "gen_ai.choice"


def _matches(row: dict[str, Any]) -> bool:
    logged = any(_name(entry.raw, entry.attributes) in (*_ROLES, _CHOICE) for entry in log_records(row))
    return logged or any(event for entry in spans(row) for event in _span_events(entry))


def _name(raw: dict[str, Any], attributes: dict[str, Any]) -> object:
    names = raw.get("eventName"), raw.get("event_name"), attributes.get("event.name"), raw.get("name")
    return next((name for name in names if isinstance(name, str) and name), None)


def _span_events(entry: Entry) -> list[tuple[str, dict[str, Any]]]:
    """The messages among a span's events: name and attributes."""
    events = ((event, attributes_of(event.get("attributes"))) for event in objects(entry.raw.get("events")))
    return [(str(name), found) for event, found in events if (name := _name(event, found)) in (*_ROLES, _CHOICE)]


def _requests(log: Log) -> Iterator[Outcome]:
    faults: list[Outcome] = []
    for _, pieces in grouped(_pieces(log, faults)):
        yield _parse(pieces)
    yield from faults


def _pieces(log: Log, faults: list[Outcome]) -> Iterator[Piece]:
    """The messages of each request: of one span."""
    for line, row in usable_rows(log, faults):
        for entry in log_records(row):
            name = _name(entry.raw, entry.attributes)
            if name in _ROLES:
                yield _key(entry, line), line, _piece(entry, str(name), plain(entry.raw.get("body")), "timeUnixNano")
        for entry in spans(row):
            key, failed = _key(entry, line), span_refusal(entry)
            for name, found in _span_events(entry):
                piece = _piece(entry, name, found, "startTimeUnixNano")
                yield key, line, {**piece, "refusal": failed and failed.reason}


def _key(entry: Entry, line: int) -> str:
    """What the messages of one request share: its span, else the line."""
    span = text_id(entry.raw.get("spanId"))
    return f"{entry.raw.get('traceId')}/{span}" if span else f"line {line}"


def _piece(entry: Entry, name: str, body: object, time_name: str) -> dict[str, Any]:
    body = _object(body)
    fields = body if isinstance(body, dict) else {"content": body}
    if isinstance(whole := _object(fields.get("gen_ai.event.content")), dict):
        fields = whole
    times = first_time(entry.raw, time_name, "observedTimeUnixNano", "time_unix_nano")
    session_id = text_id(entry.get("gen_ai.conversation.id", "session.id"))
    content = fields.get("content", fields.get("gen_ai.prompt"))
    return {
        "role": _ROLES.get(name, "choice"), "content": content, "at": times, "account_id": account_of(entry),
        "session_id": session_id,
    }  # fmt: skip


def _object(value: object) -> object:
    """A value that may be an object written as JSON text, with the content of a message."""
    if isinstance(value, str) and value.strip()[:1] == "{":
        found = as_object(value)
        return found if not found.keys().isdisjoint(("content", "text", "role")) else value
    return value


def _parse(pieces: list[tuple[int, Any]]) -> Outcome:
    messages = sorted((value for _, value in pieces), key=lambda value: _order(value["at"]))
    first = next((value for value in messages if value["account_id"]), messages[0])
    at = messages[0]["at"]
    return outcome(pieces[0][0], _talk(messages), account_id=first["account_id"], session_id=first["session_id"], at=at)


def _order(at: float) -> float:
    return at if at == at else 0.0  # noqa: PLR0124 (NaN where it has no time)


def _talk(messages: list[dict[str, Any]]) -> Talk | Refusal:
    if refusal := next((value["refusal"] for value in messages if value.get("refusal")), None):
        return Refusal(refusal)
    talk = talk_of([{"role": value["role"], "content": _parts(value["content"])} for value in messages])
    asked = [value for value in messages if value["role"] in ("user", "tool")]
    has_none = not asked or all(value["content"] in (None, "") for value in asked)
    return Refusal(NO_CONTENT) if has_none and not talk.has_answers else talk


def _parts(content: object) -> object:
    """A content that may be JSON text of one part or of several."""
    content = _object(content)
    if isinstance(content, str) and content.strip()[:1] == "[":
        try:
            parts = parse_json(content)
        except ValueError:
            return content
        if isinstance(parts, list) and parts and all(isinstance(part, dict) and "type" in part for part in parts):
            return parts
    return content


FORMAT = Format("otlp_genai_events", "OpenTelemetry GenAI events", share_of(_matches), _requests)
