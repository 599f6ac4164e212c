"""ShareGPT: conversations of `{from, value}`, as an array or one a line; parts of a long one are numbered `id_n`."""

from __future__ import annotations

import re
from typing import Any

from serve.io.json_values import parse_json
from serve.io.logs.bodies import Refusal, outcome
from serve.io.logs.requests import NO_CONTENT, Format, Outcome, Talk, each_row, share_of
from serve.io.logs.talks import talk_of
from serve.io.logs.values import text_id

_PART = re.compile(r"(?P<id>.+)_(?P<part>\d{1,6})", re.DOTALL)


def _matches(row: dict[str, Any]) -> bool:
    turns = _turns(row)
    if not isinstance(turns, list) or "conversation_hash" in row or "mapping" in row:
        return False
    is_named = "conversations" in row or "items" in row
    return (not turns and is_named) or any(isinstance(turn, dict) and _is_turn(turn, is_named) for turn in turns)


def _is_turn(turn: dict[str, Any], is_named: bool) -> bool:
    return ("from" in turn and ("value" in turn or "text" in turn)) or (is_named and {"role", "content"} <= turn.keys())


def _turns(row: dict[str, Any]) -> object:
    """The turns of a conversation, which may be written as JSON text."""
    turns = next((row[name] for name in ("conversations", "conversation", "items") if name in row), None)
    if isinstance(turns, str) and turns.lstrip()[:1] == "[":
        try:
            return parse_json(turns)
        except ValueError:
            return turns
    return turns


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    name = text_id(row.get("id")) or f"row {line}"
    found = _PART.fullmatch(name)
    thread = found["id"] if found else name
    return outcome(line, _talk(_turns(row)), account_id=None, session_id=thread, branch=name)


def _talk(turns: object) -> Talk | Refusal:
    if turns == []:
        return Refusal(NO_CONTENT)
    if not isinstance(turns, list) or not any(isinstance(turn, dict) for turn in turns):
        return Refusal("conversations is not a list of turns", is_fault=True)
    return talk_of(turns)


FORMAT = Format("sharegpt", "ShareGPT conversations", share_of(_matches), each_row(_parse))
