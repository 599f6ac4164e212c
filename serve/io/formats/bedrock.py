"""Bedrock: model-invocation logs, in Converse shape or the model's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from serve.io.logs.bodies import Refusal, is_chat_model, outcome, refused, talk_in
from serve.io.logs.requests import NO_CONTENT, NOT_CHAT, Format, Outcome, Talk, each_part, share_of
from serve.io.logs.values import as_object, first_id, first_time, nested, objects

_TITAN_CHAT = re.compile(r"\s*User: (.*?)\s*Bot:\s*", re.DOTALL)
"""How Titan's text models are asked to chat."""


def _matches(row: dict[str, Any]) -> bool:
    return any(map(_is_invocation, _unpacked(row)))


def _is_invocation(row: dict[str, Any]) -> bool:
    return row.get("schemaType") == "ModelInvocationLog" or (
        "modelId" in row and "inputBodyJson" in str(row.get("input"))[:200]
    )


def _unpacked(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The records in a row: itself, or as CloudWatch gives them, in the text of a message or of several events."""
    events = objects(row.get("logEvents")) or [row]
    for event in events:
        message = event.get("message", event.get("@message"))
        yield as_object(message) or event


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    account_id = first_id(nested(row, "identity", "arn"), row.get("accountId"))
    return outcome(line, _talk(row), account_id=account_id, at=first_time(row, "timestamp"))


def _talk(row: dict[str, Any]) -> Talk | Refusal:
    model = row.get("modelId")
    operation = row.get("operation")
    refusal = refused((operation, model), (row.get("status"),), row.get("errorCode"))
    if not is_chat_model(model) or operation == "StartAsyncInvoke":
        refusal = refusal or Refusal(NOT_CHAT)
    source = row.get("input") if isinstance(row.get("input"), dict) else {}
    body = nested(source, "inputBodyJson")
    if refusal is None and isinstance(found := as_object(body).get("inputText"), str):
        return talk_in({"prompt": _TITAN_CHAT.sub(r"\1", found)})
    return refusal or (talk_in(body) if body is not None else Refusal(NO_CONTENT))


FORMAT = Format("bedrock_invocation", "Bedrock invocation logs", share_of(_matches), each_part(_unpacked, _parse))
