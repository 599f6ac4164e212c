"""Langfuse observations: one a line, as the blob export or the API writes them; only generations hold prompts."""

from __future__ import annotations

from typing import Any

from serve.io.formats.langfuse_traces import input_talk, named_in
from serve.io.logs.bodies import is_chat_model, other_endpoint, outcome, refused
from serve.io.logs.requests import NOT_CHAT, Format, Outcome, Skipped, each_row, share_of
from serve.io.logs.values import first_id, first_time

_TYPES = frozenset({
    "GENERATION", "SPAN", "EVENT", "AGENT", "TOOL", "CHAIN", "RETRIEVER", "EVALUATOR", "EMBEDDING", "GUARDRAIL",
})  # fmt: skip
_MODELS = ("model", "provided_model_name", "providedModelName")
OTHER_SPANS = "spans that are no generation"


def _matches(row: dict[str, Any]) -> bool:
    has_trace = "trace_id" in row or "traceId" in row
    return has_trace and isinstance(row.get("type"), str) and row["type"].upper() in _TYPES


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    kind = str(row.get("type", "")).upper()
    if kind != "GENERATION":
        return Skipped(line, other_endpoint(kind) or OTHER_SPANS)
    trace_id = first_id(row.get("trace_id"), row.get("traceId"))
    model = first_id(*(row.get(name) for name in _MODELS))
    if not is_chat_model(model):
        return Skipped(line, other_endpoint(model) or NOT_CHAT)
    talk = refused((), (row.get("level"),)) or input_talk(row.get("input"), row.get("name"))
    return outcome(
        line, talk, account_id=named_in(row, "user", "user_id", "userId"),
        session_id=named_in(row, "session", "session_id", "sessionId") or trace_id,
        at=first_time(row, "start_time", "startTime", "timestamp"),
    )  # fmt: skip


FORMAT = Format("langfuse_observations", "Langfuse observations", share_of(_matches), each_row(_parse))
