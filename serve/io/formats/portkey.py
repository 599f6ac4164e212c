"""Portkey: exported request logs."""

from __future__ import annotations

from typing import Any

from serve.io.json_values import parse_json
from serve.io.logs.bodies import outcome, refused, talk_in
from serve.io.logs.requests import Format, Outcome, each_row, share_of
from serve.io.logs.values import as_object, first_time, nested, text_id

_FAILURES = (0, False, "0", "false", "False", "FALSE")


def _matches(row: dict[str, Any]) -> bool:
    has_body = "request.body" in row or nested(as_object(row.get("request")), "body") is not None
    return has_body and any(name in row for name in ("is_success", "ai_org", "metadata.key", "request_url", "trace_id"))


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    request = as_object(row.get("request"))
    failed = "failed" if row.get("is_success") in _FAILURES and "is_success" in row else None
    urls = row.get("request_url"), request.get("url"), row.get("request.url")
    body = row.get("request.body", request.get("body"))
    talk = refused(urls, (row.get("response_status_code"),), failed) or talk_in(body, urls)
    account_id = _user(row) or text_id(as_object(body).get("user"))
    at = first_time(row, "created_at", "time_of_generation")
    return outcome(line, talk, account_id=account_id, session_id=text_id(row.get("trace_id")), at=at)


def _user(row: dict[str, Any]) -> str | None:
    """`_user` of the metadata, an object or two lists side by side."""
    names, values = _list(row.get("metadata.key")), _list(row.get("metadata.value"))
    fields = {str(name): value for name, value in zip(names, values, strict=False)} | as_object(row.get("metadata"))
    return text_id(fields.get("_user", row.get("metadata._user")))


def _list(value: object) -> list[Any]:
    if isinstance(value, str) and value.strip()[:1] == "[":
        try:
            value = parse_json(value)
        except ValueError:
            return []
    return value if isinstance(value, list) else []


FORMAT = Format("portkey", "Portkey logs", share_of(_matches), each_row(_parse))
