"""Schemas of what gateways and tracers send, and of what they are answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, RootModel


def _open(example: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Says that any other body passes, too."""

    def described(schema: dict[str, Any]) -> None:
        own = {**schema, "examples": [example]}
        schema.clear()
        schema["anyOf"] = [own, {"description": "Any other body: the request passes unjudged."}]

    return described


class GuardrailIn(BaseModel):
    """What LiteLLM's generic guardrail asks about. Only these fields are read, and none is asked for: a gateway's
    traffic doesn't stop where LiteLLM changes its shape."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra=_open(
            {
                "texts": ["Explain why the sky is blue."],
                "structured_messages": [{"role": "user", "content": "Explain why the sky is blue."}],
                "request_data": {"user_api_key_end_user_id": "a-1", "user_api_key_hash": "88dc28d0f030c55ed4ab"},
                "input_type": "request",
                "litellm_trace_id": "t-1",
            }
        ),
    )
    texts: Any = None
    structured_messages: Any = None
    request_data: Any = None
    input_type: Any = "request"


class GuardrailVerdictOut(BaseModel):
    """What is said of the account's live session after the request; `score` and `p_value` are 0-1."""

    label: Literal["organic", "undecided", "harvesting"]
    score: float
    p_value: float
    n_exchanges: int


class GuardrailOut(BaseModel):
    """What LiteLLM is to do. `verdict` is for its logs, and is missing where a request wasn't judged in time."""

    action: Literal["NONE", "BLOCKED"]
    blocked_reason: str | None = None
    verdict: GuardrailVerdictOut | None = None


class PortkeyIn(BaseModel):
    """What Portkey's webhook guardrail asks about; other fields are left out, and none is asked for."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra=_open(
            {
                "request": {"json": {"messages": [{"role": "user", "content": "Explain why the sky is blue."}]}},
                "metadata": {"_user": "a-1"},
                "eventType": "beforeRequestHook",
            }
        ),
    )
    request: Any = None
    metadata: Any = None
    eventType: Any = "beforeRequestHook"  # noqa: N815


class PortkeyDataOut(BaseModel):
    """For Portkey's log: why a request is blocked, and what is said of the account's live session after it."""

    reason: str | None = None
    label: Literal["organic", "undecided", "harvesting"] | None = None
    score: float | None = None
    p_value: float | None = None
    n_exchanges: int | None = None


class PortkeyOut(BaseModel):
    """Whether the check is passed."""

    verdict: bool
    data: PortkeyDataOut | None = None


class TakenOut(BaseModel):
    """What became of a report: requests, prompts that are new, what was left out or can't be used by reason, and how
    many of the sessions that grew are flagged."""

    n_requests: int
    n_prompts: int
    n_flagged: int
    skipped: dict[str, int]
    rejected: dict[str, int]


class PartialSuccessOut(BaseModel):
    """How many spans were rejected (a number as text, as OTLP writes it), and why."""

    rejectedSpans: str | None = None  # noqa: N815
    errorMessage: str  # noqa: N815


class TracesOut(BaseModel):
    """An `ExportTraceServiceResponse`: empty where every span was taken."""

    partialSuccess: PartialSuccessOut | None = None  # noqa: N815


class LoggedIn(RootModel[dict[str, Any] | list[Any]]):
    """One `StandardLoggingPayload` of LiteLLM, or an array of them. Rows that are none count as rejected."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "c-1", "call_type": "acompletion", "status": "success", "startTime": 1767225600.5,
                    "end_user": "a-1", "metadata": {"user_api_key_hash": "88dc28d0f030c55ed4ab"},
                    "messages": [{"role": "user", "content": "Explain why the sky is blue."}],
                }
            ]
        },
    )  # fmt: skip


class TracesIn(BaseModel):
    """An `ExportTraceServiceRequest` in OTLP's JSON. Spans that can't be used count as rejected or left out."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{"resourceSpans": []}]})
    resourceSpans: list[dict[str, Any]] | None = None  # noqa: N815
