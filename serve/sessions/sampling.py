"""Sampling: whole accounts drawn by the hash of their name, so that every command draws the same ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.sessions.sessionizing import text_hashes


def account_hashes(account_ids: pa.ChunkedArray) -> NDArray[np.uint64]:
    """The hash of each row's account, shape (n_rows,)."""
    encoded = pa.concat_arrays(account_ids.chunks).dictionary_encode() if account_ids.num_chunks else None
    if encoded is None:
        return np.zeros(0, np.uint64)
    return np.asarray(text_hashes(encoded.dictionary)[encoded.indices.to_numpy()], dtype=np.uint64)


def in_sample(hashes: NDArray[np.uint64], share: float) -> NDArray[np.bool_]:
    """Whether each account is among a share of all, decided by the low half of its hash; partitions use the high half.

    A larger share holds the accounts of a smaller one.
    """
    return (hashes & np.uint64(0xFFFFFFFF)) < share * 2.0**32


def sampled(table: pa.Table, share: float) -> pa.Table:
    """The rows of accounts that are in the sample."""
    if share >= 1.0:
        return table
    return table.filter(pa.array(in_sample(account_hashes(table.column("account_id")), share)))
