"""The store that replicas share: Redis, where nothing can be read without the secret."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.live.process_store import ProcessStore
from serve.live.sealing import Seal, SealError
from serve.live.session_state import SessionState
from serve.live.state_bytes import SessionStateError, from_bytes, to_bytes
from serve.live.stores import MAX_LOST, MAX_SUMMARIES, StoreCounts, StoreDownError, StoredState

if TYPE_CHECKING:
    from redis import Redis

TIMEOUT_S = 0.2
"""Longest that anything waits for Redis."""

_RETRY_AFTER_S = 1.0
_TRACE_TTL_FACTOR = 24
_EPOCH = b"stillwatch:epoch"
_EPOCH_BYTES = 8

# Puts a state where its stamp is still the one that was read, and leaves a trace that outlives it.
_PUT = """
local found = redis.call('HGET', KEYS[1], 'stamp')
if (found or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'stamp', ARGV[2], 'state', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[6])
return 1
"""

# Keeps an account's latest summaries, as many as the third argument says.
_SUMMARISE = """
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now[1] * 1000000 + now[2], ARGV[1])
local n_over = redis.call('ZCARD', KEYS[2]) - ARGV[3]
if n_over > 0 then
    for _, old in ipairs(redis.call('ZRANGE', KEYS[2], 0, n_over - 1)) do
        redis.call('HDEL', KEYS[1], old)
        redis.call('ZREM', KEYS[2], old)
    end
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
"""


class RedisStore:
    """Sessions in Redis, sealed, under keyed digests; this process keeps copies of those that it used last."""

    def __init__(
        self,
        url: str,
        seal: Seal,
        *,
        ttl_s: float = 7200.0,
        copies: ProcessStore | None = None,
        epoch_path: Path | None = None,
    ) -> None:
        """Connect when first used; a file at `epoch_path` tells after a restart whether Redis lost all meanwhile.

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
        self._summarise = self._redis.register_script(_SUMMARISE)
        self._seal, self._ttl_ms = seal, int(ttl_s * 1000)
        self.copies = copies or ProcessStore(max_bytes=1 << 28, ttl_s=ttl_s)
        self._stamps: OrderedDict[bytes, bytes] = OrderedDict()
        self._epoch_path = epoch_path
        self._epoch = _noted(epoch_path)
        self._emptied_at = -math.inf
        self._down_until = 0.0
        self._lock = threading.Lock()

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
            if not sealed:
                return self._missing(key, copy)
        try:
            state = from_bytes(self._seal.open(sealed))
        except (SealError, SessionStateError):  # another secret or release wrote it: it is lost to this one
            return StoredState(None, stamp or b"", math.nan)
        if copy is not None and copy.session_id == state.session_id and copy.n > state.n:
            state.is_partial = True  # Redis came back with less than it had
        return StoredState(state, stamp or b"")

    def _missing(self, key: bytes, copy: SessionState | None) -> StoredState:
        """What is known of a state that Redis doesn't have: others may have added to it before it was lost."""
        if copy is not None:
            copy.is_partial = True
            return StoredState(copy)
        trace = self._bytes(self._redis.get(_trace(key)))
        if trace is not None:
            return StoredState(None, lost_at=float(trace))
        return StoredState(None, lost_at=math.nan if self._was_emptied() else None)

    def _was_emptied(self) -> bool:
        """Whether Redis lost all that it had, so lately that a session which seems new may have been there."""
        epoch = self._bytes(self._redis.get(_EPOCH))
        if epoch is None:
            self._redis.set(_EPOCH, os.urandom(_EPOCH_BYTES), nx=True)
            epoch = self._bytes(self._redis.get(_EPOCH))
        if self._epoch not in (None, epoch):
            self._emptied_at = time.monotonic()
        if epoch != self._epoch:
            self._epoch = epoch
            _note(epoch, self._epoch_path)
        return time.monotonic() - self._emptied_at < self._ttl_ms / 1000

    def copy(self, key: bytes) -> StoredState:
        """See `Store.copy`."""
        found = self.copies.get(key).state
        self.copies.drop(key)
        return StoredState(found, self._stamps.get(key, b"") if found is not None else b"")

    def discard(self, key: bytes) -> None:
        """See `Store.discard`; Redis still has it as it was."""
        self.copies.drop(key)

    def put(self, key: bytes, state: SessionState, stamp: bytes, new_stamp: bytes) -> bool:
        """See `Store.put`.

        Raises:
            StoreDownError: when Redis doesn't answer.
        """
        sealed = self._seal.close(to_bytes(state))
        self.copies.drop(key)
        with self._reached():
            done = self._put(
                keys=[_state(key), _trace(key)],
                args=[
                    stamp, new_stamp, sealed, self._ttl_ms, repr(state.previous_at), self._ttl_ms * _TRACE_TTL_FACTOR
                ],
            )  # fmt: skip
        if not done:
            return False
        self.copies.put(key, state)
        with self._lock:
            self._stamps[key] = new_stamp
            if len(self._stamps) > MAX_LOST:
                self._stamps.popitem(last=False)
        return True

    def summarise(self, account: bytes, session: bytes, summary: bytes) -> None:
        """See `Store.summarise`."""
        with self._reached():
            self._summarise(
                keys=[_account(account), _order(account)],
                args=[session, self._seal.close(summary), MAX_SUMMARIES, self._ttl_ms],
            )

    def summaries(self, account: bytes) -> list[bytes]:
        """See `Store.summaries`."""
        with self._reached():
            found: Any = self._redis.hvals(_account(account))
        return [plain for plain in map(self._opened, found) if plain is not None]

    def name(self, session: bytes, account_id: str) -> None:
        """See `Store.name`."""
        with self._reached():
            self._redis.set(b"stillwatch:o:" + session, self._seal.close(account_id.encode()), px=self._ttl_ms)

    def account_of(self, session: bytes) -> str | None:
        """See `Store.account_of`."""
        with self._reached():
            found = self._bytes(self._redis.get(b"stillwatch:o:" + session))
        plain = self._opened(found) if found else None
        return None if plain is None else plain.decode()

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

    def _opened(self, sealed: bytes) -> bytes | None:
        try:
            return self._seal.open(sealed)
        except SealError:  # of another secret
            return None

    @staticmethod
    def _bytes(value: Any) -> bytes | None:
        return value if isinstance(value, bytes) else None


def _noted(path: Path | None) -> bytes | None:
    """The epoch that an earlier process saw, None where there was none or it can't be read."""
    try:
        return None if path is None else path.read_bytes()[:_EPOCH_BYTES] or None
    except OSError:
        return None


def _note(epoch: bytes | None, path: Path | None) -> None:
    """Remember an epoch for later processes; nothing where there is no place for it."""
    if path is None or epoch is None:
        return
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.write_bytes(epoch)
        part.replace(path)
    except OSError:
        return


def _state(key: bytes) -> bytes:
    return b"stillwatch:s:" + key


def _trace(key: bytes) -> bytes:
    return b"stillwatch:t:" + key


def _account(account: bytes) -> bytes:
    return b"stillwatch:a:" + account


def _order(account: bytes) -> bytes:
    return b"stillwatch:w:" + account
