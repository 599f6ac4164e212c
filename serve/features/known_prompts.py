"""Known prompts: which prompts of a session are in public sets, by a compact filter of their normal forms.

The share is told, and nothing is judged by it: benchmark runs and people who try famous prompts have one, too, and a
harvester can change each prompt a little. A filter holds no text; it takes a prompt that is in no set for a known one
with a probability of `fpr`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.io.discovery import InputError, fault_text
from serve.io.writers import replacing
from serve.sessions.canonical_text import canonical
from serve.sessions.normalization import canonical_sessions
from serve.sessions.records import Sessions

if TYPE_CHECKING:
    from rbloom import Bloom

MIN_CHARS = 24
"""Normal forms that are shorter are in no set: everyone says them."""

SCHEMA = pa.schema([
    ("session_id", pa.string()), ("account_id", pa.string()), ("n_exchanges", pa.int64()), ("n_known", pa.int64()),
    ("known_share", pa.float64()),
])  # fmt: skip
"""Columns of the file of sessions with known prompts."""

_MARK = b"stillwatch known prompts 1\n"
_MAX_HEADER, _MAX_BYTES, _MAX_HASHES = 1 << 16, 1 << 30, 64


@dataclass(frozen=True)
class KnownPrompts:
    """A filter of prompts of the sets that `name` lists; `fpr` is 0-1."""

    name: str
    n_prompts: int
    fpr: float
    bloom: Bloom

    @classmethod
    def of(cls, name: str, texts: Iterable[str], fpr: float) -> Self:
        """The filter of these texts; those that are too short are left out.

        Raises:
            ImportError: when the library of filters is missing, with the command that installs it.
        """
        library = _library()
        keys = {_hashed(normal) for text in texts if len(normal := canonical(text)) >= MIN_CHARS}
        bloom = library(max(len(keys), 1), fpr, _itself)
        bloom.update(keys)
        return cls(name, len(keys), fpr, bloom)

    @classmethod
    def read(cls, path: Path) -> Self:
        """A filter that `write` wrote.

        Raises:
            InputError: naming the file, when it holds none, or not the one that was written.
            ImportError: as `of`.
        """
        library = _library()
        try:
            if (size := path.stat().st_size) > _MAX_BYTES:
                raise InputError(f"{path} has {size} bytes, expected at most {_MAX_BYTES}")
            data = path.read_bytes()
        except OSError as fault:
            raise InputError(f"{path}: {fault_text(fault)}") from None
        header, bits = _parted(data, path)
        if hashlib.sha256(bits).hexdigest() != header.get("sha256"):
            raise InputError(f"{path} is not as it was written: its digest is another")
        if not (len(bits) > 8 and 1 <= int.from_bytes(bits[:8], "little") <= _MAX_HASHES):
            raise InputError(f"{path} holds no filter of known prompts")
        name, n_prompts, fpr = header.get("name"), header.get("n_prompts"), header.get("fpr")
        if not (isinstance(name, str) and isinstance(n_prompts, int) and isinstance(fpr, float) and 0.0 < fpr < 1.0):
            raise InputError(f"{path} does not say what it holds")
        return cls(name, n_prompts, fpr, library.load_bytes(bits, _itself))

    def write(self, path: Path) -> None:
        """Write the filter."""
        bits = self.bloom.save_bytes()
        about = {"name": self.name, "n_prompts": self.n_prompts, "fpr": self.fpr}
        header = json.dumps(about | {"sha256": hashlib.sha256(bits).hexdigest()}).encode()
        with replacing(path) as part:
            part.write_bytes(_MARK + header + b"\n" + bits)

    def holds(self, normal: str) -> bool:
        """Whether a text in its normal form is (probably) in one of the sets."""
        return len(normal) >= MIN_CHARS and _hashed(normal) in self.bloom

    def counts(self, sessions: Sessions) -> NDArray[np.int64]:
        """How many prompts of each session are known, with or without what is wrapped around all of them."""
        bare = canonical_sessions(sessions.prompts, sessions.offsets)
        known = [
            self.holds(text) or self.holds(canonical(own)) for text, own in zip(bare, sessions.prompts, strict=True)
        ]
        return np.add.reduceat(np.array(known, np.int64), sessions.offsets[:-1]) if known else np.zeros(0, np.int64)

    def table(self, sessions: Sessions) -> pa.Table:
        """The sessions with known prompts, as a table of `SCHEMA`."""
        counts = self.counts(sessions)
        rows = np.flatnonzero(counts)
        n = sessions.n_exchanges[rows]
        columns = [
            [sessions.session_ids[row] for row in rows], [sessions.account_ids[row] for row in rows], n, counts[rows],
            counts[rows] / n,
        ]  # fmt: skip
        return pa.Table.from_arrays(
            [pa.array(own, kind) for own, kind in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA
        )


def _library() -> type[Bloom]:
    try:
        from rbloom import Bloom
    except ImportError as fault:
        raise ImportError("known prompts need: pip install 'stillwatch[known]'") from fault
    return Bloom


def _itself(key: int) -> int:
    return key


def _hashed(text: str) -> int:
    """128 bits of a normal form, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest(), "big", signed=True)


def _parted(data: bytes, path: Path) -> tuple[dict[str, Any], bytes]:
    """What the file says of itself, and the filter."""
    header, _, bits = data.removeprefix(_MARK).partition(b"\n")
    try:
        found = json.loads(header) if data.startswith(_MARK) and len(header) <= _MAX_HEADER else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no filter of known prompts")
    return found, bits
