"""Benign profile: how benign sessions of like size look: what they cover, and where each feature lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serve.capability.breadth import CoverageNull
from serve.sessions.size_classes import SIZE_EDGES, size_class

EDGES = np.array([0.002, *np.arange(0.05, 0.96, 0.05), 0.998])
"""Shares of benign sessions below the edges between letters."""

MEDIAN = 10
"""Index of the edge that half of benign sessions lie below."""

P_EDGES = np.array([0.001, 0.003, 0.01, 0.03, *np.arange(0.1, 0.95, 0.1)])
"""Edges between bins of p-values; a p-value on an edge is in the bin below it."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"[: len(EDGES) + 1]
_AREA = "area."
_MIN_OWN = 20  # sessions that a size class needs for edges of its own


@dataclass(frozen=True)
class BenignProfile:
    """Features and verdicts of benign sessions by size class, as they are where a bundle judges.

    `edges` (n_classes, n_features, len(EDGES)) cut each feature into letters; `shares` (n_classes, n_features,
    len(LETTERS)) say how many benign sessions have which, `p_shares` (n_classes, len(P_EDGES) + 1) how many which
    p-value, `area_mix` (n_classes, n_areas + 1, the last one *none*) how many of their prompts fall where;
    `n_sessions` (n_classes,) of how many sessions.
    """

    coverage: CoverageNull
    edges: NDArray[np.float32]
    shares: NDArray[np.float32]
    p_shares: NDArray[np.float64]
    area_mix: NDArray[np.float64]
    n_sessions: NDArray[np.int64]

    @classmethod
    def fit(
        cls, X: NDArray[np.float64], names: Sequence[str], p_values: NDArray[np.float64],
        n_exchanges: NDArray[np.int64], coverage: CoverageNull,
    ) -> Self:  # fmt: skip
        """Learn from feature rows (n_sessions, n_features) of benign sessions, their names, p-values and sizes."""
        classes = size_class(n_exchanges)
        area_columns = [column for column, name in enumerate(names) if name.startswith(_AREA)]
        edges, shares, p_shares, area_mix = [], [], [], []
        for index in range(len(SIZE_EDGES)):
            chosen = classes == index
            if chosen.sum() < _MIN_OWN:
                chosen = np.ones(len(X), dtype=np.bool_)
            own = X[chosen]
            p_shares.append(p_counts(p_values[chosen]) / len(own))
            area_mix.append(own[:, area_columns].mean(axis=0))
            edges.append(np.quantile(own, EDGES, axis=0).T.astype(np.float32))
            codes = _codes(own, np.broadcast_to(edges[-1], (len(own), *edges[-1].shape)))
            shares.append([np.bincount(column, minlength=len(LETTERS)) / len(own) for column in codes.T])
        n_sessions = np.bincount(classes, minlength=len(SIZE_EDGES)).astype(np.int64)
        return cls(
            coverage, np.stack(edges), np.array(shares, dtype=np.float32), np.stack(p_shares), np.stack(area_mix),
            n_sessions,
        )  # fmt: skip

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]], *, n_areas: int, n_features: int) -> Self:
        """Read from a bundle's arrays.

        Raises:
            ValueError: naming what doesn't fit the map or the features.
        """
        n_classes = len(SIZE_EDGES)
        shapes: dict[str, tuple[int, ...]] = {
            "edges": (n_classes, n_features, len(EDGES)), "shares": (n_classes, n_features, len(LETTERS)),
            "p_shares": (n_classes, len(P_EDGES) + 1), "area_mix": (n_classes, n_areas + 1), "n_sessions": (n_classes,),
        }  # fmt: skip
        for name, shape in shapes.items():
            if (found := arrays[name].shape) != shape:
                raise ValueError(f"benign {name} have shape {found}, expected {shape}")
        benign = cls(CoverageNull.of_arrays(arrays), **{name: arrays[name] for name in shapes})
        benign.coverage.check(n_areas)
        return benign

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `of_arrays` reads."""
        own: dict[str, NDArray[Any]] = {
            "edges": self.edges, "shares": self.shares, "p_shares": self.p_shares, "area_mix": self.area_mix,
            "n_sessions": self.n_sessions,
        }  # fmt: skip
        return {**self.coverage.arrays(), **own}

    def profiles(self, X: NDArray[np.float64], n_exchanges: NDArray[np.int64]) -> tuple[str, ...]:
        """One text a session, a letter a feature: where among benign sessions of like size its value lies.

        The first and the last letter are rarer among them than 1 in 400.
        """
        codes = _codes(X, self.edges[size_class(n_exchanges)])
        letters = np.frombuffer(LETTERS.encode(), dtype=np.uint8)[codes]
        return tuple(row.tobytes().decode() for row in letters)


def benign_quantiles(X: NDArray[np.float64], n_exchanges: NDArray[np.int64]) -> NDArray[np.float64]:
    """5 % and 95 % quantiles of each feature over benign sessions of each size class, (n_classes, n_features, 2)."""
    classes = size_class(n_exchanges)
    found = []
    for index in range(len(SIZE_EDGES)):
        own = X[classes == index]
        found.append(np.quantile(own if len(own) >= _MIN_OWN else X, (0.05, 0.95), axis=0).T)
    return np.stack(found)


def p_counts(p_values: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many p-values lie in each bin between `P_EDGES`, shape (len(P_EDGES) + 1,)."""
    return np.bincount(np.searchsorted(P_EDGES, p_values, side="left"), minlength=len(P_EDGES) + 1)


def _codes(X: NDArray[np.float64], edges: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many edges (n, n_features, n_edges) lie below each value (n, n_features)."""
    return np.asarray((X[:, :, None] > edges).sum(axis=2), dtype=np.int64)
