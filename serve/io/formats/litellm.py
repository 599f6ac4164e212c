"""LiteLLM: rows of the table of spend of its proxy."""

from __future__ import annotations

import re
from typing import Any

from serve.io.json_values import parse_json
from serve.io.logs.bodies import Refusal, outcome, refused, talk_in
from serve.io.logs.requests import NOT_CHAT, Format, Outcome, each_row, share_of
from serve.io.logs.values import as_object, first_id, first_time, nested, text_id

_ACCOUNTS = ("end_user", "user", "team_id", "api_key")
_KEY_OWNERS = ("end_user_id", "user_id", "team_id", "hash")
"""Who called, in the payload of callbacks: `metadata.user_api_key_...`."""

_CHAT_CALLS = re.compile(r"completion|responses$|message|generate_?content|pass_?through|^a?chat", re.IGNORECASE)


def _matches(row: dict[str, Any]) -> bool:
    return "call_type" in row and ("startTime" in row or "proxy_server_request" in row or "spend" in row)


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    has_status = isinstance(row.get("status"), str) and row["status"] != ""
    metadata = as_object(row.get("metadata"))
    error = None if has_status else nested(metadata, "error_information")
    call = row.get("call_type")
    talk = refused((call,), (row.get("status"), nested(metadata, "status")), error) or _other_call(call)
    owners = (nested(metadata, f"user_api_key_{name}") for name in _KEY_OWNERS)
    return outcome(
        line, talk or talk_in(_body(row), (call,)),
        account_id=first_id(*(row.get(name) for name in _ACCOUNTS), *owners),
        session_id=text_id(row.get("session_id")), at=first_time(row, "startTime", "start_time", "created_at"),
    )  # fmt: skip


def _other_call(call: object) -> Refusal | None:
    return Refusal(NOT_CHAT) if isinstance(call, str) and call and not _CHAT_CALLS.search(call) else None


def _body(row: dict[str, Any]) -> object:
    """The messages where they are a list, else the request that the proxy got."""
    messages, request = row.get("messages"), row.get("proxy_server_request")
    if isinstance(messages, str) and messages.strip()[:1] == "[":
        try:
            messages = parse_json(messages)
        except ValueError:
            return messages if request in (None, "", {}, "{}") else request
    if isinstance(messages, list) and messages:
        return messages
    if isinstance(messages, dict) and "messages" in messages:
        return messages
    if isinstance(messages, str) and messages.strip()[:1] not in ("", "{") and request in (None, "", {}, "{}"):
        return {"input": messages}
    body = as_object(request)
    return body.get("body") if isinstance(body.get("body"), dict) and "messages" not in body else body or request


FORMAT = Format("litellm_spendlogs", "LiteLLM spend logs", share_of(_matches), each_row(_parse))
