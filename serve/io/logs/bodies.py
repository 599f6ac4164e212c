"""Bodies: the body of a request to any chat API, and whether it is one to a chat model at all."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from serve.io.json_values import parse_json
from serve.io.logs.requests import EMBEDDINGS, FAILED, NO_CONTENT, NOT_CHAT, Outcome, Rejected, Request, Skipped, Talk
from serve.io.logs.talks import one_turn, talk_of
from serve.io.logs.templates import template_talk
from serve.io.logs.values import objects

_CHAT_PATH = re.compile(
    r"(?:/completions|/messages|/responses|/converse(?:-stream)?|/invoke(?:-with-response-stream)?"
    r"|:(?:stream)?generatecontent)/?$",
    re.IGNORECASE,
)
_OTHERS = {
    EMBEDDINGS: r"embed",
    "moderations": r"moderation|guardrail",
    "rerank requests": r"re-?rank|retriev|/search\b|/score\b",
    "token counts": r"count_?tokens|input_tokens|tokenize|token_?count",
    "requests for images": r"/images|image_?(?:generation|edit|variation)|images(?:generations?|edits?)|/videos",
    NOT_CHAT: r"/audio|transcri|translations|speech|/files|/models$|/batches|fine[-_]?tun|vector_stores?|/classify"
    r"|/pooling|\bocr\b|(?:create|list|cancel)_?(?:file|batch)|file_content|realtime",
}
_OTHER_ENDPOINTS = tuple((reason, re.compile(pattern, re.IGNORECASE)) for reason, pattern in _OTHERS.items())
_HOST = re.compile(r"^\w{1,20}://[^/]*|[?#].*$", re.DOTALL)
_OTHER_MODEL = re.compile(
    r"embed|moderat|re-?rank|guardrail|whisper|\btts\b|dall-e|-image|stability\.|stable-(?:diff|image)|nova-(?:canvas|reel)"
    r"|\bluma\.|\bveo-|imagen-|\bsora-",
    re.IGNORECASE,
)
_OTHER_KEYS = frozenset({
    "input", "query", "documents", "inputText", "texts", "inputs", "embeddingTypes", "input_type", "textToImageParams",
    "taskType", "text_prompts", "content", "requests", "embeddingParams", "images", "inputImage",
})  # fmt: skip
_RESPONSES_KEYS = frozenset({
    "instructions", "previous_response_id", "conversation", "max_output_tokens", "reasoning", "tools", "store",
    "include", "text", "truncation", "parallel_tool_calls",
})  # fmt: skip
_NOTHING: tuple[object, ...] = (None, "", {}, [])


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a body gives no talk: `is_fault` where it can't be understood, else it is skipped."""

    reason: str
    is_fault: bool = False


CUT = Refusal("the body isn't JSON, or was cut", is_fault=True)
NO_MESSAGES = Refusal("the messages are not a list of objects", is_fault=True)


def other_endpoint(endpoint: object) -> str | None:
    """What a path, URL, operation or type of call is for, as a plural noun, where it isn't for chat."""
    if not isinstance(endpoint, str):
        return None
    path = _HOST.sub("", endpoint)
    if _CHAT_PATH.search(path):
        return None
    return next((reason for reason, pattern in _OTHER_ENDPOINTS if pattern.search(path)), None)


def is_chat_model(model: object) -> bool:
    """Whether a model's name is of none that embeds, ranks, draws or moderates."""
    return not (isinstance(model, str) and _OTHER_MODEL.search(model))


def has_failed(status: object) -> bool:
    """Whether a status, as a number or a text, says that a request failed."""
    if isinstance(status, str):
        text = status.strip().lower()
        if text.isdecimal() and len(text) < 10:
            status = int(text)
        else:
            return text in ("error", "failure", "failed", "fail")
    return isinstance(status, int | float) and not isinstance(status, bool) and status >= 400


def refused(endpoints: tuple[object, ...], statuses: tuple[object, ...], error: object = None) -> Refusal | None:
    """Why a request is skipped before its body is looked at, if it is."""
    if reasons := list(filter(None, map(other_endpoint, endpoints))):
        return Refusal(reasons[0])
    return Refusal(FAILED) if any(map(has_failed, statuses)) or error not in (*_NOTHING, False) else None


def outcome(line: int, talk: Talk | Refusal, **about: Any) -> Outcome:
    """The request that holds a talk, with what else is known `about` it, or why there is none."""
    if isinstance(talk, Refusal):
        return Rejected(line, talk.reason) if talk.is_fault else Skipped(line, talk.reason)
    return Request(line, talk=talk, **about)


def talk_in(body: object, endpoints: Iterable[object] = ()) -> Talk | Refusal:
    """The talk in a body of any chat API, an object, a list of messages, or either as JSON text.

    `endpoints` tell whether a text as `input` is a prompt.
    """
    if isinstance(body, str) and body.strip():
        try:
            body = parse_json(body)
        except ValueError:
            return CUT
    if body in _NOTHING:
        return Refusal(NO_CONTENT)
    if isinstance(body, list):
        return _of_messages(body, None)
    if not isinstance(body, dict):
        return NO_MESSAGES
    has_input = isinstance(body.get("input"), str) and any(map(is_for_responses, endpoints))
    return _of_object({"instructions": None, **body} if has_input else body)


def is_for_responses(endpoint: object) -> bool:
    """Whether a path or a name is that of the Responses API."""
    return isinstance(endpoint, str) and _HOST.sub("", endpoint).rstrip("/").endswith("responses")


def _of_object(body: dict[str, Any]) -> Talk | Refusal:
    system = body.get("system", body.get("instructions", body.get("systemInstruction")))
    if "messages" in body:
        return _of_messages(body["messages"], system)
    if isinstance(contents := body.get("contents"), list | dict):
        listed = contents if isinstance(contents, list) else [contents]
        return _of_messages([{"role": "user", **message} for message in objects(listed)], system)
    if "input" in body and _is_responses(body):
        return _of_input(body["input"], system)
    if isinstance(body.get("message"), str):
        return _of_chat_history(body)
    text = body.get("prompt", body.get("inputText") if "textGenerationConfig" in body else None)
    if text and is_chat_model(body.get("model")) and (talk := _of_text(text, system)):
        return talk
    return Refusal(NOT_CHAT if not _OTHER_KEYS.isdisjoint(body) else NO_CONTENT)


def _of_text(value: object, system: object) -> Talk | Refusal | None:
    """The talk in a prompt: a text, a list of texts, each a prompt of its own, or a list of messages."""
    if isinstance(value, str) and value.strip():
        return template_talk(value) or one_turn(value)
    if not isinstance(value, list):
        return None
    if all(isinstance(text, str) for text in value):
        return talk_of([{"role": "user", "content": text} for text in value], system)
    return talk_of(objects(value), system) if objects(value) else None


def _of_messages(messages: object, system: object) -> Talk | Refusal:
    if isinstance(messages, str) and messages.strip():
        try:
            messages = parse_json(messages)
        except ValueError:
            return CUT
    if messages in _NOTHING:
        return Refusal(NO_CONTENT)
    if isinstance(messages, list) and len(messages) == 1 and isinstance(messages[0], list):
        messages = messages[0] if objects(messages[0]) else messages
    messages = [_from_pair(message) for message in messages] if isinstance(messages, list) else messages
    if not isinstance(messages, list) or not objects(messages):
        return NO_MESSAGES
    return talk_of(messages, system)


def _from_pair(message: object) -> object:
    """A message that is written as its role and its content."""
    if isinstance(message, list) and len(message) == 2 and isinstance(message[0], str):
        return {"role": message[0], "content": message[1]}
    return message


def _of_input(value: object, system: object) -> Talk | Refusal:
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    if isinstance(value, str):
        return talk_of([{"role": "user", "content": value}], system) if value.strip() else Refusal(NO_CONTENT)
    return _of_messages(value, system)


def _is_responses(body: dict[str, Any]) -> bool:
    """Whether a body with `input` is one of the Responses API, and not of embeddings or moderations."""
    value = body["input"]
    if not is_chat_model(body.get("model")):
        return False
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        return True
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, dict) for item in value) and any(map(_is_item, value))
    return isinstance(value, str) and not _RESPONSES_KEYS.isdisjoint(body)


def _is_item(item: dict[str, Any]) -> bool:
    return "role" in item or item.get("type") not in (None, "text", "image_url")


def _of_chat_history(body: dict[str, Any]) -> Talk | Refusal:
    """Cohere's shape: the history, and the newest message beside it."""
    history = body.get("chat_history") or []
    if not isinstance(history, list):
        return NO_MESSAGES
    turns = [{"role": message.get("role"), "content": message.get("message")} for message in objects(history)]
    return talk_of([*turns, {"role": "user", "content": body["message"]}], body.get("preamble"))
