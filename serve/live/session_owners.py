"""Whose the sessions are: the account that used each id last, within a number of bytes and an age."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict

_ENTRY_BYTES = 250
"""About what the dictionary takes for a session beside its account's id."""


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
