"""Langfuse traces: an array of traces, or pages as the API gives them."""

from __future__ import annotations

from typing import Any

from serve.io.json_values import parse_json
from serve.io.logs.bodies import Refusal, other_endpoint, outcome, refused, talk_in
from serve.io.logs.requests import Format, Outcome, Talk, each_row, share_of
from serve.io.logs.talks import one_turn
from serve.io.logs.values import first_id, first_time


def _matches(row: dict[str, Any]) -> bool:
    return (
        "timestamp" in row
        and "input" in row
        and any(name in row for name in ("userId", "sessionId", "user_id"))
        and ("type" not in row)
    )


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    talk = refused((), (row.get("level"),)) or input_talk(row.get("input"), row.get("name"))
    return outcome(
        line, talk, account_id=first_id(row.get("userId"), row.get("user_id")),
        session_id=first_id(row.get("sessionId"), row.get("session_id"), row.get("id")),
        at=first_time(row, "timestamp"),
    )  # fmt: skip


def input_talk(value: object, name: object) -> Talk | Refusal:
    """The talk in an input: messages, an object that holds them, either as JSON text, or a plain text."""
    if isinstance(value, str) and value.strip()[:1] == '"':
        value = _text(value)
    if isinstance(value, str) and value.strip()[:1] not in ("{", "[", '"', ""):
        other = other_endpoint(name)
        return Refusal(other) if other else one_turn(value)
    if isinstance(value, dict) and set(value) >= {"args", "kwargs"} and isinstance(value["kwargs"], dict):
        value = value["kwargs"]
    if isinstance(value, dict) and "role" in value and "content" in value:
        value = [value]
    return talk_in(value)


def _text(value: str) -> str:
    """The text that a JSON text holds; itself where it holds none."""
    try:
        text = parse_json(value)
    except ValueError:
        return value
    return text if isinstance(text, str) else value


FORMAT = Format("langfuse_traces", "Langfuse traces", share_of(_matches), each_row(_parse))
