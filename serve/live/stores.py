"""Stores: where growing sessions are kept, in this process or in a Redis that several replicas share.

A store keeps states under keys and tells a newcomer's key from one that it has lost. Memory is bounded: what was used
least recently goes first, and what wasn't used for `ttl_s` goes too; both are counted and remembered, so that a session
that comes back is known to be partial.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from serve.live.sealing import Seal, SealError
from serve.live.session_state import SessionState, SessionStateError

if TYPE_CHECKING:
    from redis import Redis

TIMEOUT_S = 0.2
"""Longest that anything waits for Redis."""

_RETRY_AFTER_S = 1.0
_MAX_LOST = 200_000
_MAX_SUMMARIES = 256
_TRACE_TTL_FACTOR = 24


class StoreDownError(RuntimeError):
    """The store can't be reached."""


class StoreBusyError(RuntimeError):
    """Too many others changed the same session meanwhile."""


@dataclass(frozen=True, slots=True)
class StoredState:
    """What a store has under a key: a state, or none; `stamp` names what was read: nobody else's change is lost.

    `lost_at` is when the last exchange was sent of a state that the store no longer has (NaN where unknown), None where
    it never had one.
    """

    state: SessionState | None
    stamp: bytes = b""
    lost_at: float | None = None


class Store(Protocol):
    """Keeps states of sessions, and summaries of an account's sessions."""

    def get(self, key: bytes) -> StoredState:
        """What is held; the state may be changed by the caller, who then puts or drops it."""
        ...

    def put(self, key: bytes, state: SessionState, stamp: bytes) -> bool:
        """Keep a state; False, and nothing is kept, where another one was put since `stamp`."""
        ...

    def copy(self, key: bytes) -> SessionState | None:
        """Take out the state that this process saw last, for when the store can't be reached."""
        ...

    def summarise(self, account: bytes, session: bytes, summary: bytes) -> None:
        """Keep a summary of a session beside the account's others."""
        ...

    def summaries(self, account: bytes) -> list[bytes]:
        """Summaries of an account's sessions."""
        ...

    def name(self, session: bytes, account_id: str) -> None:
        """Remember whose session of this id is the latest."""
        ...

    def account_of(self, session: bytes) -> str | None:
        """Whose session of this id is the latest."""
        ...

    def is_ready(self) -> bool:
        """Whether the store answers."""
        ...


@dataclass(slots=True)
class StoreCounts:
    """What a store holds and has lost."""

    n_sessions: int = 0
    n_bytes: int = 0
    n_evicted: int = 0
    n_expired: int = 0


class ProcessStore:
    """Sessions in this process, at most `max_bytes` of them, the least recently used evicted first."""

    def __init__(self, *, max_bytes: int = 1 << 30, ttl_s: float = 7200.0, hot_bytes: int = 1 << 26) -> None:
        """`hot_bytes` bounds what is kept beside states to update busy sessions faster."""
        self.counts = StoreCounts()
        self._max_bytes, self._ttl_s, self._hot_bytes = max_bytes, ttl_s, hot_bytes
        self._states: OrderedDict[bytes, tuple[SessionState, int, float]] = OrderedDict()
        self._hot: OrderedDict[bytes, int] = OrderedDict()
        self._hot_total = 0
        self._lost: OrderedDict[bytes, float] = OrderedDict()
        self._accounts: OrderedDict[bytes, OrderedDict[bytes, bytes]] = OrderedDict()
        self._owners: OrderedDict[bytes, str] = OrderedDict()
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

    def put(self, key: bytes, state: SessionState, stamp: bytes = b"") -> bool:
        """See `Store.put`; who puts holds the session's lock, so nobody else can have."""
        with self._lock:
            self._forget(key)
            n_bytes = state.n_bytes
            self._states[key] = (state, n_bytes, time.monotonic())
            self.counts.n_bytes += n_bytes
            self._lost.pop(key, None)
            self._warm(key, state)
            while self.counts.n_bytes > self._max_bytes and len(self._states) > 1:
                self._lose(next(iter(self._states)))
                self.counts.n_evicted += 1
            self.counts.n_sessions = len(self._states)
        return True

    def copy(self, key: bytes) -> SessionState | None:
        """See `Store.copy`."""
        return self.get(key).state

    def drop(self, key: bytes) -> None:
        """Forget a state without a trace."""
        with self._lock:
            self._forget(key)

    def summarise(self, account: bytes, session: bytes, summary: bytes) -> None:
        """See `Store.summarise`."""
        with self._lock:
            own = self._accounts.setdefault(account, OrderedDict())
            own[session] = summary
            own.move_to_end(session)
            self._accounts.move_to_end(account)
            if len(own) > _MAX_SUMMARIES:
                own.popitem(last=False)
            if len(self._accounts) > _MAX_LOST:
                self._accounts.popitem(last=False)

    def summaries(self, account: bytes) -> list[bytes]:
        """See `Store.summaries`."""
        with self._lock:
            return list(self._accounts.get(account, {}).values())

    def name(self, session: bytes, account_id: str) -> None:
        """See `Store.name`."""
        with self._lock:
            self._owners[session] = account_id
            if len(self._owners) > _MAX_LOST:
                self._owners.popitem(last=False)

    def account_of(self, session: bytes) -> str | None:
        """See `Store.account_of`."""
        return self._owners.get(session)

    def is_ready(self) -> bool:
        """Always."""
        return True

    def _warm(self, key: bytes, state: SessionState) -> None:
        """Keep comparisons of the busiest sessions only."""
        size = state.comparison.n_bytes if state.comparison is not None else 0
        self._hot[key] = size
        self._hot_total += size
        while self._hot_total > self._hot_bytes and len(self._hot) > 1:
            cold, n_bytes = self._hot.popitem(last=False)
            self._hot_total -= n_bytes
            if cold in self._states:
                state, before, at = self._states[cold]
                state.comparison = None
                self._states[cold] = (state, before - n_bytes, at)
                self.counts.n_bytes -= n_bytes

    def _expire(self) -> None:
        limit = time.monotonic() - self._ttl_s
        while self._states:
            key, (_, _, used_at) = next(iter(self._states.items()))
            if used_at > limit:
                break
            self._lose(key)
            self.counts.n_expired += 1
        self.counts.n_sessions = len(self._states)

    def _lose(self, key: bytes) -> None:
        self._lost[key] = self._states[key][0].previous_at
        self._lost.move_to_end(key)
        if len(self._lost) > _MAX_LOST:
            self._lost.popitem(last=False)
        self._forget(key)

    def _forget(self, key: bytes) -> None:
        found = self._states.pop(key, None)
        if found is not None:
            self.counts.n_bytes -= found[1]
            self._hot_total -= self._hot.pop(key, 0)
            self.counts.n_sessions = len(self._states)


# Puts a state where its stamp is still the one that was read, and leaves a trace that outlives it.
_PUT = """
local found = redis.call('HGET', KEYS[1], 'stamp')
if (found or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'stamp', ARGV[2], 'state', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[6])
return 1
"""


class RedisStore:
    """Sessions in Redis, sealed, under keyed digests; this process keeps copies of those that it used last."""

    def __init__(self, url: str, seal: Seal, *, ttl_s: float = 7200.0, copies: ProcessStore | None = None) -> None:
        """Connect when first used.

        Raises:
            ImportError: when redis is not installed, with the command that installs it.
            ValueError: when the URL is none.
        """
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as fault:
            raise ImportError("Redis needs: pip install 'stillwatch[app]'") from fault
        self._fault = (redis.RedisError, OSError)
        self._redis: Redis = redis.Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0),
        )  # fmt: skip
        self._put = self._redis.register_script(_PUT)
        self._seal, self._ttl_ms = seal, int(ttl_s * 1000)
        self.copies = copies or ProcessStore(max_bytes=1 << 28, ttl_s=ttl_s)
        self._stamps: OrderedDict[bytes, bytes] = OrderedDict()
        self._down_until = 0.0

    @property
    def counts(self) -> StoreCounts:
        """What this process has copies of."""
        return self.copies.counts

    def get(self, key: bytes) -> StoredState:
        """See `Store.get`.

        Raises:
            StoreDownError: when Redis doesn't answer.
        """
        with self._reached():
            stamp = self._bytes(self._redis.hget(_state(key), "stamp"))
            copy = self.copies.get(key).state
            if copy is not None and stamp and self._stamps.get(key) == stamp:
                return StoredState(copy, stamp)
            stamp, sealed = map(self._bytes, self._redis.hmget(_state(key), "stamp", "state"))
            trace = None if sealed else self._bytes(self._redis.get(_trace(key)))
        if not sealed:
            return StoredState(
                copy, b"", None if trace is None else float(trace)
            )  # lost by Redis, but not by this process
        try:
            state = SessionState.of_bytes(self._seal.open(sealed))
        except (SealError, SessionStateError):  # another secret or release wrote it: it is lost to this one
            return StoredState(None, stamp or b"", math.nan)
        if copy is not None and copy.session_id == state.session_id and copy.n > state.n:
            state.is_partial = True  # Redis came back with less than it had
        return StoredState(state, stamp or b"")

    def copy(self, key: bytes) -> SessionState | None:
        """See `Store.copy`."""
        found = self.copies.get(key).state
        self.copies.drop(key)
        return found

    def put(self, key: bytes, state: SessionState, stamp: bytes) -> bool:
        """See `Store.put`.

        Raises:
            StoreDownError: when Redis doesn't answer.
        """
        new = os.urandom(8)
        sealed = self._seal.close(state.to_bytes())
        self.copies.drop(key)
        with self._reached():
            done = self._put(
                keys=[_state(key), _trace(key)],
                args=[stamp, new, sealed, self._ttl_ms, repr(state.previous_at), self._ttl_ms * _TRACE_TTL_FACTOR],
            )
        if not done:
            return False
        self.copies.put(key, state)
        self._stamps[key] = new
        if len(self._stamps) > _MAX_LOST:
            self._stamps.popitem(last=False)
        return True

    def summarise(self, account: bytes, session: bytes, summary: bytes) -> None:
        """See `Store.summarise`."""
        with self._reached():
            pipe = self._redis.pipeline(transaction=False)
            pipe.hset(_account(account), session, self._seal.close(summary))
            pipe.pexpire(_account(account), self._ttl_ms * _TRACE_TTL_FACTOR)
            pipe.execute()

    def summaries(self, account: bytes) -> list[bytes]:
        """See `Store.summaries`."""
        with self._reached():
            found: Any = self._redis.hvals(_account(account))
        return [self._seal.open(sealed) for sealed in found]

    def name(self, session: bytes, account_id: str) -> None:
        """See `Store.name`."""
        with self._reached():
            self._redis.set(b"stillwatch:o:" + session, self._seal.close(account_id.encode()), px=self._ttl_ms)

    def account_of(self, session: bytes) -> str | None:
        """See `Store.account_of`."""
        with self._reached():
            found = self._bytes(self._redis.get(b"stillwatch:o:" + session))
        return self._seal.open(found).decode() if found else None

    def is_ready(self) -> bool:
        """Whether Redis answers within `TIMEOUT_S`."""
        try:
            with self._reached():
                return bool(self._redis.ping())
        except StoreDownError:
            return False

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Fail at once for a second after Redis didn't answer, so that not every request waits for it."""
        if time.monotonic() < self._down_until:
            raise StoreDownError("Redis does not answer")
        try:
            yield
        except self._fault as fault:
            self._down_until = time.monotonic() + _RETRY_AFTER_S
            raise StoreDownError(f"Redis does not answer ({type(fault).__name__})") from fault

    @staticmethod
    def _bytes(value: Any) -> bytes | None:
        return value if isinstance(value, bytes) else None


def _state(key: bytes) -> bytes:
    return b"stillwatch:s:" + key


def _trace(key: bytes) -> bytes:
    return b"stillwatch:t:" + key


def _account(account: bytes) -> bytes:
    return b"stillwatch:a:" + account
