"""Keys: who may ask, and how often. Keys are held as SHA-256 digests only, which suffices for random keys."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

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
            ValueError: naming the place of an entry that is none; the entry itself isn't told.
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


class RateLimit:
    """A bucket of `burst` requests a key that fills at `per_s` a second; for keys that are known, so bounded."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with full buckets.

        Raises:
            ValueError: when a number isn't above 0.
        """
        if not (per_s > 0 and burst >= 1):
            raise ValueError(f"rate limit is {per_s} a second and {burst} at once, expected more than 0 and at least 1")
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def wait_s(self, name: str) -> int:
        """0 when a request may go on, else whole seconds after which one may."""
        with self._lock:
            now = self._clock()
            left, at = self._buckets.get(name, (self._burst, now))
            left = min(self._burst, left + (now - at) * self._per_s)
            self._buckets[name] = (left - 1 if left >= 1 else left, now)
            return 0 if left >= 1 else max(1, math.ceil((1 - left) / self._per_s))
