"""Account records: summaries of each account's latest sessions, and whose each session is.

Both are within a number of bytes and an age.
"""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from serve.live.stores import MAX_SUMMARIES

_ENTRY_BYTES = 250
"""About what the dictionaries take for a session beside its summary, or its account's id."""


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


class SessionOwners:
    """Accounts by digest of a session's id; the one that was named least recently goes first. Not safe by itself."""

    def __init__(self, max_bytes: int, ttl_s: float) -> None:
        """Begin without any."""
        self.n_bytes = 0
        self._max_bytes, self._ttl_s = max_bytes, ttl_s
        self._owners: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def name(self, session: bytes, account_id: str) -> None:
        """The session is this account's now."""
        self._forget(session)
        self._owners[session] = (account_id, time.monotonic())
        self.n_bytes += _size(account_id)
        while self.n_bytes > self._max_bytes and len(self._owners) > 1:
            self._forget(next(iter(self._owners)))
        self.expire()

    def of(self, session: bytes) -> str | None:
        """Whose it is, None where that isn't known any more."""
        self.expire()
        found = self._owners.get(session)
        return None if found is None else found[0]

    def expire(self) -> None:
        """Forget what is too old."""
        limit = time.monotonic() - self._ttl_s
        while self._owners and next(iter(self._owners.values()))[1] <= limit:
            self._forget(next(iter(self._owners)))

    def _forget(self, session: bytes) -> None:
        found = self._owners.pop(session, None)
        self.n_bytes -= 0 if found is None else _size(found[0])


def _size(account_id: str) -> int:
    return _ENTRY_BYTES + sys.getsizeof(account_id)
