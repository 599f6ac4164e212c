"""OpenRouter: generations broadcast by webhook, as OpenTelemetry traces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serve.io.formats.otlp_genai import span_refusal
from serve.io.log_files.files import Log
from serve.io.logs.bodies import Refusal, outcome, refused, talk_in
from serve.io.logs.otlp import Entry, spans
from serve.io.logs.requests import NOT_CHAT, Format, Outcome, Rejected, Talk, as_row, share_of
from serve.io.logs.span_messages import body_in
from serve.io.logs.values import first_id, first_time, text_id

_ROOT = "LLM Generation"
_KEY = "trace.metadata.openrouter.api_key_name"


def _matches(row: dict[str, Any]) -> bool:
    return any(
        entry.resource.get("service.name") == "openrouter" or _is_root(entry) or _KEY in entry.attributes
        for entry in spans(row)
    )


def _is_root(entry: Entry) -> bool:
    return entry.raw.get("name") == _ROOT and "gen_ai.prompt" in entry.attributes


def _requests(log: Log) -> Iterator[Outcome]:
    for record in log.records():
        row = as_row(record)
        if isinstance(row, Rejected):
            yield row
            continue
        entries = list(spans(row))
        names = {text_id(entry.raw.get("spanId")) for entry in entries} - {None}
        for entry in entries:
            is_call = entry.raw.get("name") == _ROOT or body_in(entry) is not None
            if is_call and text_id(entry.raw.get("parentSpanId")) not in names:
                yield _parse(record.line, entry)


def _parse(line: int, entry: Entry) -> Outcome:
    return outcome(
        line, _talk(entry), account_id=first_id(entry.get("user.id"), entry.get(_KEY)),
        session_id=text_id(entry.get("session.id")),
        at=first_time(entry.raw, "startTimeUnixNano"),
    )  # fmt: skip


def _talk(entry: Entry) -> Talk | Refusal:
    operation = entry.attributes.get("gen_ai.operation.name")
    if operation not in (None, "chat", "generate_content", "text_completion"):
        return refused((operation,), ()) or Refusal(NOT_CHAT)
    return span_refusal(entry) or talk_in(body_in(entry), ("/v1/responses",))


FORMAT = Format("openrouter", "OpenRouter broadcasts", share_of(_matches), _requests)
