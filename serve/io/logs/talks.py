"""Talks: the user turns of a list of messages, in the shapes of OpenAI, Anthropic, Bedrock and OpenTelemetry."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from serve.io.logs.contents import content_of, is_system_summary, words_of
from serve.io.logs.requests import Talk, Turn

_ROLES = {
    "user": "user", "human": "user", "system": "system", "developer": "system", "assistant": "answer", "ai": "answer",
    "model": "answer", "gpt": "answer", "bot": "answer", "chatbot": "answer", "tool": "tool", "function": "tool",
    "observation": "tool", "function_call": "answer", "ipython": "tool", "environment": "tool",
}  # fmt: skip
_ITEM_TYPES = {
    "function_call_output": "tool", "custom_tool_call_output": "tool", "computer_call_output": "tool",
    "local_shell_call_output": "tool", "mcp_approval_response": "tool", "input_text": "user",
    "compaction": "summary", "compaction_summary": "summary", "context_compaction": "summary", "human": "user",
    "ai": "answer", "system": "system", "tool": "tool",
}  # fmt: skip
"""What an item without a role is."""


def talk_of(
    messages: Sequence[object], system: object = None, *, time_of: Callable[[dict[str, Any]], float] | None = None
) -> Talk:
    """The talk that messages hold; `system` stands beside them; `time_of` gives the time of a user message."""
    reader = _Reader()
    reader.add_system(system)
    for message in messages:
        if isinstance(message, dict):
            reader.add(message, time_of(message) if time_of else math.nan)
    return reader.talk()


def one_turn(text: str, at: float = math.nan) -> Talk:
    """The talk of one user message."""
    return talk_of([{"role": "user", "content": text}], time_of=lambda _: at)


def role_of(message: dict[str, Any]) -> str | None:
    """`user`, `system`, `answer`, `tool`, `summary`, or None where it can't be told."""
    role = message.get("role", message.get("from"))
    if isinstance(role, str):
        return _ROLES.get(role.lower())
    kind = message.get("type")
    if kind == "constructor":
        kind = _class_of(message.get("id"))
    return _ITEM_TYPES.get(kind, "answer") if isinstance(kind, str) else None


def _class_of(path: object) -> str | None:
    """Of the path of a LangChain class, such as HumanMessage, what kind of message it is."""
    name = path[-1] if isinstance(path, list) and path else None
    return name.removesuffix("Chunk").removesuffix("Message").lower() if isinstance(name, str) else None


class _Reader:
    """Reads messages one after another."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []
        self._system: list[str] = []
        self._has_answers = False
        self._ends_with_tool = False
        self._summarized = False

    def add(self, message: dict[str, Any], at: float) -> None:
        """Take a message in."""
        role = role_of(message)
        if role == "user":
            self._add_user(message, at)
        elif role == "system":
            self.add_system(_raw_content(message))
        elif role == "summary":
            self._summarized = True
        elif role is not None:
            self._has_answers = True
            self._ends_with_tool = role == "tool"

    def add_system(self, value: object) -> None:
        """Take a system text in."""
        text = content_of(value).text
        if text:
            self._system.append(text)
            self._summarized |= is_system_summary(text)

    def talk(self) -> Talk:
        """What was read."""
        return Talk(
            tuple(self._turns), "\n".join(self._system), self._has_answers, self._ends_with_tool, self._summarized
        )

    def _add_user(self, message: dict[str, Any], at: float) -> None:
        content = content_of(_raw_content(message))
        words = words_of(content.text)
        self._summarized |= words.is_summary
        self._has_answers |= content.has_tool
        self._ends_with_tool = content.has_tool and not words.text
        if words.text:
            self._turns.append(Turn(words.text, at, self._summarized))
            self._summarized = False


def _raw_content(message: dict[str, Any]) -> object:
    for name in ("content", "parts", "value", "text", "contentArray"):
        if message.get(name) is not None:
            return message[name]
    data = message.get("data", message.get("kwargs"))
    return data.get("content") if isinstance(data, dict) else None
