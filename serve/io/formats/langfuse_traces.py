"""Langfuse traces: an array of traces, or pages as the API gives them."""

from __future__ import annotations

from typing import Any

from serve.io.json_values import parse_json
from serve.io.logs.bodies import Refusal, other_endpoint, outcome, refused, talk_in
from serve.io.logs.requests import Format, Outcome, Talk, each_row, share_of
from serve.io.logs.talks import one_turn
from serve.io.logs.values import as_object, first_id, first_time, text_id

_TEXTS = ("question", "query", "input", "prompt", "text", "message", "user_input", "user_message", "content")
"""Fields of an input that is an object and holds one text that a person asked."""


def _matches(row: dict[str, Any]) -> bool:
    return (
        "timestamp" in row
        and "input" in row
        and any(name in row for name in ("userId", "sessionId", "user_id"))
        and ("type" not in row)
    )


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    talk = refused((), (row.get("level"),)) or input_talk(row.get("input"), row.get("name"))
    session_id = named_in(row, "session", "sessionId", "session_id") or text_id(row.get("id"))
    return outcome(
        line, talk, account_id=named_in(row, "user", "userId", "user_id"), session_id=session_id,
        at=first_time(row, "timestamp"),
    )  # fmt: skip


def named_in(row: dict[str, Any], kind: str, *names: str) -> str | None:
    """The user or session of a row: in these fields, or in the metadata, as the integrations of Langfuse name it."""
    metadata = as_object(row.get("metadata"))
    about = (metadata.get(f"{prefix}{kind}_id") for prefix in ("langfuse_", ""))
    return first_id(*(row.get(name) for name in names), *about)


def input_talk(value: object, name: object) -> Talk | Refusal:
    """The talk in an input: messages, an object that holds them, either as JSON text, or a plain text."""
    if isinstance(value, str) and value.strip()[:1] == '"':
        value = _text(value)
    if isinstance(value, str) and value.strip()[:1] not in ("{", "[", '"', ""):
        other = other_endpoint(name)
        return Refusal(other) if other else one_turn(value)
    value = _of_call(value)
    if isinstance(value, dict) and "role" in value and "content" in value:
        value = [value]
    talk = talk_in(value)
    text = None if other_endpoint(name) else _only_text(value)
    return one_turn(text) if text and isinstance(talk, Refusal) and not talk.is_fault else talk


def _of_call(value: object) -> object:
    """Of the arguments of a traced function those that may hold a prompt."""
    if not (isinstance(value, dict) and set(value) >= {"args", "kwargs"} and isinstance(value["kwargs"], dict)):
        return value
    args = value["args"]
    if value["kwargs"] or not (isinstance(args, list) and args):
        return value["kwargs"]
    return {"input": args[0]} if isinstance(args[0], str) else args[0]


def _only_text(value: object) -> str | None:
    """The text of an input that is an object, where it is no body of a request."""
    texts = [value.get(name) for name in _TEXTS] if isinstance(value, dict) and "model" not in value else []
    return next((text for text in texts if isinstance(text, str) and text.strip()), None)


def _text(value: str) -> str:
    """The text that a JSON text holds; itself where it holds none."""
    try:
        text = parse_json(value)
    except ValueError:
        return value
    return text if isinstance(text, str) else value


FORMAT = Format("langfuse_traces", "Langfuse traces", share_of(_matches), each_row(_parse))
