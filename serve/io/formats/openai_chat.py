"""OpenAI chat: requests for chat completions as an application or a gateway stores them, one a row."""

from __future__ import annotations

from typing import Any

from serve.io.logs.bodies import CUT, Refusal, outcome, refused, talk_in
from serve.io.logs.requests import Format, Outcome, each_row, share_of
from serve.io.logs.values import as_object, first_id, first_time

_BODIES = ("request", "body", "request_body", "requestBody", "payload")


def _matches(row: dict[str, Any]) -> bool:
    body = _body(row)
    return "account_id" not in row and ("messages" in body or ("model" in body and ("path" in row or "url" in row)))


def _body(row: dict[str, Any]) -> dict[str, Any]:
    """The request's body: in a field of its own, or the row itself."""
    if "messages" in row:
        return row
    body = next((body for name in _BODIES if (body := as_object(row.get(name)))), row)
    inner = as_object(body.get("body"))
    return inner if inner and "messages" not in body else body


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    body, paths = _body(row), tuple(row.get(name) for name in ("path", "url", "endpoint", "operation"))
    statuses = tuple(row.get(name) for name in ("status", "status_code", "statusCode"))
    talk = refused(paths, statuses, row.get("error")) or _cut(row, body) or talk_in(body)
    users = body.get("user"), row.get("user"), body.get("safety_identifier"), row.get("safety_identifier")
    at = first_time(row, "created", "created_at", "timestamp", "time")
    return outcome(line, talk, account_id=first_id(*users, row.get("user_id")), at=at)


def _cut(row: dict[str, Any], body: dict[str, Any]) -> Refusal | None:
    """A fault where the body is a text that can't be parsed."""
    texts = [row[name] for name in _BODIES if isinstance(row.get(name), str)]
    return CUT if body is row and any(text.strip()[:1] == "{" for text in texts) else None


FORMAT = Format("openai_chat", "OpenAI chat requests", share_of(_matches), each_row(_parse))
