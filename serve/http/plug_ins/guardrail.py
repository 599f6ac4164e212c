"""Guardrail: what LiteLLM and Portkey are answered about one request, within a number of seconds."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any

from serve.gateways.settings import GatewaySettings
from serve.gateways.traffic import Traffic
from serve.io.logs.requests import Outcome, Request
from serve.live.sealing import Seal
from serve.scoring.verdict import Verdict
from serve.sessions.sessionizing import GAP_SECONDS

_MAX_ACCOUNTS = 10_000


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a request is blocked, and the account as a keyed digest, None where none is named."""

    is_blocked: bool = False
    account: str | None = None
    verdict: Verdict | None = None

    @property
    def action(self) -> str:
        """What LiteLLM calls it."""
        return "BLOCKED" if self.is_blocked else "NONE"

    def for_litellm(self) -> bytes:
        """As JSON; a caller who is blocked is given a name that the service's log has, too, and no score."""
        found: dict[str, Any] = {"action": self.action}
        if self.is_blocked:
            found["blocked_reason"] = self._reason
        if self.verdict is not None:
            found["verdict"] = self._numbers
        return _json(found)

    def for_portkey(self) -> bytes:
        """As JSON: `verdict` false blocks, or does what the guardrail is set to do; `data` is for Portkey's log."""
        data = {"reason": self._reason} if self.is_blocked else {}
        return _json({"verdict": not self.is_blocked, "data": data | self._numbers})

    @property
    def _reason(self) -> str:
        return f"this account's traffic is under review (reference {self.account})"

    @property
    def _numbers(self) -> dict[str, Any]:
        names = ("label", "score", "p_value", "n_exchanges")
        return {} if self.verdict is None else {name: getattr(self.verdict, name) for name in names}


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


class Guardrail:
    """Judges the account's live session after each request; a request that adds nothing has the verdict before it."""

    def __init__(self, traffic: Traffic, seal: Seal, settings: GatewaySettings) -> None:
        """Add requests to `traffic`; accounts are named by digests of `seal`."""
        self._traffic, self._seal, self._settings = traffic, seal, settings
        self._latest: OrderedDict[str, tuple[Verdict, float]] = OrderedDict()
        self._lock = Lock()

    def answer(self, found: Outcome) -> Answer:
        """The answer to one request; those that name no account pass."""
        now = time.time()
        observations = self._traffic.take([found], now).observations
        if not isinstance(found, Request) or found.account_id is None:
            return Answer()
        verdict = self._verdict(found.account_id, observations[0].verdict if observations else None, now)
        is_blocked = self._settings.blocks and verdict is not None and verdict.label == "harvesting"
        digest = self._seal.digest(found.account_id, 8).hex()
        return Answer(is_blocked, digest, verdict)

    def _verdict(self, account_id: str, verdict: Verdict | None, now: float) -> Verdict | None:
        """The newest verdict on an account; none of before a pause that ends a session."""
        with self._lock:
            before, at = self._latest.pop(account_id, (None, now))
            if verdict is None:
                verdict = before if now - at <= GAP_SECONDS else None
            if verdict is not None:
                self._latest[account_id] = verdict, now
            if len(self._latest) > _MAX_ACCOUNTS:
                self._latest.popitem(last=False)
        return verdict
