"""Envelopes: where gateways put the body of a request, its address, its outcome, its time and its user."""

from __future__ import annotations

import re
from typing import Any

from serve.io.logs.bodies import CUT, Refusal, refused
from serve.io.logs.requests import FAILED
from serve.io.logs.values import as_object, first_id, first_time, nested

_BODIES = ("request", "body", "request_body", "requestBody", "requestbody", "payload")
_ADDRESSES = ("path", "url", "uri", "endpoint", "operation", "request_path", "request_url")
_STATUSES = ("status", "status_code", "statusCode", "response_status", "response_code", "responseStatus")
_TIMES = (
    "created", "created_at", "createdAt", "timestamp", "time", "ts", "@timestamp", "start_time", "startTime",
    "started_at", "request_time", "requestTime", "date",
)  # fmt: skip
_FAILED_ANSWER = re.compile(r'\s*\{\s*(?:"type"\s*:\s*"error"|"error"\s*:\s*[{"])')


def body_of(row: dict[str, Any], *signs: str) -> dict[str, Any]:
    """The body of a row's request: the row itself where it has one of these fields, else an object in a field of it."""
    if any(sign in row for sign in signs):
        return row
    body = next((body for name in _BODIES if (body := as_object(row.get(name)))), row)
    inner = as_object(body.get("body"))
    return inner if inner and not any(sign in body for sign in signs) else body


def addresses_of(row: dict[str, Any]) -> tuple[object, ...]:
    """Paths and names of the endpoint that a row names."""
    request = row.get("request")
    inner = [request.get(name) for name in _ADDRESSES] if isinstance(request, dict) else []
    return (*(row.get(name) for name in _ADDRESSES), *inner)


def envelope_refusal(row: dict[str, Any], body: dict[str, Any]) -> Refusal | None:
    """Why a row's request doesn't count, as far as what is around its body says; a fault where its body is cut."""
    response = row.get("response", row.get("response_body"))
    statuses = tuple(source.get(name) for source in (row, response) if isinstance(source, dict) for name in _STATUSES)
    error = row.get("error") or nested(response, "error") or nested(response, "body", "error")
    if isinstance(response, str) and _FAILED_ANSWER.match(response):
        error = FAILED
    refusal = refused(addresses_of(row), statuses, error)
    texts = [row[name] for name in _BODIES if isinstance(row.get(name), str)]
    is_cut = body is row and any(text.strip()[:1] == "{" and not as_object(text) for text in texts)
    return refusal or (CUT if is_cut else None)


def time_of(row: dict[str, Any]) -> float:
    """When a row's request was sent, NaN where it doesn't say."""
    return first_time(row, *_TIMES)


def user_of(row: dict[str, Any], body: dict[str, Any], *names: str) -> str | None:
    """Who sent it: the first of these fields that is an id, the body's first; else a user in the metadata."""
    own = (source.get(name) for name in names for source in (body, row))
    about = (nested(source, "metadata", name) for source in (body, row) for name in ("user_id", "user"))
    return first_id(*own, row.get("user_id"), nested(row, "user", "id"), *about)
