"""Anthropic messages: requests to the Messages API from a gateway, in an envelope or bare."""

from __future__ import annotations

import re
from typing import Any

from serve.io.logs.bodies import outcome, talk_in
from serve.io.logs.envelopes import addresses_of, body_of, envelope_refusal, time_of
from serve.io.logs.requests import Format, Outcome, each_row, share_of
from serve.io.logs.values import as_object, first_id, nested, text_id

_PACKED = re.compile(r"(?P<account>user_[0-9A-Za-z-]+?)_account_(?P<uuid>[0-9A-Za-z-]*?)_session_(?P<session>\S+)")
_MAX_ID_CHARS = 1000


def _matches(row: dict[str, Any]) -> bool:
    body = body_of(row, "messages")
    if "messages" not in body or "account_id" in row:
        return False
    paths = " ".join(path for path in addresses_of(row) if isinstance(path, str))
    has_id = isinstance(nested(body, "metadata", "user_id"), str) and "completions" not in paths
    return "/messages" in paths or has_id or "anthropic_version" in body or "anthropic-version" in row


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    body = body_of(row, "messages")
    talk = envelope_refusal(row, body) or talk_in(body)
    account_id, session_id = packed_ids(nested(body, "metadata", "user_id"))
    return outcome(line, talk, account_id=account_id, session_id=session_id, at=time_of(row))


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
