"""Helicone: exported requests with their bodies."""

from __future__ import annotations

from typing import Any

from serve.io.logs.bodies import outcome, refused, talk_in
from serve.io.logs.requests import Format, Outcome, each_row, share_of
from serve.io.logs.values import as_object, first_id, first_time, text_id


def _matches(row: dict[str, Any]) -> bool:
    return "request_body" in row and any(name in row for name in ("request_created_at", "request_user_id", "llmSchema"))


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    paths = row.get("request_path"), row.get("target_url")
    talk = refused(paths, (row.get("response_status"),)) or talk_in(row.get("request_body"))
    sessions = (_session(row.get(name)) for name in ("request_properties", "properties"))
    at = first_time(row, "request_created_at", "created_at")
    return outcome(line, talk, account_id=text_id(row.get("request_user_id")), session_id=first_id(*sessions), at=at)


def _session(properties: object) -> object:
    by_name = {name.lower(): value for name, value in as_object(properties).items()}
    return by_name.get("helicone-session-id")


FORMAT = Format("helicone", "Helicone requests", share_of(_matches), each_row(_parse))
