"""Summaries of each account's latest sessions, within a number of bytes and an age."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field

from serve.live.stores import MAX_SUMMARIES

_ENTRY_BYTES = 250
"""About what the dictionaries take for a session beside its summary."""


@dataclass(slots=True)
class _Account:
    used_at: float
    summaries: OrderedDict[bytes, bytes] = field(default_factory=OrderedDict)
    n_bytes: int = 2 * _ENTRY_BYTES


class AccountSummaries:
    """At most `MAX_SUMMARIES` an account; the account that was used least recently goes first. Not safe by itself."""

    def __init__(self, max_bytes: int, ttl_s: float) -> None:
        """Begin without any."""
        self.n_bytes = 0
        self._max_bytes, self._ttl_s = max_bytes, ttl_s
        self._accounts: OrderedDict[bytes, _Account] = OrderedDict()

    def add(self, account: bytes, session: bytes, summary: bytes) -> None:
        """Keep a session's summary in place of an earlier one."""
        own = self._accounts.pop(account, None) or _Account(0.0)
        self.n_bytes -= own.n_bytes if own.used_at else 0
        own.used_at = time.monotonic()
        _replace(own, session, summary)
        self._accounts[account] = own
        self.n_bytes += own.n_bytes
        while self.n_bytes > self._max_bytes and len(self._accounts) > 1:
            self._drop_oldest()
        self.expire()

    def of(self, account: bytes) -> list[bytes]:
        """An account's summaries."""
        self.expire()
        found = self._accounts.get(account)
        return [] if found is None else list(found.summaries.values())

    def expire(self) -> None:
        """Forget what is too old."""
        limit = time.monotonic() - self._ttl_s
        while self._accounts and next(iter(self._accounts.values())).used_at <= limit:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self.n_bytes -= self._accounts.popitem(last=False)[1].n_bytes


def _replace(own: _Account, session: bytes, summary: bytes) -> None:
    before = own.summaries.pop(session, None)
    own.n_bytes -= 0 if before is None else len(before) + _ENTRY_BYTES
    own.summaries[session] = summary
    own.n_bytes += len(summary) + _ENTRY_BYTES
    if len(own.summaries) > MAX_SUMMARIES:
        own.n_bytes -= len(own.summaries.popitem(last=False)[1]) + _ENTRY_BYTES
