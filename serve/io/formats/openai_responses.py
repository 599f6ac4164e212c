"""OpenAI responses: stored responses with the requests that they answer."""

from __future__ import annotations

from typing import Any

from serve.io.logs.bodies import Refusal, outcome, refused, talk_in
from serve.io.logs.requests import NOT_CHAT, Format, Outcome, each_row, share_of
from serve.io.logs.values import as_object, first_id, first_time, text_id

_SIGNS = ("previous_response_id", "instructions", "conversation", "output")


def _matches(row: dict[str, Any]) -> bool:
    body = _body(row)
    return "messages" not in body and "input" in body and ("object" in row or any(name in body for name in _SIGNS))


def _body(row: dict[str, Any]) -> dict[str, Any]:
    return row if "input" in row else as_object(row.get("request", row.get("body")))


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    body = _body(row)
    status = row.get("status"), row.get("status_code")
    talk = refused((row.get("path"), row.get("url")), status, row.get("error")) or _talk(row, body)
    conversation = body.get("conversation", row.get("conversation"))
    session_id = text_id(conversation.get("id") if isinstance(conversation, dict) else conversation)
    return outcome(
        line, talk, account_id=first_id(*(source.get(name) for name in _USERS for source in (body, row))),
        at=first_time(row, "created_at", "created", "timestamp"), session_id=session_id,
        request_id=text_id(row.get("id")),
        follows=text_id(body.get("previous_response_id")), is_stateful=session_id is not None,
    )  # fmt: skip


_USERS = ("safety_identifier", "user")


def _talk(row: dict[str, Any], body: dict[str, Any]) -> Any:
    """A text as `input` is a prompt here, unless the row is of another kind."""
    if row.get("object") not in (None, "response"):
        return Refusal(NOT_CHAT)
    return talk_in({"instructions": None, **body})


FORMAT = Format("openai_responses", "OpenAI responses", share_of(_matches), each_row(_parse))
