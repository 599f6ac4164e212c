"""Bedrock: model-invocation logs, in Converse shape or the model's own."""

from __future__ import annotations

from typing import Any

from serve.io.logs.bodies import Refusal, is_chat_model, outcome, refused, talk_in
from serve.io.logs.requests import NO_CONTENT, NOT_CHAT, Format, Outcome, Talk, each_row, share_of
from serve.io.logs.values import first_id, first_time, nested


def _matches(row: dict[str, Any]) -> bool:
    return row.get("schemaType") == "ModelInvocationLog" or (
        "modelId" in row and "inputBodyJson" in str(row.get("input"))[:200]
    )


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    account_id = first_id(nested(row, "identity", "arn"), row.get("accountId"))
    return outcome(line, _talk(row), account_id=account_id, at=first_time(row, "timestamp"))


def _talk(row: dict[str, Any]) -> Talk | Refusal:
    model = row.get("modelId")
    refusal = refused((row.get("operation"), model), (row.get("status"),), row.get("errorCode"))
    if not is_chat_model(model):
        refusal = refusal or Refusal(NOT_CHAT)
    source = row.get("input") if isinstance(row.get("input"), dict) else {}
    body = nested(source, "inputBodyJson")
    return refusal or (talk_in(body) if body is not None else Refusal(NO_CONTENT))


FORMAT = Format("bedrock_invocation", "Bedrock invocation logs", share_of(_matches), each_row(_parse))
