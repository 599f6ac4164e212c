"""Keys: who may ask, and how often; held as SHA-256 digests only, which suffices for random keys."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import re
import secrets
import time
from dataclasses import dataclass
from typing import Any, Self

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.backoff import NoBackoff
from redis.retry import Retry

from serve.live.redis_store import TIMEOUT_S

_ENTRY = re.compile(r"([A-Za-z0-9._-]{1,64}):([0-9a-f]{64})")


def new_key() -> tuple[str, str]:
    """A random key, and its digest for the configuration."""
    key = secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """Names of keys and the SHA-256 digests of the keys."""

    digests: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name:sha256hex`, several parted by commas.

        Raises:
            ValueError: naming the place of an entry that is none; the entry itself isn't shown.
        """
        entries = [entry.strip() for entry in text.split(",") if entry.strip()]
        found = [_ENTRY.fullmatch(entry) for entry in entries]
        for place, match in enumerate(found, 1):
            if match is None:
                raise ValueError(f"API key {place} is not NAME:SHA256 (64 lower-case hexadecimal digits)")
        return cls(tuple((match[1], bytes.fromhex(match[2])) for match in found if match is not None))

    def __bool__(self) -> bool:
        return bool(self.digests)

    def name_of(self, authorization: str) -> str | None:
        """Name of the key in a header `Bearer KEY`; None for another. All are compared, each in constant time."""
        scheme, _, key = authorization.partition(" ")
        given = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        found = None
        for name, digest in self.digests:
            if hmac.compare_digest(given, digest):
                found = name
        return found if scheme.lower() == "bearer" else None


_WINDOW_S = 2
_UNKNOWN_WINDOW_S = 10
_RETRY_AFTER_S = 1.0


class RateLimits:
    """Requests a key, over windows of two seconds, and requests without a known key, by address and all together."""

    def __init__(
        self, per_s: float, *, redis_url: str | None = None, unknown: int = 60, all_unknown: int = 1000
    ) -> None:
        """Begin with nothing counted; `unknown` requests an address, and `all_unknown`, are answered in 10 s.

        Raises:
            ValueError: when the rate isn't above 0.
        """
        if not (per_s > 0 and math.isfinite(per_s)):
            raise ValueError(f"rate limit is {per_s} a second, expected more than 0")
        window_s = max(_WINDOW_S, math.ceil(1 / per_s))
        self._per_key = RateLimitItemPerSecond(max(1, round(per_s * window_s)), window_s)
        self._per_address = RateLimitItemPerSecond(unknown, _UNKNOWN_WINDOW_S)
        self._everyone = RateLimitItemPerSecond(all_unknown, _UNKNOWN_WINDOW_S)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = None if redis_url is None else SlidingWindowCounterRateLimiter(_redis(redis_url))
        self._down_until = 0.0

    async def asked(self, key: str) -> int:
        """Count a request with a key: 0 where it may go on, else whole seconds after which one may."""
        if self._shared is not None and time.monotonic() >= self._down_until:
            try:
                return await asyncio.to_thread(_hit, self._shared, self._per_key, key)
            except StorageError:
                self._down_until = time.monotonic() + _RETRY_AFTER_S  # each replica by itself until then
        return _hit(self._own, self._per_key, key)

    def refused(self, address: str) -> int:
        """Count a request without a known key: 0 where it may be answered so, else seconds until it may."""
        is_over = _hit(self._own, self._everyone, "unknown") or _hit(self._own, self._per_address, "unknown", address)
        return _UNKNOWN_WINDOW_S if is_over else 0


def _redis(url: str) -> RedisStorage:
    scheme, _, rest = url.partition("://")
    options: Any = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S, "retry": Retry(NoBackoff(), 0)}
    named = f"{'redis+unix' if scheme == 'unix' else scheme}://{rest}"
    return RedisStorage(named, key_prefix="stillwatch:r", wrap_exceptions=True, **options)


def _hit(limiter: SlidingWindowCounterRateLimiter, item: RateLimitItem, *names: str) -> int:
    """0, or the seconds after which, at this rate, one more request is due."""
    return 0 if limiter.hit(item, *names) else math.ceil(item.get_expiry() / item.amount)
