"""Schemas: what the HTTP interface takes and gives, as OpenAPI describes it."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from serve.http.problems import ProblemError
from serve.io.logs.values import own_id
from serve.io.single_request import session_of
from serve.io.timestamps import ISO_8601, iso_seconds
from serve.sessions.prompt_text import MAX_PROMPT_CHARS
from serve.sessions.records import TIMES, Exchange, Session, text_fault

MAX_SESSIONS = 256
MAX_EXCHANGES = 20_000
MAX_SYSTEM_CHARS = MAX_PROMPT_CHARS
MAX_ID_CHARS = 256
_NOT_BLANK = {"pattern": r"\S"}
_PROMPT = f"Any text; of one longer than {MAX_PROMPT_CHARS:,} characters the head and the tail are read."
_AT = "Seconds since 1970, or a day or time as RFC 3339 writes it (seconds and offset may be missing; then it is UTC)."
_SYSTEM = "Taken so that requests can be passed on as they are; no verdict depends on it."

Id = Annotated[
    StrictStr, Field(min_length=1, max_length=MAX_ID_CHARS, json_schema_extra=_NOT_BLANK), AfterValidator(own_id)
]


def check_id(text: str) -> None:
    """Check an id of a path or query.

    Raises:
        ProblemError: 422.
    """
    if not 0 < len(text) <= MAX_ID_CHARS:
        raise ProblemError(422, f"an id has 1 to {MAX_ID_CHARS} characters")


class ExchangeIn(BaseModel):
    """One prompt that a client sent, and when."""

    model_config = ConfigDict(extra="ignore")
    prompt: Annotated[StrictStr, Field(min_length=1, description=_PROMPT, json_schema_extra=_NOT_BLANK)]
    at: Annotated[
        Annotated[StrictFloat, Field(allow_inf_nan=False, ge=TIMES[0], lt=TIMES[1])]
        | Annotated[StrictInt, Field(ge=TIMES[0], lt=TIMES[1])]
        | Annotated[StrictStr, Field(json_schema_extra={"pattern": ISO_8601})]
        | None,
        Field(description=_AT),
    ] = None
    system: Annotated[StrictStr, Field(max_length=MAX_SYSTEM_CHARS, description=_SYSTEM)] | None = None

    @model_validator(mode="after")
    def _usable(self) -> ExchangeIn:
        if fault := text_fault(self.prompt):
            raise ValueError(fault)
        if self.at is not None:
            self.at = iso_seconds(self.at) if isinstance(self.at, str) else float(self.at)
            if math.isnan(self.at):
                raise ValueError("at is a text, but no day or time as 2026-01-31 or 2026-01-31T09:30:00Z is")
        return self

    def exchange(self) -> Exchange:
        """The record that everything else reads."""
        return Exchange(self.prompt, self.at if isinstance(self.at, float) else None, self.system)


class SessionIn(BaseModel):
    """One account's exchanges, in order."""

    model_config = ConfigDict(extra="ignore")
    session_id: Id
    account_id: Id
    exchanges: Annotated[list[ExchangeIn], Field(min_length=1, max_length=MAX_EXCHANGES), FailFast()]

    def session(self) -> Session:
        """The record that everything else reads."""
        return Session(self.session_id, self.account_id, tuple(row.exchange() for row in self.exchanges))


class ScoreIn(BaseModel):
    """Sessions to judge; `explain` asks for reasons for those that aren't flagged too."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {
                    "sessions": [
                        {
                            "session_id": "s-1",
                            "account_id": "a-1",
                            "exchanges": [{"prompt": "Explain step by step why the sky is blue.", "at": 1767225600}],
                        }
                    ]
                }
            ]
        },
    )
    sessions: Annotated[list[SessionIn], Field(min_length=1, max_length=MAX_SESSIONS), FailFast()]
    explain: StrictBool = False

    @model_validator(mode="after")
    def _bounded(self) -> ScoreIn:
        n = sum(len(session.exchanges) for session in self.sessions)
        if n > MAX_EXCHANGES:
            raise ValueError(f"sessions have {n:,} exchanges together, expected at most {MAX_EXCHANGES:,}")
        return self


class ExchangesIn(BaseModel):
    """Exchanges that follow those that a session has: all are added, or none."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{"account_id": "a-1", "exchanges": [{"prompt": "And why is it red at dusk?"}]}]
        },
    )
    account_id: Id
    exchanges: Annotated[list[ExchangeIn], Field(min_length=1, max_length=256), FailFast()]


class RequestIn(BaseModel):
    """A request to a chat model as OpenAI's, Anthropic's, Bedrock's or Gemini's interface takes it, with any fields.

    The account is that of the header, else `user`, `safety_identifier` or `metadata.user_id`.
    """

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [{"user": "a-1", "messages": [{"role": "user", "content": "Explain why the sky is blue."}]}],
            "anyOf": [{"required": [n]} for n in ("messages", "input", "contents", "prompt", "inputText", "message")],
        },
    )
    messages: list[Any] | None = None
    input: list[Any] | str | None = None
    user: StrictStr | StrictInt | None = None
    safety_identifier: StrictStr | StrictInt | None = None
    metadata: dict[str, Any] | None = None

    def session(self, account_id: str | None, session_id: str | None) -> Session:
        """The session that it holds, with ids of headers where there are some.

        Raises:
            ProblemError: 422 when it names no account, or holds no prompt or too many.
        """
        try:
            session = session_of({name: getattr(self, name) for name in self.model_fields_set}, account_id, session_id)
        except ValueError as fault:
            raise ProblemError(422, str(fault)) from None
        for text in (session.account_id, session.session_id):
            check_id(text)
        if len(session.exchanges) > MAX_EXCHANGES:
            raise ProblemError(
                422, f"a request has {len(session.exchanges):,} prompts, expected at most {MAX_EXCHANGES:,}"
            )
        return session


class ReasonOut(BaseModel):
    """One idea that moved a score, beside the range that 90 % of benign sessions of like size have; `is_weak` where
    the value lies inside it."""

    name: str
    value: float
    benign_low: float
    benign_high: float
    contribution: float
    sentence: str
    idea: str
    is_weak: bool


class EvidenceOut(BaseModel):
    """One of the prompts that weigh most: its position in the session, from 1, and its log-odds of harvest."""

    position: int
    log_odds: float


class VerdictOut(BaseModel):
    """What is said of a session; `score` is calibrated, 0-1, high means harvesting (the probability of it where half of
    all sessions are). `baseline`, the contributions of `reasons` and `rest` add up to the log-odds of the score."""

    session_id: str
    account_id: str
    n_exchanges: int
    started_at: float | None
    ended_at: float | None
    score: float
    p_value: float
    label: Literal["organic", "undecided", "harvesting"]
    threshold: float
    coverage: dict[str, float]
    area_share: dict[str, float]
    reasons: list[ReasonOut]
    bundle: str
    systematicness: float | None
    profile: str | None
    baseline: float | None
    rest: float | None
    evidence: list[EvidenceOut]


class ScoreOut(BaseModel):
    """Verdicts in the order of the sessions."""

    verdicts: list[VerdictOut]


class ObservationOut(BaseModel):
    """A verdict on a session so far.

    `is_partial`: earlier exchanges of it were lost to an eviction, a new encoder or a store that came back with less.
    `is_shared`: False while the store that replicas share can't be reached.
    """

    verdict: VerdictOut
    is_partial: bool
    is_shared: bool


class AccountOut(BaseModel):
    """Verdicts on an account's latest sessions (at most 256), rolled up as in an accounts file (by Simes' rule)."""

    account_id: str
    n_sessions: int
    n_exchanges: int
    started_at: float | None
    ended_at: float | None
    max_score: float
    min_p_value: float
    p_value: float
    flagged_share: float
    label: Literal["organic", "undecided", "harvesting"]
    top_areas: dict[str, float]
    bundle: str
    e_value: float
    alarm_after: int | None
    altered_prompts: int
    is_partial: bool


class BundleOut(BaseModel):
    """The bundle that judges now."""

    bundle_id: str
    format_version: int
    encoder: str
    fpr: float
    areas: list[str]
    n_features: int


class ReadyOut(BaseModel):
    """Whether requests are served, and where growing sessions are kept."""

    status: Literal["ready", "degraded"]
    bundle_id: str
    store: Literal["process", "redis", "redis does not answer"]


class HealthOut(BaseModel):
    """That the process lives."""

    status: Literal["alive"]


class FaultOut(BaseModel):
    """One thing in a body that can't be used."""

    pointer: str
    detail: str


class ProblemOut(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FaultOut] | None = None
