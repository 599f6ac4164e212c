"""Contents: what a user wrote in one message, out of texts, parts and blocks; attachments are left out."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from serve.sessions.prompt_text import both_ends, storable
from serve.sessions.wrappers import strip_wrappers

_TEXT_TYPES = (None, "text", "input_text", "output_text")
_TOOL_TYPES = ("tool", "function", "computer_call", "mcp_", "custom_tool", "local_shell", "web_search", "server_tool")
_TOOL_KEYS = frozenset({"toolResult", "toolUse", "functionResponse", "functionCall"})

_DATA_URL = re.compile(
    r"data:([\w.+-]{1,60})/[\w.+-]{1,80}(?:;[\w.+-]{1,60}=[^;,\s]{0,100}){0,4};base64,[A-Za-z0-9+/=_-]*",
    re.IGNORECASE | re.ASCII,
)
_SUMMARY_TAG = re.compile(r"<(summary|conversation_summary)>", re.IGNORECASE)
_SUMMARY_BEGINNINGS = (
    "this session is being continued from a previous conversation",
    "another language model started",
)
_MARKERS = re.compile(r"\[(?:image|file)\]")
_ABOUT = r"(?:conversation|chat|discussion|dialogue|session|exchange|messages|history|talk)"
_SYSTEM_SUMMARY = re.compile(
    rf"(?:[#*]+ )?(?:(?:here is|this is|below is) )?(?:a |the )?(?:(?:summary|recap) of [^.\n]{{0,60}}?{_ABOUT}"
    rf"|(?:(?:previous|earlier|prior) )?{_ABOUT} (?:summary|recap)\b)",
    re.IGNORECASE,
)


class Content(NamedTuple):
    """The text of a message as it was sent, and whether it holds results or calls of tools."""

    text: str
    has_tool: bool


class Words(NamedTuple):
    """What a person or program asked in a message; `is_summary` where a summary of older messages begins it."""

    text: str
    is_summary: bool


def content_of(value: object) -> Content:
    """The text of a message's content: a text, a list of parts, or one part."""
    if isinstance(value, str):
        return Content(value, has_tool=False)
    parts = value if isinstance(value, list) else [value]
    texts = [text for text in map(_part_text, parts) if text]
    return Content("\n".join(texts), any(map(_is_tool, parts)))


def words_of(text: str) -> Words:
    """The words in a text: without wrappers of a harness, summaries, and files written as base64."""
    text = strip_wrappers(_without_files(storable(both_ends(text))))
    if not _MARKERS.sub("", text).strip():
        return Words("", is_summary=False)
    if text[:60].lower().startswith(_SUMMARY_BEGINNINGS):
        return Words("", is_summary=True)
    tag = _SUMMARY_TAG.match(text)
    if not tag:
        return Words(text, is_summary=False)
    end = text.find(f"</{tag[1]}>")
    return Words(text[end + len(tag[1]) + 3 :].strip() if end >= 0 else "", is_summary=True)


def is_system_summary(text: str) -> bool:
    """Whether a system message begins as a summary of an older part of the conversation."""
    head = text.lstrip()[:200]
    return bool(_SUMMARY_TAG.match(head) or _SYSTEM_SUMMARY.match(head) or words_of(head).is_summary)


def _without_files(text: str) -> str:
    return _DATA_URL.sub(_marker, text) if "base64," in text else text


def _marker(found: re.Match[str]) -> str:
    return "[image]" if found[1].lower() == "image" else "[file]"


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or _is_tool(part) or part.get("type") not in _TEXT_TYPES:
        return ""
    return _plain(part.get("text")) or _plain(part.get("content")) or _plain(part.get("guardContent"))


def _plain(value: object) -> str:
    """A text, also where an object holds it: `{value}` of assistants, `{text: {text}}` of guarded content."""
    for _ in range(3):
        if not isinstance(value, dict):
            break
        value = value.get("value", value.get("text"))
    return value if isinstance(value, str) else ""


def _is_tool(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    kind = part.get("type")
    return not _TOOL_KEYS.isdisjoint(part) or (isinstance(kind, str) and kind.startswith(_TOOL_TYPES))
