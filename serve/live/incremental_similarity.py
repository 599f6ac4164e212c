"""Incremental similarity: how a growing session's compared prompts lie to one another, updated prompt by prompt.

It can always be made again from the vectors, so it is kept only for sessions that are busy. All sums are exact, so the
columns are those of `features.compared` to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serve.embedding.int8_products import Products
from serve.features import similarity as geometry
from serve.features.evidence_features import evidence_columns
from serve.features.session_features import word_columns
from serve.features.similarity import MAX_PROMPTS, UNIT, pair_unit, participation

_SHARES = (2, 4, 10)
_PAIR_SHARES = (0.1, 0.5, 0.9, 0.99)
_NEAREST_SHARES = (0.1, 0.5, 0.9)


@dataclass(slots=True)
class IncrementalSimilarity:
    """Of n prompts: `gram` (capacity, capacity) of integer products, `pairs` the sorted products of distinct pairs,
    `nearest` (capacity,) each prompt's highest product with another, and sums."""

    n: int
    gram: NDArray[np.float32]
    pairs: NDArray[np.float32]
    nearest: NDArray[np.float32]
    total: float = 0.0
    trace: float = 0.0
    squares: float = 0.0
    consecutive: float = 0.0

    @classmethod
    def of(cls, vectors: NDArray[np.int8]) -> Self:
        """Compare all of these vectors (n, n_dims)."""
        n = len(vectors)
        size = _capacity(n)
        gram = np.zeros((size, size), np.float32)
        products = geometry.gram(vectors[None])
        gram[:n, :n] = products[0]
        nearest = np.full(size, -UNIT, np.float32)
        if n > 1:
            nearest[:n] = geometry.nearest(products)[0]
        trace = float(np.trace(products[0], dtype=np.float64))
        return cls(
            n=n,
            gram=gram,
            pairs=np.sort(products[0][np.triu_indices(n, 1)]),
            nearest=nearest,
            total=float(products.sum(dtype=np.float64)) - trace,
            trace=trace,
            squares=float(np.square(products, dtype=np.float64).sum()),
            consecutive=float(np.diagonal(products[0], 1).sum(dtype=np.float64)),
        )

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays."""
        return self.gram.nbytes + self.pairs.nbytes + self.nearest.nbytes

    def add(self, vectors: NDArray[np.int8]) -> None:
        """Compare one more prompt, the last of `vectors` (n + 1, n_dims)."""
        n = self.n
        if n == len(self.nearest):
            self._widen()
        row = Products(vectors[n : n + 1]).of(vectors)[:, 0].astype(np.float32)
        others = row[:n]
        self.gram[n, : n + 1] = row
        self.gram[:n, n] = others
        self.pairs = _merged(self.pairs, np.sort(others))
        self.nearest[:n] = np.maximum(self.nearest[:n], others)
        self.nearest[n] = max(others.max(initial=-UNIT), -UNIT)
        exact = others.astype(np.float64)
        self.total += 2.0 * float(exact.sum())
        self.squares += 2.0 * float(exact @ exact) + float(row[n]) ** 2
        self.trace += float(row[n])
        self.consecutive += float(others[-1]) if n else 0.0
        self.n = n + 1

    def columns(
        self, vectors: NDArray[np.int8], evidence: NDArray[np.float64], words: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What `features.compared` gives: of compared prompts log lengths `words` (n,), of scored ones `evidence`
        (n_scored, n_heads), in which every compared one is."""
        blocks = [*evidence_columns(evidence[None]), *word_columns(words[None])]
        ready = [float(column[0]) for column in blocks]
        n_words = len(ready) - 5
        harvest = np.ascontiguousarray(evidence[:: -(-len(evidence) // self.n), 0])
        return np.array([*ready[:n_words], *self._subset(vectors, harvest), *self._geometry(), *ready[n_words:]])

    def _subset(self, vectors: NDArray[np.int8], harvest: NDArray[np.float64]) -> list[float]:
        n = self.n
        order = np.argsort(-harvest, kind="stable")
        sums = np.cumsum(harvest[order])
        traces = np.cumsum(self.gram.diagonal()[order], dtype=np.float64)
        tops = [max(1, n // share) for share in _SHARES]
        block = self.gram.take(order[: tops[0]], axis=0).take(order[: tops[0]], axis=1)
        np.fill_diagonal(block, -UNIT)
        masks = np.zeros((len(tops) + 1, n), np.float32)
        for row, k in enumerate(tops):
            masks[row, order[:k]] = 1.0
        masks[-1] = 1.0
        of_vectors = (masks @ vectors.astype(np.float32)).astype(np.float64)
        products = (of_vectors @ of_vectors.T).tolist()
        whole = products[-1][-1]
        columns: list[float] = []
        for row, k in enumerate(tops):
            own, across = products[row][row], products[row][-1]
            near = np.sort(block[:k, :k].max(axis=1))[min(int(0.5 * k), k - 1)] if k > 1 else 0.0
            columns += [
                float(sums[k - 1]) / k,
                (own - float(traces[k - 1])) / pair_unit(k) if k > 1 else 0.0,
                float(near) / UNIT,
                _distance(own, whole - 2 * across + own, across - own, k, n),
            ]
        k, own, across = tops[0], products[0][0], products[0][-1]
        rest = whole - 2 * across + own - (float(traces[-1]) - float(traces[k - 1]))
        return [*columns, rest / pair_unit(n - k) if n - k > 1 else 0.0]

    def _geometry(self) -> list[float]:
        n = self.n
        mean = self.total / pair_unit(n) if n > 1 else 0.0
        nearest = np.sort(self.nearest[:n]) if n > 1 else np.zeros(n, np.float32)
        pairs = self.pairs if n > 1 else np.zeros(1, np.float32)
        consecutive = self.consecutive / ((n - 1) * UNIT) if n > 1 else 0.0
        rank = participation(np.array([self.trace]), np.array([self.squares]), n)
        return [
            mean,
            *(_quantile(pairs, share) / UNIT for share in _PAIR_SHARES),
            *(_quantile(nearest, share) / UNIT for share in _NEAREST_SHARES),
            float((nearest > 0.95 * UNIT).mean()),
            consecutive - mean,
            float(rank[0]),
        ]

    def _widen(self) -> None:
        size = _capacity(self.n + 1)
        gram, nearest = np.zeros((size, size), np.float32), np.full(size, -UNIT, np.float32)
        gram[: self.n, : self.n], nearest[: self.n] = self.gram, self.nearest
        self.gram, self.nearest = gram, nearest


def _capacity(n: int) -> int:
    return min(MAX_PROMPTS, max(16, 1 << (n - 1).bit_length()))


def _merged(ordered: NDArray[np.float32], added: NDArray[np.float32]) -> NDArray[np.float32]:
    """Both sorted runs as one."""
    places = np.searchsorted(ordered, added) + np.arange(len(added))
    merged = np.empty(len(ordered) + len(added), np.float32)
    old = np.ones(len(merged), bool)
    old[places] = False
    merged[places] = added
    merged[old] = ordered
    return merged


def _quantile(ordered: NDArray[np.float32], share: float) -> float:
    """The lower quantile, as `geometry.quantiles` takes it."""
    return float(ordered[min(int(share * len(ordered)), len(ordered) - 1)])


def _distance(own: float, rest: float, cross: float, k: int, n: int) -> float:
    """`geometry.split_distance` from sums of products."""
    if not 0 < k < n:
        return 0.0
    return (own / (k * k) + rest / ((n - k) ** 2) - 2 * (cross / (k * (n - k)))) / UNIT
