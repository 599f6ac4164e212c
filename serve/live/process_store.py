"""The store of one process: growing sessions and summaries of accounts, within a number of bytes and an age."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from serve.live.account_records import AccountSummaries, SessionOwners
from serve.live.session_state import SessionState
from serve.live.stores import MAX_LOST, StoreCounts, StoredState

_MIN_LOST = 10_000
_SUMMARY_SHARE, _OWNER_SHARE = 8, 16
"""One part in so many of a store's bytes is for summaries of accounts, and for whose sessions are."""


class ProcessStore:
    """Sessions in this process, at most `max_bytes` of them, the least recently used evicted first."""

    def __init__(self, *, max_bytes: int = 1 << 30, ttl_s: float = 7200.0, hot_bytes: int = 1 << 26) -> None:
        """`hot_bytes` bounds what is kept beside states to update busy sessions faster."""
        self.counts = StoreCounts()
        self._max_bytes = max_bytes - max_bytes // _SUMMARY_SHARE - max_bytes // _OWNER_SHARE
        self._n_bytes = 0  # of states; what is counted has summaries and owners, too
        self._ttl_s, self._hot_bytes = ttl_s, hot_bytes
        self._states: OrderedDict[bytes, tuple[SessionState, int, float]] = OrderedDict()
        self._hot: OrderedDict[bytes, int] = OrderedDict()
        self._hot_total = 0
        self._lost: OrderedDict[bytes, float] = OrderedDict()
        self._summaries = AccountSummaries(max_bytes // _SUMMARY_SHARE, ttl_s)
        self._max_lost = min(MAX_LOST, max(_MIN_LOST, max_bytes >> 10))
        self._owners = SessionOwners(max_bytes // _OWNER_SHARE, ttl_s)
        self._lock = threading.Lock()

    def get(self, key: bytes) -> StoredState:
        """See `Store.get`."""
        with self._lock:
            self._expire()
            found = self._states.get(key)
            if found is None:
                return StoredState(None, lost_at=self._lost.get(key))
            self._states.move_to_end(key)
            return StoredState(found[0], b"held")

    def put(self, key: bytes, state: SessionState, stamp: bytes = b"", new_stamp: bytes = b"") -> bool:
        """See `Store.put`; who puts holds the session's lock, so nobody else can have."""
        with self._lock:
            self._forget(key)
            n_bytes = state.n_bytes
            self._states[key] = (state, n_bytes, time.monotonic())
            self._n_bytes += n_bytes
            self._lost.pop(key, None)
            self._warm(key, state)
            while self._n_bytes > self._max_bytes and len(self._states) > 1:
                self._lose(next(iter(self._states)))
                self.counts.n_evicted += 1
            self._count()
        return True

    def copy(self, key: bytes) -> StoredState:
        """See `Store.copy`."""
        return self.get(key)

    def discard(self, key: bytes) -> None:
        """See `Store.discard`; it is remembered as lost."""
        with self._lock:
            if key in self._states:
                self._lose(key)
                self._count()

    def drop(self, key: bytes) -> None:
        """Forget a state without a trace."""
        with self._lock:
            self._forget(key)
            self._count()

    def summarise(self, account: bytes, session: bytes, summary: bytes) -> None:
        """See `Store.summarise`."""
        with self._lock:
            self._summaries.add(account, session, summary)
            self._count()

    def summaries(self, account: bytes) -> list[bytes]:
        """See `Store.summaries`."""
        with self._lock:
            self._expire()
            return self._summaries.of(account)

    def name(self, session: bytes, account_id: str) -> None:
        """See `Store.name`."""
        with self._lock:
            self._owners.name(session, account_id)
            self._count()

    def account_of(self, session: bytes) -> str | None:
        """See `Store.account_of`."""
        with self._lock:
            return self._owners.of(session)

    def is_ready(self) -> bool:
        """Always."""
        return True

    def _warm(self, key: bytes, state: SessionState) -> None:
        """Keep comparisons of the busiest sessions only."""
        comparison = state.comparison
        size = 0 if comparison is None else comparison.n_bytes
        self._hot[key] = size
        self._hot_total += size
        while self._hot_total > self._hot_bytes and len(self._hot) > 1:
            cold, n_bytes = self._hot.popitem(last=False)
            self._hot_total -= n_bytes
            if cold in self._states:
                state, before, at = self._states[cold]
                state.comparison = None  # another thread may be adding to it just now: see `SessionState._compared`
                self._states[cold] = (state, before - n_bytes, at)
                self._n_bytes -= n_bytes

    def _expire(self) -> None:
        self._summaries.expire()
        self._owners.expire()
        limit = time.monotonic() - self._ttl_s
        while self._states:
            key, (_, _, used_at) = next(iter(self._states.items()))
            if used_at > limit:
                break
            self._lose(key)
            self.counts.n_expired += 1
        self._count()

    def _count(self) -> None:
        self.counts.n_sessions = len(self._states)
        self.counts.n_bytes = self._n_bytes + self._summaries.n_bytes + self._owners.n_bytes

    def _lose(self, key: bytes) -> None:
        self._lost[key] = self._states[key][0].previous_at
        self._lost.move_to_end(key)
        if len(self._lost) > self._max_lost:
            self._lost.popitem(last=False)
        self._forget(key)

    def _forget(self, key: bytes) -> None:
        found = self._states.pop(key, None)
        if found is not None:
            self._n_bytes -= found[1]
            self._hot_total -= self._hot.pop(key, 0)
