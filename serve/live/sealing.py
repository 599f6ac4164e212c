"""Sealing: what keeps texts, accounts and states unreadable wherever they are held or written.

Everything is derived from one secret: a cipher (AES-GCM, so a changed state is refused, not parsed), and keyed digests
(BLAKE2b), so that neither a prompt nor an account can be found by hashing guesses.
"""

from __future__ import annotations

import hashlib
import os
from typing import Self

MIN_SECRET_BYTES = 16
_NONCE_BYTES = 12


class SealError(ValueError):
    """Something that was not sealed with this secret, or was changed since."""


class Seal:
    """Seals bytes and digests texts with keys that come from one secret."""

    def __init__(self, secret: bytes) -> None:
        """Derive the keys.

        Raises:
            ValueError: when the secret is shorter than `MIN_SECRET_BYTES`.
            ImportError: when `cryptography` is not installed, with the command that installs it.
        """
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as fault:
            raise ImportError("growing sessions need: pip install 'stillwatch[app]'") from fault
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"the secret has {len(secret)} bytes, expected at least {MIN_SECRET_BYTES}")
        self._cipher = AESGCM(_derived(secret, b"cipher"))
        self._key = _derived(secret, b"digest")

    @classmethod
    def fresh(cls) -> Self:
        """A seal that only this process can open."""
        return cls(os.urandom(32))

    def close(self, plain: bytes) -> bytes:
        """The bytes, sealed."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, None)

    def open(self, sealed: bytes) -> bytes:
        """What was sealed.

        Raises:
            SealError: when it wasn't sealed with this secret, or was changed.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
        except (InvalidTag, ValueError) as fault:
            raise SealError(f"{len(sealed)} bytes that were not sealed with this secret") from fault

    def digest(self, text: str, n_bytes: int = 16) -> bytes:
        """A keyed digest of a text; equal texts have equal ones."""
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=n_bytes).digest()

    def number(self, text: str) -> int:
        """A keyed digest of a text as a number of 64 bits."""
        return int.from_bytes(self.digest(text, 8), "big")


def _derived(secret: bytes, purpose: bytes) -> bytes:
    """32 bytes for one purpose; BLAKE2b keyed with the (hashed) secret is a pseudo-random function."""
    key = hashlib.blake2b(secret, digest_size=64).digest()
    return hashlib.blake2b(purpose, key=key, digest_size=32).digest()
