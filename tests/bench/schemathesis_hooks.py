"""What no schema says of a request that is meant to be right, for `make fuzz-serve`; others stay as they are."""

from __future__ import annotations

import uuid
from typing import Any

import schemathesis

PROMPT = {"role": "user", "content": "Explain why the sky is blue."}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """An idempotency-key is used once; a request to a model names an account, or a header does, and has a prompt."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if "idempotency-key" in (case.headers or {}):
        case.headers["idempotency-key"] = uuid.uuid4().hex
    if case.operation.definition.raw.get("operationId") == "requests":
        messages = case.body.get("messages") or []
        case.body = {**case.body, "user": "a-1", "messages": [*messages, PROMPT]}
