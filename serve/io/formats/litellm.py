"""LiteLLM: rows of the table of spend of its proxy."""

from __future__ import annotations

from typing import Any

from serve.io.json_values import parse_json
from serve.io.logs.bodies import outcome, refused, talk_in
from serve.io.logs.requests import Format, Outcome, each_row, share_of
from serve.io.logs.values import as_object, first_id, first_time, nested, text_id

_ACCOUNTS = ("end_user", "user", "team_id", "api_key")


def _matches(row: dict[str, Any]) -> bool:
    return "call_type" in row and ("startTime" in row or "proxy_server_request" in row or "spend" in row)


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    has_status = isinstance(row.get("status"), str) and row["status"] != ""
    error = None if has_status else nested(as_object(row.get("metadata")), "error_information")
    talk = refused((row.get("call_type"),), (row.get("status"),), error) or talk_in(_body(row))
    return outcome(
        line, talk, account_id=first_id(*(row.get(name) for name in _ACCOUNTS)),
        session_id=text_id(row.get("session_id")), at=first_time(row, "startTime", "start_time", "created_at"),
    )  # fmt: skip


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
    body = as_object(request)
    return body.get("body") if isinstance(body.get("body"), dict) and "messages" not in body else body or request


FORMAT = Format("litellm_spendlogs", "LiteLLM spend logs", share_of(_matches), each_row(_parse))
