"""Metadata files: keyed hashes of accounts' metadata on disk, and the key that they are made with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from serve.infrastructure.account_metadata import KINDS, MIN_KEY_BYTES, AccountMetadata
from serve.io.writers import replacing

SCHEMA = pa.schema([("account_id", pa.string()), ("kind", pa.string()), ("value", pa.uint64())])
"""Columns of a file of metadata; `value` is a keyed hash."""

UNSTORED = b"equal values, equal hashes; none is stored"
"""The key of hashes that never leave the process."""


@dataclass(frozen=True, slots=True)
class KeyedMetadata:
    """Metadata of accounts as hashes, and the id of the key that they were made with."""

    metadata: AccountMetadata
    key_id: str


def read_key(path: Path) -> bytes:
    """The secret that hashes are keyed with, from a file of at least `MIN_KEY_BYTES`.

    Raises:
        ValueError: when it is shorter.
        OSError: when it can't be read.
    """
    secret = path.read_bytes().strip()
    if len(secret) < MIN_KEY_BYTES:
        raise ValueError(f"{path} holds {len(secret)} bytes, expected a key of at least {MIN_KEY_BYTES}")
    return hashlib.blake2b(secret, digest_size=32).digest()


def key_id(key: bytes) -> str:
    """What tells keys apart and gives none away."""
    return hashlib.blake2b(b"which key is this", key=key, digest_size=8).hexdigest()


def write_stored(path: Path, keyed: KeyedMetadata) -> None:
    """Write metadata, of `SCHEMA`; the key's id is kept elsewhere."""
    metadata = keyed.metadata
    names, kinds = np.array(metadata.account_ids, dtype=object), np.array(KINDS, dtype=object)
    columns = [names[metadata.owner], kinds[metadata.kind], metadata.value]
    with replacing(path) as part:
        pq.write_table(pa.table(columns, SCHEMA), part, compression="zstd")


def read_stored(path: Path, key_id: str) -> KeyedMetadata:
    """Read what `write_stored` wrote.

    Raises:
        ValueError: when columns or values are not what they should be.
        OSError: when it can't be read.
    """
    table = pq.read_table(path)
    if table.schema != SCHEMA or any(column.null_count for column in table.columns):
        raise ValueError(f"{path} has other columns than account_id, kind and value without nulls")
    names, owner = np.unique(np.array(table.column("account_id").to_pylist(), dtype=np.str_), return_inverse=True)
    places = {kind: place for place, kind in enumerate(KINDS)}
    kinds = table.column("kind").to_pylist()
    if unknown := sorted({kind[:20] for kind in kinds if kind not in places}):
        raise ValueError(f"{path} has the kind {unknown[0]!r}, expected one of {', '.join(KINDS)}")
    kind = np.array([places[name] for name in kinds], dtype=np.int8)
    value = table.column("value").to_numpy().astype(np.uint64)
    return KeyedMetadata(AccountMetadata(tuple(names.tolist()), owner.astype(np.int64), kind, value), key_id)
