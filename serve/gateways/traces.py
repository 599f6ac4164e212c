"""Traces: spans of OpenTelemetry's GenAI conventions, exported by OTLP, as requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from serve.gateways.traffic import ReceivedLog
from serve.io.formats import otlp_genai, otlp_genai_events
from serve.io.json_values import parse_json
from serve.io.logs.otlp import Entry, spans
from serve.io.logs.requests import Outcome
from serve.io.logs.values import first_id, objects


def export_in_json(text: str) -> dict[str, Any]:
    """An `ExportTraceServiceRequest` in JSON.

    Raises:
        ValueError: when it is none; the sentence doesn't quote it.
    """
    found = parse_json(text)
    resources = found.get("resourceSpans") if isinstance(found, dict) else 0
    if resources is not None and (not isinstance(resources, list) or len(objects(resources)) < len(resources)):
        raise ValueError("the body is no export of traces: expected an object whose resourceSpans is a list of objects")
    return dict(found)


def traced(export: object, account: Sequence[str]) -> Iterator[Outcome]:
    """The requests of an export of traces; the first of the attributes `account` of a span, or else of its resource,
    names the account.

    Sessions are conversations (`gen_ai.conversation.id`, `session.id`), else the account's own: a trace is often one
    request. Messages are read from attributes, or else from events.
    """
    entries = list(spans(export))
    with_events = [entry for entry in entries if _has_messages(entry)]
    others = [entry for entry in entries if not _has_messages(entry)]
    yield from otlp_genai.FORMAT.requests(ReceivedLog([_export(others, account)]))
    yield from otlp_genai_events.FORMAT.requests(ReceivedLog([_export(with_events, account)]))


def _has_messages(entry: Entry) -> bool:
    """Whether the messages are events, one each, as older conventions have it."""
    names = (event.get("name") for event in objects(entry.raw.get("events")))
    return any(isinstance(name, str) and name.startswith("gen_ai.") and name.endswith(".message") for name in names)


def _export(entries: Sequence[Entry], account: Sequence[str]) -> dict[str, Any]:
    """An export of these spans, each with its account where the formats look for it."""
    rows = [_span(entry, first_id(entry.get(*account))) for entry in entries]
    return {"resourceSpans": [{"scopeSpans": [{"spans": rows}]}]}


def _span(entry: Entry, account_id: str | None) -> dict[str, Any]:
    attributes = {**entry.resource, **entry.attributes}
    attributes = {name: value for name, value in attributes.items() if name not in otlp_genai.ACCOUNTS}
    raw = {name: value for name, value in entry.raw.items() if name != "traceId"}
    return raw | {"attributes": attributes | ({"user.id": account_id} if account_id else {})}
