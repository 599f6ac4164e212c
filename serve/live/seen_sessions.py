"""Sessions seen before a restart: keyed digests in a file, so that one that comes back is known to lack exchanges."""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import time
from pathlib import Path
from typing import Self

from serve.live.stores import MAX_LOST

_MAGIC = b"stillwatch-seen1"
_KEY_BYTES = 32
_RECORD = struct.Struct("<16sd")
_HEAD_BYTES = len(_MAGIC) + _KEY_BYTES


class SeenSessions:
    """Digests of the sessions of the last `max_age_s` seconds; the file has its own key, no id and no text.

    `before` are those of earlier processes. Safe between threads; a disk that takes no more ends the writing only.
    """

    def __init__(self, path: Path, key: bytes, before: dict[bytes, float]) -> None:
        """Begin the file anew with what is remembered (see `opened`).

        Raises:
            OSError: when it can't be written.
        """
        self._path, self._key, self.before = path, key, before
        self._seen = dict(before)
        self._lock = threading.Lock()
        self._file = self._begun()

    def _begun(self) -> int:
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        records = b"".join(_RECORD.pack(digest, at) for digest, at in self._seen.items())
        part.touch(0o600)
        part.write_bytes(_MAGIC + self._key + records)
        part.replace(self._path)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND)

    @classmethod
    def opened(cls, path: Path, max_age_s: float) -> Self:
        """Read the file, or begin it; one that is something else, or is cut, counts as far as it can be read.

        Raises:
            OSError: when it can't be read or written.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        data = path.read_bytes() if path.exists() else b""
        if not data.startswith(_MAGIC) or len(data) < _HEAD_BYTES:
            return cls(path, os.urandom(_KEY_BYTES), {})
        n_bytes = (len(data) - _HEAD_BYTES) // _RECORD.size * _RECORD.size
        records = _RECORD.iter_unpack(data[_HEAD_BYTES : _HEAD_BYTES + n_bytes])
        young = [(digest, at) for digest, at in records if at > time.time() - max_age_s]
        return cls(path, data[len(_MAGIC) : _HEAD_BYTES], dict(young[-MAX_LOST:]))

    def was_before(self, session: str) -> bool:
        """Whether an earlier process saw this session."""
        return self._digest(session) in self.before

    def add(self, session: str) -> None:
        """Remember a session."""
        digest = self._digest(session)
        with self._lock:
            if digest in self._seen:
                return
            self._seen[digest] = time.time()
            try:
                if len(self._seen) > 2 * MAX_LOST:
                    self._thin()
                else:
                    self._append(_RECORD.pack(digest, self._seen[digest]))
            except OSError:
                return

    def _append(self, record: bytes) -> None:
        """Write a whole record or none: what follows a part of one could not be read."""
        n_bytes = os.write(self._file, record)
        if n_bytes < len(record):
            os.ftruncate(self._file, os.fstat(self._file).st_size - n_bytes)

    def _thin(self) -> None:
        self._seen = dict(list(self._seen.items())[-MAX_LOST:])
        before, self._file = self._file, self._begun()
        os.close(before)  # last: where there is no new one, its number would soon be that of another file

    def _digest(self, session: str) -> bytes:
        return hashlib.blake2b(session.encode(), key=self._key, digest_size=16).digest()
