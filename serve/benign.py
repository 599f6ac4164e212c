"""Benign: how benign sessions of like size look, as a bundle keeps it: what they cover, and where each feature lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serve.calibration import SIZE_EDGES, size_class
from serve.systematicness import CoverageNull

EDGES = np.array([0.002, *np.arange(0.05, 0.96, 0.05), 0.998])
"""Shares of benign sessions below the edges between letters."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"[: len(EDGES) + 1]
_MIN_OWN = 20  # sessions that a size class needs for edges of its own


@dataclass(frozen=True)
class Benign:
    """Features of benign sessions by size class.

    `edges` (n_classes, n_features, len(EDGES)) cut each feature into letters; `shares` (n_classes, n_features,
    len(LETTERS)) say how many benign sessions have which; `n_sessions` (n_classes,) of how many.
    """

    coverage: CoverageNull
    edges: NDArray[np.float32]
    shares: NDArray[np.float32]
    n_sessions: NDArray[np.int64]

    @classmethod
    def fit(cls, X: NDArray[np.float64], n_exchanges: NDArray[np.int64], coverage: CoverageNull) -> Self:
        """Learn from feature rows of benign sessions (n_sessions, n_features)."""
        classes = size_class(n_exchanges)
        edges, shares = [], []
        for index in range(len(SIZE_EDGES)):
            own = X[classes == index]
            own = own if len(own) >= _MIN_OWN else X
            edges.append(np.quantile(own, EDGES, axis=0).T.astype(np.float32))
            codes = _codes(own, np.broadcast_to(edges[-1], (len(own), *edges[-1].shape)))
            shares.append([np.bincount(column, minlength=len(LETTERS)) / len(own) for column in codes.T])
        n_sessions = np.bincount(classes, minlength=len(SIZE_EDGES)).astype(np.int64)
        return cls(coverage, np.stack(edges), np.array(shares, dtype=np.float32), n_sessions)

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]], *, n_areas: int, n_features: int) -> Self:
        """Read from a bundle's arrays.

        Raises:
            ValueError: naming what doesn't fit the map or the features.
        """
        benign = cls(CoverageNull.of_arrays(arrays), arrays["edges"], arrays["shares"], arrays["n_sessions"])
        benign.coverage.check(n_areas)
        for name, found, n_last in (("edges", benign.edges, len(EDGES)), ("shares", benign.shares, len(LETTERS))):
            if found.shape != (shape := (len(SIZE_EDGES), n_features, n_last)):
                raise ValueError(f"benign {name} have shape {found.shape}, expected {shape}")
        return benign

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `of_arrays` reads."""
        own: dict[str, NDArray[Any]] = {"edges": self.edges, "shares": self.shares, "n_sessions": self.n_sessions}
        return {**self.coverage.arrays(), **own}

    def profiles(self, X: NDArray[np.float64], n_exchanges: NDArray[np.int64]) -> tuple[str, ...]:
        """One text a session, a letter a feature: where among benign sessions of like size its value lies.

        The first and the last letter are rarer among them than 1 in 400.
        """
        codes = _codes(X, self.edges[size_class(n_exchanges)])
        letters = np.frombuffer(LETTERS.encode(), dtype=np.uint8)[codes]
        return tuple(row.tobytes().decode() for row in letters)


def _codes(X: NDArray[np.float64], edges: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many edges (n, n_features, n_edges) lie below each value (n, n_features)."""
    return np.asarray((X[:, :, None] > edges).sum(axis=2), dtype=np.int64)
