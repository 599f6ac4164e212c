"""Helicone: exported requests with their bodies."""

from __future__ import annotations

import re
from typing import Any

from serve.io.logs.bodies import Refusal, outcome, refused, talk_in
from serve.io.logs.requests import NO_CONTENT, Format, Outcome, each_row, share_of
from serve.io.logs.values import as_object, first_id, first_time, nested

_JSON = re.compile(r"\s*(?:\{|\[\s*[{\]])")


def _matches(row: dict[str, Any]) -> bool:
    return "request_body" in row and any(name in row for name in ("request_created_at", "request_user_id", "llmSchema"))


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    paths = row.get("request_path"), row.get("target_url")
    body = _body(row)
    omitted = Refusal(NO_CONTENT) if isinstance(body, str) and not _JSON.match(body) else None
    talk = refused(paths, (row.get("response_status"),)) or omitted or talk_in(body, paths)
    users = row.get("request_user_id"), *_properties(row, "helicone-user-id"), nested(as_object(body), "user")
    sessions = _properties(row, "helicone-session-id")
    at = first_time(row, "request_created_at", "created_at")
    return outcome(line, talk, account_id=first_id(*users), session_id=first_id(*sessions), at=at)


def _body(row: dict[str, Any]) -> object:
    """The body as it was sent, else as Helicone read it."""
    body = row.get("request_body")
    return nested(as_object(row.get("llmSchema")), "request") if body in (None, "", {}) else body


def _properties(row: dict[str, Any], name: str) -> list[object]:
    """The values of a property, by its name in small letters."""
    found = (as_object(row.get(field)) for field in ("request_properties", "properties"))
    return [value for properties in found for own, value in properties.items() if own.lower() == name]


FORMAT = Format("helicone", "Helicone requests", share_of(_matches), each_row(_parse))
