"""Span messages: the messages of a request among a span's attributes, in the conventions that are in use."""

from __future__ import annotations

import re
from typing import Any

from serve.io.json_values import parse_json
from serve.io.logs.otlp import Entry, attributes_of
from serve.io.logs.values import objects

MESSAGES, SYSTEM = "gen_ai.input.messages", "gen_ai.system_instructions"
_WHOLE = (MESSAGES, "ai.prompt.messages", "gen_ai.prompt")
"""Attributes that hold all messages: of OpenTelemetry today, of the AI SDK, and of OpenTelemetry before."""

_NUMBERED = re.compile(
    r"(?:gen_ai\.prompt|llm\.prompts|llm\.input_messages)\.(?P<place>\d{1,5})\.(?:message\.)?(?P<field>role|content)"
    r"|llm\.input_messages\.(?P<part_of>\d{1,5})\.message\.contents\.(?P<part>\d{1,4})\.message_content\.text"
)
"""Attributes that hold one message, or a part of one: of OpenLLMetry and of OpenInference."""

_MAX_MESSAGES = 20_000


def has_messages(entry: Entry) -> bool:
    """Whether a span, one of its events, or a log record holds messages."""
    return any(not found.keys().isdisjoint(_WHOLE) or any(map(_NUMBERED.fullmatch, found)) for found in _sources(entry))


def body_in(entry: Entry) -> dict[str, Any] | None:
    """The messages and the system text, as a body of a request; None where there are none."""
    for found in _sources(entry):
        for name in _WHOLE:
            if found.get(name) not in (None, ""):
                system = _parsed(found.get(SYSTEM))
                value = _parsed(found[name])
                return value if isinstance(value, dict) else {"messages": found[name], "system": system}
        if messages := _numbered(found):
            return {"messages": messages}
    return None


def _sources(entry: Entry) -> list[dict[str, Any]]:
    """Where messages may be: attributes, the body of a log record, and the attributes of a span's events."""
    events = [attributes_of(event.get("attributes")) for event in objects(entry.raw.get("events"))]
    return [entry.attributes, *([entry.body] if entry.body else []), *events]


def _numbered(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    messages: dict[int, dict[str, Any]] = {}
    parts: dict[int, list[tuple[int, object]]] = {}
    for name, value in attributes.items():
        found = _NUMBERED.fullmatch(name)
        if found and found["part_of"] is not None:
            parts.setdefault(int(found["part_of"]), []).append((int(found["part"]), value))
        elif found:
            messages.setdefault(int(found["place"]), {})[found["field"]] = _parsed(value)
    for place, texts in parts.items():
        ordered = [text for _, text in sorted(texts, key=lambda pair: pair[0])]
        messages.setdefault(place, {}).setdefault("content", ordered)
    return [messages[place] for place in sorted(messages)[:_MAX_MESSAGES]]


def _parsed(value: object) -> object:
    """A value that may be written as JSON text."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            found = parse_json(value)
        except ValueError:
            return value
        return found if isinstance(found, dict) or objects(found) else value
    return value
