"""Guardrail: what LiteLLM is answered about one request, within a number of seconds."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any

from serve.gateways.litellm import guardrail_request
from serve.gateways.settings import GatewaySettings
from serve.gateways.traffic import Traffic
from serve.http.plug_ins.schemas import GuardrailIn
from serve.io.logs.requests import Request
from serve.live.sealing import Seal
from serve.scoring.verdict import Verdict
from serve.sessions.sessionizing import GAP_SECONDS

_MAX_ACCOUNTS = 10_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What LiteLLM is to do, and the account as a keyed digest, None where none is named."""

    action: str
    account: str | None = None
    verdict: Verdict | None = None

    def body(self) -> bytes:
        """As JSON; a caller who is blocked is given a name that the service's log has, too, and no score."""
        found: dict[str, Any] = {"action": self.action}
        if self.action == "BLOCKED":
            found["blocked_reason"] = f"this account's traffic is under review (reference {self.account})"
        if self.verdict is not None:
            names = ("label", "score", "p_value", "n_exchanges")
            found["verdict"] = {name: getattr(self.verdict, name) for name in names}
        return json.dumps(found, allow_nan=False, separators=(",", ":")).encode()


class Guardrail:
    """Judges the account's live session after each request; a request that adds nothing has the verdict before it."""

    def __init__(self, traffic: Traffic, seal: Seal, settings: GatewaySettings) -> None:
        """Add requests to `traffic`; accounts are named by digests of `seal`."""
        self._traffic, self._seal, self._settings = traffic, seal, settings
        self._latest: OrderedDict[str, tuple[Verdict, float]] = OrderedDict()
        self._lock = Lock()

    def answer(self, given: GuardrailIn) -> Answer:
        """The answer to one request; responses of models, and requests that name no account, pass."""
        if given.input_type != "request":
            return Answer("NONE")
        found = guardrail_request(given.model_dump(), self._settings.litellm_account)
        now = time.time()
        observations = self._traffic.take([found], now).observations
        if not isinstance(found, Request) or found.account_id is None:
            return Answer("NONE")
        verdict = self._verdict(found.account_id, observations[0].verdict if observations else None, now)
        is_blocked = self._settings.blocks and verdict is not None and verdict.label == "harvesting"
        digest = self._seal.digest(found.account_id, 8).hex()
        return Answer("BLOCKED" if is_blocked else "NONE", digest, verdict)

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
