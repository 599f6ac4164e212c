"""Settings of what gateways and tracers send."""

from __future__ import annotations

from dataclasses import dataclass

LITELLM_IDS = ("end_user", "user", "team", "key")
"""Ids that LiteLLM reports: the end user that a client names, and the user, the team and the hash of the key."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How reports are read, and whether a guardrail may block.

    `blocks`: whether flagged accounts are blocked; otherwise verdicts are only recorded. `answer_s`: longest that a
    guardrail's answer takes, in seconds; what isn't judged by then passes. `litellm_account` and `trace_account`: ids
    of LiteLLM, and attributes of spans, that name the account; the first that a request has. `portkey_account`: names
    of Portkey's metadata, likewise.

    Raises:
        ValueError: when a value can't be used.
    """

    blocks: bool = False
    answer_s: float = 0.5
    litellm_account: tuple[str, ...] = LITELLM_IDS
    trace_account: tuple[str, ...] = ("user.id", "enduser.id")
    portkey_account: tuple[str, ...] = ("_user", "user")

    def __post_init__(self) -> None:
        unknown = set(self.litellm_account) - set(LITELLM_IDS)
        if unknown or not self.litellm_account:
            raise ValueError(f"LiteLLM's account ids are some of {', '.join(LITELLM_IDS)}")
        if not self.trace_account or not all(self.trace_account):
            raise ValueError("attributes of spans that name the account are missing")
        if not self.portkey_account or not all(self.portkey_account):
            raise ValueError("names of Portkey's metadata that name the account are missing")
        if not 0 < self.answer_s <= 30:
            raise ValueError(f"a guardrail answers within {self.answer_s} s, expected more than 0 and at most 30")
