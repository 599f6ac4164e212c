"""Classifier: boosted trees and experts on one row of features, and the log-odds that they pool."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.model.logistic_ensemble import LogisticEnsemble
from serve.model.trees import Trees


@dataclass(frozen=True)
class Classifier:
    """Trees and experts that read the first `n_features` columns of feature rows (the areas, which come last, are shown
    but not judged by), and pool their log-odds (a logarithmic opinion pool; Genest & Zidek 1986).

    Raises:
        ValueError: when trees and experts read different features.
    """

    trees: Trees
    experts: LogisticEnsemble

    def __post_init__(self) -> None:
        if self.trees.n_features != self.n_features:
            raise ValueError(f"trees read {self.trees.n_features} features, experts {self.n_features}")

    @property
    def n_features(self) -> int:
        """How many features are judged by."""
        return self.experts.n_features

    def margins(self, rows: NDArray[np.float64], *, n_trees: int = -1) -> NDArray[np.float64]:
        """Pooled log-odds of feature rows, shape (n_sessions,); row i depends on session i alone. With `n_trees` only
        the first ones have a say."""
        if not len(rows):
            return np.zeros(0)
        judged = np.ascontiguousarray(rows[:, : self.n_features])
        return self._pooled(self.trees.margins(judged, n_trees), self.experts.margins(judged))

    def contributions(
        self, rows: NDArray[np.float64], usual: NDArray[np.float64], kind: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """What each feature of a row adds to the log-odds of the row `usual[kind]` that it is compared with, shape
        (n_sessions, n_columns): a row of them sums to the difference of both margins. 0 for what isn't judged by.

        Shapley values of the trees (Lundberg et al. 2020), those of the usual row taken off, and the experts' own
        terms, each with its share. `usual` is (n_kinds, n_columns), `kind` (n_sessions,).
        """
        found = np.zeros(rows.shape)
        judged, others = (np.ascontiguousarray(part[:, : self.n_features]) for part in (rows, usual))
        both = np.concatenate([judged, others])
        terms = self.trees.contributions(both)
        trees = terms[: len(rows)] - terms[len(rows) :][kind]
        found[:, : self.n_features] = self._pooled(trees, self.experts.contributions(judged, others[kind]))
        return found

    def _pooled(self, trees: NDArray[np.float64], experts: NDArray[np.float64]) -> NDArray[np.float64]:
        return (1.0 - self.experts.share) * trees + self.experts.share * experts
