"""Kong: log entries of a gateway with its AI proxy."""

from __future__ import annotations

from typing import Any

from serve.io.logs.bodies import Refusal, outcome, refused, talk_in
from serve.io.logs.requests import NO_CONTENT, Format, Outcome, Talk, each_row, share_of
from serve.io.logs.values import first_id, first_time, nested, objects


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
    body = next((body for body in _bodies(ai) if body is not None), None)
    if body is None:
        return Refusal(NO_CONTENT)
    return refused(paths, (nested(row, "response", "status"),)) or talk_in(body, paths)


def _bodies(ai: object) -> list[object]:
    """What the plug-ins of a request sent to a model: first the proxy, whose request is the caller's."""
    if not isinstance(ai, dict):
        return []
    parts = [ai, *(part for _, value in sorted(ai.items(), key=_is_other) for part in (value, *objects(value)))]
    return [nested(part, "payload", "request") for part in parts]


def _is_other(plug_in: tuple[str, Any]) -> bool:
    return "proxy" not in plug_in[0]


FORMAT = Format("kong_ai", "Kong AI proxy logs", share_of(_matches), each_row(_parse))
