"""LMSYS-Chat-1M: a table of conversations, without accounts or times."""

from __future__ import annotations

from typing import Any

from serve.io.logs.bodies import outcome, talk_in
from serve.io.logs.requests import Format, Outcome, each_row, share_of
from serve.io.logs.values import text_id


def _matches(row: dict[str, Any]) -> bool:
    return "conversation_id" in row and isinstance(row.get("conversation"), list | str)


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    session_id = text_id(row.get("conversation_id")) or f"row {line}"
    return outcome(line, talk_in(row.get("conversation")), account_id=None, session_id=session_id)


FORMAT = Format("lmsys_chat_1m", "LMSYS-Chat-1M conversations", share_of(_matches), each_row(_parse))
