"""Claude Code: session transcripts of a coding tool, one event a line."""

from __future__ import annotations

from typing import Any

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
    each_row,
    share_of,
)  # fmt: skip
from serve.io.logs.talks import one_turn
from serve.io.logs.values import first_id, first_time, nested, text_id

SUB_AGENTS = "messages to sub-agents"
_TYPES = (
    "user", "assistant", "system", "summary", "file-history-snapshot", "queue-operation", "progress", "custom-title",
    "ai-title", "attachment", "last-prompt", "agent-name", "pr-link",
)  # fmt: skip
_STREAMED = ("user", "assistant", "system", "result")
"""Types of events as the tool prints them for programs."""


def _matches(row: dict[str, Any]) -> bool:
    is_event = row.get("type") in _TYPES and ("sessionId" in row or "leafUuid" in row or "snapshot" in row)
    is_streamed = row.get("type") in _STREAMED and "session_id" in row and ("message" in row or "subtype" in row)
    return (is_event or is_streamed) and not isinstance(row.get("input"), list)


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    if row.get("type") != "user":
        return Skipped(line, NOT_USER)
    if reason := _marked(row):
        return Skipped(line, reason)
    message = row.get("message")
    if not isinstance(message, dict) or not isinstance(message.get("content"), str | list):
        return Rejected(line, "message has no content")
    content = content_of(message["content"])
    words = words_of(content.text)
    if not words.text:
        return Skipped(line, SUMMARIES if words.is_summary else TOOL_RESULTS if content.has_tool else HARNESS)
    session_id = first_id(row.get("sessionId"), row.get("session_id"))
    key = text_id(row.get("uuid")) or f"{session_id}/{line}"
    return outcome(
        line, one_turn(content.text), account_id=None, session_id=session_id or "", key=key,
        at=first_time(row, "timestamp"),
    )  # fmt: skip


def _marked(row: dict[str, Any]) -> str | None:
    """Why an event is no prompt, where its own fields say so."""
    if row.get("isSidechain") is True or row.get("parent_tool_use_id"):
        return SUB_AGENTS
    if row.get("isCompactSummary") is True:
        return SUMMARIES
    is_other = nested(row, "message", "role") not in (None, "user")
    return HARNESS if row.get("isMeta") is True or is_other else None


FORMAT = Format("claude_code", "Claude Code transcripts", share_of(_matches), each_row(_parse))
