"""OTLP GenAI: spans by OpenTelemetry's conventions, with the messages among the attributes of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serve.io.json_values import parse_json
from serve.io.logs.bodies import Refusal, outcome, refused, talk_in
from serve.io.logs.files import Log
from serve.io.logs.otlp import Entry, attributes_of, spans
from serve.io.logs.requests import NO_CONTENT, Format, Outcome, Rejected, Talk, as_row, share_of
from serve.io.logs.values import first_id, first_time, nested, objects, text_id

_MESSAGES, _SYSTEM = "gen_ai.input.messages", "gen_ai.system_instructions"
OTHER_SPANS = "spans that are no request"
_OPERATIONS = ("chat", "generate_content", "text_completion", "completion", "responses")


def _matches(row: dict[str, Any]) -> bool:
    return any(_MESSAGES in entry.attributes for entry in spans(row)) or (
        "resourceSpans" in row and any("gen_ai.operation.name" in entry.attributes for entry in spans(row))
        and not any("gen_ai.prompt" in entry.attributes or entry.raw.get("events") for entry in spans(row))
    )  # fmt: skip


def _requests(log: Log) -> Iterator[Outcome]:
    for record in log.records():
        row = as_row(record)
        if isinstance(row, Rejected):
            yield row
        else:
            yield from (_parse(record.line, entry) for entry in spans(row))


def _parse(line: int, entry: Entry) -> Outcome:
    return outcome(
        line, _talk(entry), account_id=account_of(entry),
        session_id=first_id(entry.get("gen_ai.conversation.id", "session.id"), entry.raw.get("traceId")),
        at=first_time(entry.raw, "startTimeUnixNano", "start_time_unix_nano", "start_time"),
    )  # fmt: skip


def account_of(entry: Entry) -> str | None:
    """Who sent it: of the span, else of the resource."""
    return text_id(entry.get("user.id", "enduser.id"))


def span_refusal(entry: Entry) -> Refusal | None:
    """Why a span's request doesn't count, if it doesn't."""
    has_failed = nested(entry.raw, "status", "code") in (2, "2", "STATUS_CODE_ERROR")
    status = "error" if has_failed or entry.attributes.get("error.type") else None
    return refused((), (status, entry.attributes.get("http.response.status_code")))


def _talk(entry: Entry) -> Talk | Refusal:
    operation, found = entry.attributes.get("gen_ai.operation.name"), _attributes(entry)
    if operation not in _OPERATIONS and (operation is not None or _MESSAGES not in found):
        return refused((operation,), ()) or Refusal(OTHER_SPANS)
    if _MESSAGES not in found:
        return span_refusal(entry) or Refusal(NO_CONTENT)
    body = {"messages": found[_MESSAGES], "system": _parsed(found.get(_SYSTEM))}
    return span_refusal(entry) or talk_in(body)


def _attributes(entry: Entry) -> dict[str, Any]:
    """The span's attributes, or those of its event that holds the messages."""
    events = [attributes_of(event.get("attributes")) for event in objects(entry.raw.get("events"))]
    return next((found for found in (entry.attributes, *events) if _MESSAGES in found), entry.attributes)


def _parsed(value: object) -> object:
    """A value that may be written as JSON text."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            return parse_json(value)
        except ValueError:
            return None
    return value


FORMAT = Format("otlp_genai", "OpenTelemetry GenAI spans", share_of(_matches), _requests)
