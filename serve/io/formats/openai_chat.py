"""OpenAI chat: requests for chat completions as an application or a gateway stores them, one a row."""

from __future__ import annotations

from typing import Any

from serve.io.logs.bodies import outcome, talk_in
from serve.io.logs.envelopes import addresses_of, body_of, envelope_refusal, time_of, user_of
from serve.io.logs.requests import Format, Outcome, each_row, share_of


def _matches(row: dict[str, Any]) -> bool:
    body = body_of(row, "messages")
    return "account_id" not in row and ("messages" in body or ("model" in body and ("path" in row or "url" in row)))


def _parse(line: int, row: dict[str, Any]) -> Outcome:
    body = body_of(row, "messages")
    talk = envelope_refusal(row, body) or talk_in(body, addresses_of(row))
    return outcome(line, talk, account_id=user_of(row, body, "user", "safety_identifier"), at=time_of(row))


FORMAT = Format("openai_chat", "OpenAI chat requests", share_of(_matches), each_row(_parse))
