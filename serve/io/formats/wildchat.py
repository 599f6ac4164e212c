"""WildChat: a table of conversations; the hashed address is the account."""

from __future__ import annotations

import math
from typing import Any

from serve.io.json_values import parse_json
from serve.io.logs.bodies import NO_MESSAGES, Refusal, outcome
from serve.io.logs.requests import NO_CONTENT, Format, Outcome, Talk, each_row, share_of
from serve.io.logs.talks import role_of, talk_of
from serve.io.logs.values import first_id, first_time, objects


def _matches(row: dict[str, Any]) -> bool:
    return "conversation" in row and ("conversation_hash" in row or "hashed_ip" in row)


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    turns = _turns(row.get("conversation"))
    addresses = (turn.get("hashed_ip") for turn in turns or [])
    session_id = first_id(row.get("conversation_hash"), row.get("conversation_id")) or f"row {line}"
    account_id = first_id(row.get("hashed_ip"), *addresses)
    return outcome(line, _talk(turns), account_id=account_id, session_id=session_id, at=first_time(row, "timestamp"))


def _turns(value: object) -> list[dict[str, Any]] | None:
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError:
            return None
    return objects(value) if isinstance(value, list) else None


def _talk(turns: list[dict[str, Any]] | None) -> Talk | Refusal:
    if turns is None:
        return NO_MESSAGES
    if not turns:
        return Refusal(NO_CONTENT)
    times = _times(turns)
    return talk_of(turns, time_of=lambda turn: times[id(turn)])


def _times(turns: list[dict[str, Any]]) -> dict[int, float]:
    """The time of each turn: its own, else that of the answer that follows it."""
    times, after = dict[int, float](), math.nan
    for turn in reversed(turns):
        at = first_time(turn, "timestamp")
        times[id(turn)] = after if math.isnan(at) else at
        after = at if role_of(turn) == "answer" else math.nan
    return times


FORMAT = Format("wildchat", "WildChat conversations", share_of(_matches), each_row(_parse))
