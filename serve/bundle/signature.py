"""Signature: who made a bundle, where that is required. minisign signs the manifest, which lists every other file.

Signing is minisign's work (`minisign -Sm BUNDLE/manifest.json`); here its signatures are only checked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from serve.bundle.files import SIGNATURE, BundleError

REQUIRED_BY: Final = "STILLWATCH_REQUIRE_SIGNED"
"""The variable that holds a key, or a file with one; every process that this one starts has it, too."""

_KEY, _SIGNED = b"Ed", b"ED"
_KEY_BYTES, _SIGNATURE_BYTES = 42, 74
_MAX_BYTES = 16 << 10
_COMMENTS = b"untrusted comment: ", b"trusted comment: "


@dataclass(frozen=True, slots=True)
class SignerKey:
    """A public key of minisign: an Ed25519 key of 32 bytes, and the 8 bytes by which signatures name it."""

    key_id: bytes
    key: bytes

    @classmethod
    def of(cls, given: str) -> Self:
        """The key of this text, as minisign prints it, or of a file that minisign wrote.

        Raises:
            ValueError: when it is neither.
        """
        raw = _decoded(given.encode(), _KEY_BYTES)
        if raw is None:
            try:
                lines = _lines(Path(given)) if given and Path(given).is_file() else []
            except OSError:  # a name too long for a file, or one that can't be read
                lines = []
            raw = _decoded(lines[1], _KEY_BYTES) if len(lines) == 2 else None
        if raw is None or raw[:2] != _KEY:
            raise ValueError("the key that signatures are required of is neither a public key of minisign nor its file")
        return cls(raw[2:10], raw[10:])

    @property
    def name(self) -> str:
        """What minisign calls the key."""
        return self.key_id[::-1].hex().upper()

    def __str__(self) -> str:
        return base64.b64encode(_KEY + self.key_id + self.key).decode()

    def check(self, manifest: bytes, path: Path) -> None:
        """Refuse a manifest that the signature in the file `path` isn't of.

        Raises:
            BundleError: saying what was found and expected.
            ImportError: when `cryptography` is not installed, with the command that installs it.
        """
        expected = f"expected a signature of its manifest by key {self.name}"
        if not path.is_file():
            raise BundleError(f"{path.parent} holds no {path.name}, {expected}")
        found = _Signature.read(path)
        if found is None:
            raise BundleError(f"{path} is no signature of a digest by minisign, {expected}")
        if found.key_id != self.key_id:
            raise BundleError(f"{path} is by another key, {expected}")
        digest = hashlib.blake2b(manifest).digest()
        if not (self._signed(found.of_digest, digest) and self._signed(found.of_all, found.of_digest + found.comment)):
            raise BundleError(f"{path} is not of the manifest beside it, {expected}")

    def _signed(self, signature: bytes, content: bytes) -> bool:
        try:
            from cryptography.exceptions import InvalidSignature
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        except ImportError as fault:
            raise ImportError("checking signatures needs: pip install 'stillwatch[signed]'") from fault
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, content)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Signature:
    """A signature of minisign: of a digest of the file, and of that signature and a comment."""

    key_id: bytes
    of_digest: bytes
    comment: bytes
    of_all: bytes

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What a file holds; None where it isn't of this kind. Old releases signed the file itself: not read here."""
        lines = _lines(path)
        if len(lines) != 4 or not all(map(bytes.startswith, lines[::2], _COMMENTS)):
            return None
        own, whole = _decoded(lines[1], _SIGNATURE_BYTES), _decoded(lines[3], _SIGNATURE_BYTES - 10)
        if own is None or whole is None or own[:2] != _SIGNED:
            return None
        return cls(own[2:10], own[10:], lines[2].removeprefix(_COMMENTS[1]), whole)


def check_signature(manifest: bytes, folder: Path) -> None:
    """Refuse a bundle whose manifest isn't signed by the key that is required, where one is.

    Raises:
        BundleError: saying what was found and expected.
        ValueError: when the key can't be read.
        ImportError: when `cryptography` is not installed, with the command that installs it.
    """
    if (signer := required_key()) is not None:
        signer.check(manifest, folder / SIGNATURE)


def required_key() -> SignerKey | None:
    """The key of which signatures are required, None where they aren't.

    Raises:
        ValueError: when it can't be read.
    """
    given = os.environ.get(REQUIRED_BY)
    return SignerKey.of(given) if given else None


@contextmanager
def requiring(given: str | None) -> Iterator[None]:
    """Require signatures by this key (text, or a file of it) in this process and those it starts; None changes nothing.

    Raises:
        ValueError: when it is no key.
    """
    before = os.environ.get(REQUIRED_BY)
    if given is not None:
        os.environ[REQUIRED_BY] = str(SignerKey.of(given))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(REQUIRED_BY, None)
        else:
            os.environ[REQUIRED_BY] = before


def _lines(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES).removesuffix(b"\n").split(b"\n")


def _decoded(line: bytes, n_bytes: int) -> bytes | None:
    """The bytes of base64; None where it isn't, or of other than this length."""
    try:
        raw = base64.b64decode(line, validate=True)
    except binascii.Error:
        return None
    return raw if len(raw) == n_bytes else None
