"""Kong: log entries of a gateway with its AI proxy."""

from __future__ import annotations

from typing import Any

from serve.io.logs.bodies import Refusal, outcome, refused, talk_in
from serve.io.logs.requests import NO_CONTENT, Format, Outcome, Talk, each_row, share_of
from serve.io.logs.values import first_id, first_time, nested


def _matches(row: dict[str, Any]) -> bool:
    return (
        "started_at" in row
        and isinstance(row.get("request"), dict)
        and any(isinstance(row.get(name), dict) for name in ("latencies", "consumer", "ai", "service"))
    )


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    consumer = row.get("consumer")
    owners = *(nested(consumer, name) for name in ("username", "id")), nested(row, "authenticated_entity", "id")
    return outcome(line, _talk(row), account_id=first_id(*owners), at=first_time(row, "started_at"))


def _talk(row: dict[str, Any]) -> Talk | Refusal:
    paths = row.get("upstream_uri"), nested(row, "request", "uri")
    ai = row.get("ai")
    bodies = [nested(part, "payload", "request") for part in ai.values()] if isinstance(ai, dict) else []
    body = next((body for body in bodies if body is not None), None)
    if body is None:
        return Refusal(NO_CONTENT)
    return refused(paths, (nested(row, "response", "status"),)) or talk_in(body)


FORMAT = Format("kong_ai", "Kong AI proxy logs", share_of(_matches), each_row(_parse))
