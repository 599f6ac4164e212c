"""Anthropic messages: requests to the Messages API from a gateway, in an envelope or bare."""

from __future__ import annotations

import re
from typing import Any

from serve.io.logs.bodies import CUT, outcome, refused, talk_in
from serve.io.logs.requests import Format, Outcome, each_row, share_of
from serve.io.logs.values import as_object, first_id, first_time, nested, text_id

_PACKED = re.compile(r"(?P<account>user_[0-9A-Za-z-]+?)_account_(?P<uuid>[0-9A-Za-z-]*?)_session_(?P<session>\S+)")
_MAX_ID_CHARS = 1000
_ENVELOPES = ("request", "body", "request_body")


def _body(row: dict[str, Any]) -> dict[str, Any]:
    return row if "messages" in row else next((body for name in _ENVELOPES if (body := as_object(row.get(name)))), row)


def _matches(row: dict[str, Any]) -> bool:
    body = _body(row)
    if "messages" not in body or "account_id" in row:
        return False
    paths = str(row.get("url", row.get("path", "")))
    has_id = isinstance(nested(body, "metadata", "user_id"), str)
    return "/messages" in paths or has_id or "anthropic_version" in body or "anthropic-version" in row


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    body = _body(row)
    statuses = row.get("status_code"), row.get("status"), nested(row, "response", "status")
    error = row.get("error") or nested(row, "response", "error")
    is_cut = body is row and any(isinstance(row.get(name), str) for name in _ENVELOPES)
    talk = refused((row.get("url"), row.get("path")), statuses, error) or (CUT if is_cut else talk_in(body))
    account_id, session_id = packed_ids(nested(body, "metadata", "user_id"))
    at = first_time(row, "timestamp", "created_at", "time")
    return outcome(line, talk, account_id=account_id, session_id=session_id, at=at)


def packed_ids(user_id: object) -> tuple[str | None, str | None]:
    """Account and session, which coding tools pack into one field."""
    text = text_id(user_id)
    packed = _PACKED.fullmatch(text or "") if len(text or "") < _MAX_ID_CHARS else None
    if packed:
        return packed["account"], packed["session"]
    if fields := as_object(text):
        accounts = (fields.get(name) for name in ("device_id", "account_uuid", "user_id"))
        return first_id(*accounts), text_id(fields.get("session_id"))
    return text, None


FORMAT = Format("anthropic_messages", "Anthropic messages requests", share_of(_matches), each_row(_parse))
