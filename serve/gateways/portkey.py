"""Portkey: what its webhook guardrail sends, as a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serve.io.logs.bodies import outcome, talk_in
from serve.io.logs.requests import Outcome
from serve.io.logs.values import as_object, first_id

BEFORE = "beforeRequestHook"
"""The event at which a request is asked about; at the other there is the model's answer, too."""


def webhook_request(body: dict[str, Any], account: Sequence[str]) -> Outcome:
    """The request that the webhook is asked about; the first of the metadata `account` that there is names the account,
    else the `user` of the body."""
    request = as_object(body.get("request"))
    metadata, sent = as_object(body.get("metadata")), as_object(request.get("json"))
    account_id = first_id(*(metadata.get(name) for name in account), sent.get("user"))
    return outcome(1, talk_in(sent), account_id=account_id)
