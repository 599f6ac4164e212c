"""OpenAI responses: stored responses with the requests that they answer."""

from __future__ import annotations

from typing import Any

from serve.io.logs.bodies import Refusal, is_for_responses, outcome, talk_in
from serve.io.logs.envelopes import addresses_of, body_of, envelope_refusal, time_of, user_of
from serve.io.logs.requests import NOT_CHAT, Format, Outcome, each_row, share_of
from serve.io.logs.values import first_id, nested, text_id

_SIGNS = ("previous_response_id", "instructions", "conversation", "output")


def _matches(row: dict[str, Any]) -> bool:
    body = body_of(row, "input")
    if "messages" in body or "input" not in body:
        return False
    is_answered = nested(row, "response", "object") == "response" or any(map(is_for_responses, addresses_of(row)))
    return is_answered or "object" in row or any(name in body for name in _SIGNS)


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    body = body_of(row, "input")
    talk = envelope_refusal(row, body) or _talk(row, body)
    conversation = body.get("conversation", row.get("conversation"))
    session_id = text_id(conversation.get("id") if isinstance(conversation, dict) else conversation)
    return outcome(
        line, talk, account_id=user_of(row, body, "safety_identifier", "user"),
        at=time_of(row), session_id=session_id, request_id=first_id(nested(row, "response", "id"), row.get("id")),
        follows=text_id(body.get("previous_response_id")), is_stateful=session_id is not None,
    )  # fmt: skip


def _talk(row: dict[str, Any], body: dict[str, Any]) -> Any:
    """A text as `input` is a prompt here, unless the row is of another kind."""
    if row.get("object") not in (None, "response"):
        return Refusal(NOT_CHAT)
    return talk_in(body, ("/v1/responses",))


FORMAT = Format("openai_responses", "OpenAI responses", share_of(_matches), each_row(_parse))
