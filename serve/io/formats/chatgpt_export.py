"""ChatGPT export: `conversations.json` of a personal export, each a tree of which one branch is the talk."""

from __future__ import annotations

from typing import Any

from serve.io.logs.bodies import Refusal, outcome
from serve.io.logs.requests import NO_CONTENT, Format, Outcome, Talk, each_row, share_of
from serve.io.logs.talks import talk_of
from serve.io.logs.values import first_id, first_time, nested

_HIDDEN = ("is_visually_hidden_from_conversation", "is_user_system_message")
_KINDS = ("text", "multimodal_text")


def _matches(row: dict[str, Any]) -> bool:
    return isinstance(row.get("mapping"), dict) and (
        "current_node" in row or "conversation_id" in row or "title" in row
    )


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    session_id = first_id(row.get("conversation_id"), row.get("id")) or f"row {line}"
    return outcome(line, _talk(row), account_id=None, session_id=session_id, at=first_time(row, "create_time"))


def _talk(row: dict[str, Any]) -> Talk | Refusal:
    mapping = row.get("mapping")
    if not isinstance(mapping, dict):
        return Refusal("mapping is not an object", is_fault=True)
    messages = [message for message in _branch(mapping, row.get("current_node")) if _is_shown(message)]
    if not messages:
        return Refusal(NO_CONTENT)
    return talk_of([_plain(message) for message in messages], time_of=lambda message: message["at"])


def _branch(mapping: dict[str, Any], node: object) -> list[dict[str, Any]]:
    """The messages on the way from the root to a node; without one, to the newest end of a branch."""
    names = [name for name in (node, _newest(mapping)) if isinstance(name, str) and name in mapping][:1]
    messages, seen = list[dict[str, Any]](), set[str]()
    while names and names[0] not in seen:
        seen.add(names[0])
        entry = mapping[names[0]]
        if isinstance(message := nested(entry, "message"), dict):
            messages.append(message)
        parent = nested(entry, "parent")
        names = [parent] if isinstance(parent, str) and parent in mapping else []
    return messages[::-1]


def _newest(mapping: dict[str, Any]) -> str | None:
    ends = [name for name, entry in mapping.items() if not nested(entry, "children")]
    times = {name: first_time(nested(mapping[name], "message") or {}, "create_time") for name in ends}
    return max((name for name in ends if times[name] == times[name]), key=times.__getitem__, default=None)


def _is_shown(message: dict[str, Any]) -> bool:
    is_hidden = any(nested(message, "metadata", name) is True for name in _HIDDEN)
    return not is_hidden and nested(message, "content", "content_type") in _KINDS


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message with texts only; spoken words are parts with a text."""
    parts = nested(message, "content", "parts") or [nested(message, "content", "text")]
    texts = (
        [part if isinstance(part, str) else nested(part, "text") for part in parts] if isinstance(parts, list) else []
    )
    content = [text for text in texts if isinstance(text, str)]
    return {"role": nested(message, "author", "role"), "content": content, "at": first_time(message, "create_time")}


FORMAT = Format("chatgpt_export", "ChatGPT exports", share_of(_matches), each_row(_parse))
