"""Traffic as the baselines see it: sessions of prompt vectors, in blocks of equal length.

A statistic is a number for each session of a block, so a block costs a few matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Numbers = NDArray[np.float64]
BLOCK_PROMPTS = 1024
SAME_POINT = 1e-6  # squared distance below which float32 cannot tell two unit vectors apart


@dataclass(frozen=True, slots=True)
class Traffic:
    """Many sessions as columns."""

    vectors: Vectors  # (n_prompts, n_dims) unit rows in order of arrival; a zero row for text without known tokens
    offsets: NDArray[np.int64]  # (n_sessions + 1,); session i owns rows offsets[i]:offsets[i + 1]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Prompts in each session, shape (n_sessions,)."""
        return np.diff(self.offsets)

    def pick(self, sessions: NDArray[np.int64]) -> Traffic:
        """These sessions only, in this order."""
        lengths = self.lengths[sessions]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[sessions] - offsets[:-1], lengths)
        return Traffic(self.vectors[rows], offsets)

    def heads(self, size: int) -> Traffic:
        """The first `size` prompts of every session that has as many."""
        starts = self.offsets[:-1][self.lengths >= size]
        rows = (starts[:, None] + np.arange(size)).ravel()
        return Traffic(self.vectors[rows], np.arange(len(starts) + 1, dtype=np.int64) * size)

    def blocks(self) -> Iterator[Block]:
        """Sessions of equal length together, about `BLOCK_PROMPTS` prompts at a time; empty sessions are left out."""
        lengths = self.lengths
        for length in np.unique(lengths[lengths > 0]):
            sessions = np.flatnonzero(lengths == length)
            step = max(1, BLOCK_PROMPTS // int(length))
            for start in range(0, len(sessions), step):
                part = sessions[start : start + step]
                yield Block(part, self.vectors[self.offsets[part][:, None] + np.arange(length)])


@dataclass(frozen=True, slots=True)
class Block:
    """Sessions of equal length."""

    sessions: NDArray[np.int64]  # (n_sessions,) their positions in the traffic
    vectors: Vectors  # (n_sessions, n_prompts, n_dims)


def measure(traffic: Traffic, statistic: Callable[[Vectors], Numbers]) -> Numbers:
    """Values of a statistic of (n_sessions, n_prompts, n_dims) blocks for every session; 0 for empty sessions."""
    values = np.zeros(len(traffic.lengths))
    for block in traffic.blocks():
        values[block.sessions] = statistic(block.vectors)
    return values


def session_means(traffic: Traffic) -> Numbers:
    """Mean vector of each session, shape (n_sessions, n_dims); zeros for an empty one."""
    means = np.zeros((len(traffic.lengths), traffic.vectors.shape[1]))
    for block in traffic.blocks():
        means[block.sessions] = block.vectors.mean(axis=1, dtype=np.float64)
    return means


def squared_distances(vectors: Vectors) -> Vectors:
    """Squared Euclidean distances within each session, (b, n, d) → (b, n, n); exactly 0 between equal vectors."""
    products = vectors @ vectors.transpose(0, 2, 1)
    norms = np.einsum("bii->bi", products)
    squared: Vectors = norms[:, :, None] + norms[:, None, :] - 2 * products
    squared[squared < SAME_POINT] = 0
    return squared


def pairs(vectors: Vectors) -> Vectors:
    """Distances of all pairs i < j within each session, (b, n, d) → (b, n (n - 1) / 2)."""
    rows, columns = np.triu_indices(vectors.shape[1], k=1)
    return np.sqrt(squared_distances(vectors)[:, rows, columns])


def require(traffic: Traffic, side: str, *, n_sessions: int) -> None:
    """Raise ValueError where fewer sessions than this hold prompts; `side` names the traffic."""
    found = int((traffic.lengths > 0).sum())
    if found < n_sessions:
        raise ValueError(f"{side} traffic has {found} sessions with prompts, expected {n_sessions} or more")


def sample(traffic: Traffic, *, n_prompts: int, rng: np.random.Generator) -> Vectors:
    """At most `n_prompts` vectors drawn without replacement, in their order."""
    n_available = len(traffic.vectors)
    rows = rng.choice(n_available, size=min(n_prompts, n_available), replace=False)
    return traffic.vectors[np.sort(rows)]


def sample_sessions(traffic: Traffic, *, n_sessions: int, rng: np.random.Generator) -> Traffic:
    """At most `n_sessions` sessions with prompts, drawn without replacement."""
    filled = np.flatnonzero(traffic.lengths > 0)
    return traffic.pick(rng.permutation(filled)[:n_sessions])
