"""Codex: rollouts of a coding tool, one event a line; where it stores each prompt twice, one of the two counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from serve.io.formats.claude_code import SUB_AGENTS
from serve.io.log_files.files import Log
from serve.io.logs.bodies import outcome
from serve.io.logs.contents import content_of, words_of
from serve.io.logs.requests import (
    HARNESS,
    NOT_USER,
    SUMMARIES,
    TOOL_RESULTS,
    Format,
    Outcome,
    Rejected,
    Skipped,
    as_row,
    share_of,
)  # fmt: skip
from serve.io.logs.talks import one_turn
from serve.io.logs.values import as_object, first_time, text_id

_SUB_AGENT = "sub-agent"
COPIES = "copies of a message"
_TYPES = ("session_meta", "response_item", "event_msg", "turn_context", "compacted")
_OLD_TYPES = (
    "message", "reasoning", "function_call", "function_call_output", "local_shell_call", "custom_tool_call",
    "custom_tool_call_output", "web_search_call",
)  # fmt: skip
"""Types of items that the first versions wrote without an envelope."""

_FOREIGN = frozenset(
    ("sessionId", "session_id", "messages", "user", "user_id", "account_id", "conversation_id", "model")
)
"""Fields that other logs have beside a `type`, and those versions hadn't."""

_IMAGE_MARK = re.compile(r"</?image\b[^<>\n]{0,200}>")


def _matches(row: dict[str, Any]) -> bool:
    is_old = "record_type" in row or (row.get("type") in _OLD_TYPES and not _FOREIGN & row.keys())
    return (row.get("type") in _TYPES and isinstance(row.get("payload"), dict)) or (is_old and "body" not in row)


def _requests(log: Log) -> Iterator[Outcome]:
    with_events = {session for session, row in _rows(log) if not isinstance(row, Rejected) and _is_event(row[1])}
    for session_id, row in _rows(log):
        yield row if isinstance(row, Rejected) else _parse(*row, session_id, session_id in with_events)


def _rows(log: Log) -> Iterator[tuple[str, tuple[int, dict[str, Any]] | Rejected]]:
    """Every row with the id of its session, which stands before it; the file's name where none does."""
    session_id, begun, is_sub_agent = log.name, None, False
    for record in log.records():
        row = as_row(record)
        if isinstance(row, Rejected):
            yield session_id, row
            continue
        if row.get("type") in _OLD_TYPES and "payload" not in row:
            row = {"type": "response_item", "payload": row, "timestamp": row.get("timestamp", begun)}
        if row.get("type") == "session_meta" or (row.keys() >= {"id", "instructions"} and "type" not in row):
            about = row if "type" not in row else _payload(row)
            session_id, begun = text_id(about.get("id")) or session_id, about.get("timestamp")
            is_sub_agent = "subagent" in as_object(about.get("source"))
        yield session_id, (record.line, {**row, "type": _SUB_AGENT} if is_sub_agent else row)


def _payload(row: dict[str, Any]) -> dict[str, Any]:
    payload = row.get("payload")
    return payload if isinstance(payload, dict) else {}


def _is_event(row: dict[str, Any]) -> bool:
    return row.get("type") == "event_msg" and _payload(row).get("type") == "user_message"


def _is_item(row: dict[str, Any]) -> bool:
    payload = _payload(row)
    return row.get("type") == "response_item" and payload.get("type") == "message" and payload.get("role") == "user"


def _parse(line: int, row: dict[str, Any], session_id: str, has_events: bool) -> Outcome:
    payload = _payload(row)
    if not _is_event(row) and not _is_item(row):
        return Skipped(line, _kind(row, payload))
    content = payload.get("message") if _is_event(row) else payload.get("content")
    if not isinstance(content, str | list):
        return Rejected(line, "message has no content")
    text = _IMAGE_MARK.sub("", content_of(content).text)
    words = words_of(text)
    if not words.text or text.startswith("<skill>"):
        return Skipped(line, SUMMARIES if words.is_summary else HARNESS)
    if has_events and not _is_event(row):
        return Skipped(line, COPIES)
    at = first_time(row, "timestamp")
    return outcome(line, one_turn(text), account_id=None, session_id=session_id, key=f"{session_id}/{line}", at=at)


def _kind(row: dict[str, Any], payload: dict[str, Any]) -> str:
    if row.get("type") == _SUB_AGENT:
        return SUB_AGENTS
    if row.get("type") == "compacted":
        return SUMMARIES
    return TOOL_RESULTS if str(payload.get("type", "")).endswith("_output") else NOT_USER


FORMAT = Format("codex_rollout", "Codex rollouts", share_of(_matches), _requests)
