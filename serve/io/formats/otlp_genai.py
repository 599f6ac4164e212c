"""OTLP GenAI: spans by OpenTelemetry's conventions, with the messages among the attributes of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from serve.io.logs.bodies import Refusal, outcome, refused, talk_in
from serve.io.logs.otlp import Entry, log_records, spans
from serve.io.logs.requests import NO_CONTENT, Format, Outcome, Talk, each_part, share_of
from serve.io.logs.span_messages import body_in, has_messages
from serve.io.logs.values import first_id, first_time, nested, text_id

OTHER_SPANS = "spans that are no request"
_OPERATIONS = ("chat", "generate_content", "text_completion", "completion", "responses")
_MODEL_CALL = re.compile(r"ai\.\w{1,40}\.do\w{1,20}")
_DETAILS = "gen_ai.client.inference.operation.details"
ACCOUNTS = (
    "user.id", "enduser.id", "enduser.pseudo.id", "langfuse.user.id", "traceloop.association.properties.user_id",
    "ai.telemetry.metadata.userId",
)  # fmt: skip
_SESSIONS = (
    "gen_ai.conversation.id", "session.id", "langfuse.session.id", "traceloop.association.properties.session_id",
    "ai.telemetry.metadata.sessionId",
)  # fmt: skip


def _matches(row: dict[str, Any]) -> bool:
    entries = list(_entries(row))
    return any(map(has_messages, entries)) or (
        any("gen_ai.operation.name" in entry.attributes for entry in entries)
        and not any(entry.raw.get("events") for entry in entries)
    )


def _entries(row: dict[str, Any]) -> Iterator[Entry]:
    """The spans of an export, and the log records that describe a request as a whole."""
    yield from spans(row)
    for entry in log_records(row):
        if _DETAILS in (entry.raw.get("eventName"), entry.raw.get("event_name"), entry.attributes.get("event.name")):
            yield entry


def _parse(line: int, entry: Entry) -> Outcome:
    return outcome(
        line, _talk(entry), account_id=account_of(entry),
        session_id=first_id(entry.get(*_SESSIONS), entry.raw.get("traceId"), entry.raw.get("trace_id")),
        at=first_time(
            entry.raw, "startTimeUnixNano", "start_time_unix_nano", "start_time", "timeUnixNano", "time_unix_nano"
        ),
    )  # fmt: skip


def account_of(entry: Entry) -> str | None:
    """Who sent it: of the span, else of the resource."""
    return text_id(entry.get(*ACCOUNTS))


def span_refusal(entry: Entry) -> Refusal | None:
    """Why a span's request doesn't count, if it doesn't."""
    has_failed = nested(entry.raw, "status", "code") in (2, "2", "STATUS_CODE_ERROR")
    status = "error" if has_failed or entry.attributes.get("error.type") else None
    return refused((), (status, entry.attributes.get("http.response.status_code")))


def _talk(entry: Entry) -> Talk | Refusal:
    body = body_in(entry)
    operation = entry.attributes.get("gen_ai.operation.name", _operation(entry))
    if operation not in _OPERATIONS and (operation is not None or body is None):
        return refused((operation,), ()) or Refusal(OTHER_SPANS)
    return span_refusal(entry) or (Refusal(NO_CONTENT) if body is None else talk_in(body))


def _operation(entry: Entry) -> object:
    """What kind of span it is by other conventions than OpenTelemetry's: `chat`, another kind, or None."""
    kind = entry.attributes.get("openinference.span.kind", entry.attributes.get("llm.request.type"))
    if isinstance(kind, str):
        return "chat" if kind.lower() in ("llm", "chat", "completion") else kind
    call = entry.attributes.get("ai.operationId")
    if isinstance(call, str):
        return "chat" if _MODEL_CALL.fullmatch(call) and "embed" not in call.lower() else call
    return None


FORMAT = Format("otlp_genai", "OpenTelemetry GenAI spans", share_of(_matches), each_part(_entries, _parse))
