"""Similarity: how a session's prompts lie to one another, from the matrix of their cosines.

Every function takes a block of sessions of one size: `gram` (n_sessions, n, n), cosines that are exact whatever the
batch (see encoder). Means are integer sums, so they don't depend on the order of summation either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.embedding.encoders import SCALE
from serve.embedding.int8_products import Products

MAX_PROMPTS = 256
"""Prompts of a session that are compared pair by pair; of a longer session every second one, or every fourth and so on:
the fewest steps that leave no more than this. So a session that grows compares what it compared before."""

UNIT = SCALE * SCALE
"""Integer product of a vector with itself: a cosine of 1."""
_MAX_BLOCK_CELLS = 4_000_000
_MAX_ALONE = 1 << 18  # multiplications from which BLAS may wake other threads, for which a small request would wait


@dataclass(frozen=True, slots=True)
class Block:
    """Sessions of one size: `session` (n_sessions,) their indices, `rows` (n_sessions, n) the prompts they own."""

    session: NDArray[np.int64]
    rows: NDArray[np.int64]


MAX_SCORED = 1024
"""Prompts of a session whose scores are ranked, thinned in the same way."""


def blocks(offsets: NDArray[np.int64], limit: int = MAX_PROMPTS) -> Iterator[Block]:
    """Split sessions into blocks of equal size, each small enough to hold its Gram matrices in memory; of a session of
    more than `limit` prompts some are left out (see `stride`)."""
    sizes = np.diff(offsets)
    steps = stride(sizes, limit)
    kept = -(-sizes // steps)
    for n in np.unique(kept):
        members = np.flatnonzero(kept == n)
        step = max(1, _MAX_BLOCK_CELLS // int(n * n))
        for start in range(0, len(members), step):
            session = members[start : start + step]
            yield Block(session, offsets[session][:, None] + steps[session][:, None] * np.arange(n, dtype=np.int64))


def stride(n_exchanges: NDArray[np.int64], limit: int = MAX_PROMPTS) -> NDArray[np.int64]:
    """Steps, a power of two, between the prompts of sessions of these sizes (each at least 1) of which at most `limit`
    are looked at."""
    folds = np.ceil(np.log2(np.maximum(n_exchanges, limit) / limit)).astype(np.int64)
    return np.left_shift(np.int64(1), folds)


def gram(vectors: NDArray[np.int8]) -> NDArray[np.float32]:
    """Integer inner products of a block's vectors (n_sessions, n, n_dims), shape (n_sessions, n, n)."""
    if vectors.shape[1] ** 2 * vectors.shape[2] > _MAX_ALONE:
        return np.stack([Products(own).of(own).astype(np.float32) for own in vectors])
    floats = vectors.astype(np.float32)
    return np.asarray(floats @ floats.transpose(0, 2, 1))


def pair_quantiles(products: NDArray[np.float32], shares: tuple[float, ...]) -> NDArray[np.float64]:
    """Quantiles (lower) of the cosines of distinct pairs, shape (n_sessions, n_shares); 0 where there is no pair."""
    n = products.shape[1]
    if n < 2:
        return np.zeros((len(products), len(shares)))
    high, low = np.triu_indices(n, 1)
    return quantiles(products[:, high, low], shares) / UNIT


def quantiles(values: NDArray[np.floating], shares: tuple[float, ...]) -> NDArray[np.float64]:
    """Lower quantiles along the last axis: always values that occur, so exact."""
    ordered = np.sort(values, axis=-1)
    picks = [min(int(share * ordered.shape[-1]), ordered.shape[-1] - 1) for share in shares]
    return np.asarray(ordered[..., picks], dtype=np.float64)


def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a session (n_sessions, n), in an order of summation that is the same for every block."""
    return np.asarray(np.cumsum(values, axis=1)[:, -1] / values.shape[1])


def pair_mean(products: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean cosine of distinct pairs, shape (n_sessions,); 0 where there is no pair."""
    n = products.shape[1]
    if n < 2:
        return np.zeros(len(products))
    total = products.sum(axis=(1, 2), dtype=np.float64) - np.trace(products, axis1=1, axis2=2, dtype=np.float64)
    return np.asarray(total / pair_unit(n))


def pair_unit(n: int) -> int:
    """What the integer products of all ordered pairs of n equal prompts (n at least 2) add up to."""
    return int(n * (n - 1) * UNIT)


def nearest(products: NDArray[np.float32]) -> NDArray[np.float32]:
    """Integer product of each prompt with its nearest other prompt, shape (n_sessions, n); 0 where there is none."""
    n = products.shape[1]
    if n < 2:
        return np.zeros(products.shape[:2], np.float32)
    others = products.copy()
    others[:, np.arange(n), np.arange(n)] = -np.float32(UNIT)
    return np.asarray(others.max(axis=2))


def consecutive_mean(products: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean cosine of each prompt with the next one, shape (n_sessions,); 0 where there is no next one."""
    n = products.shape[1]
    if n < 2:
        return np.zeros(len(products))
    steps = products[:, np.arange(n - 1), np.arange(1, n)]
    return np.asarray(steps.sum(axis=1, dtype=np.float64) / ((n - 1) * UNIT))


def effective_rank(products: NDArray[np.float32]) -> NDArray[np.float64]:
    """Participation ratio of the Gram spectrum, (sum of eigenvalues)^2 / sum of their squares, over n; in (0, 1].

    Source: Roy & Vetterli 2007 give the entropy form; this is its order-2 kin, which needs no eigenvalues.
    """
    n = products.shape[1]
    trace = np.trace(products, axis1=1, axis2=2, dtype=np.float64)
    squares = np.square(products, dtype=np.float64).sum(axis=(1, 2))
    return participation(trace, squares, n)


def participation(trace: NDArray[np.float64], squares: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """`effective_rank` from the sums of the diagonal and of all squares, each (n_sessions,)."""
    return np.asarray(np.divide(trace**2, squares * n, out=np.ones(len(trace)), where=squares > 0))


def reordered(products: NDArray[np.float32], order: NDArray[np.int64]) -> NDArray[np.float32]:
    """The same matrices with prompts in `order` (n_sessions, n)."""
    rows = np.take_along_axis(products, order[:, :, None], axis=1)
    return np.take_along_axis(rows, order[:, None, :], axis=2)


def split_distance(products: NDArray[np.float32], k: int) -> NDArray[np.float64]:
    """Squared distance of the mean of the first k prompts to that of the others (a linear-kernel MMD, biased form)."""
    n = products.shape[1]
    if not 0 < k < n:
        return np.zeros(len(products))
    own = products[:, :k, :k].sum(axis=(1, 2), dtype=np.float64) / (k * k)
    rest = products[:, k:, k:].sum(axis=(1, 2), dtype=np.float64) / ((n - k) ** 2)
    cross = products[:, :k, k:].sum(axis=(1, 2), dtype=np.float64) / (k * (n - k))
    return np.asarray((own + rest - 2 * cross) / UNIT)
