"""Logistic ensemble: logistic models of session features, one for each degree of dilution, and their pooled odds.

Trees cut where their training traffic happened to lie, and are lost on traffic of another kind; weights that are spread
over many features move with it. So each feature is first replaced by its normal score among training sessions.

What prompts score means more where they differ from one another: fifty prompts from one template are one draw. So a
feature may have a second column beside it, an interaction, which fades as another feature rises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(32)
_PLACES, _PLACE_WEIGHTS = (_NODES + 1.0) / 2.0, _NODE_WEIGHTS / 2.0  # of a sum over 0 to 1 (Gauss and Legendre's)
_FEW = 16  # rows for which looking at every knot costs less than a search for each feature


@dataclass(frozen=True)
class LogisticEnsemble:
    """`knots` (n_columns, n_knots), rising values of each column, with their normal `scores` of the same shape (van
    der Waerden 1952; linear between knots, flat beyond), and `weights` (n_experts, n_columns) with `intercepts`.

    Columns are the features and then the `interactions` (n_interactions, 2): the feature of the first index times what
    the feature of the second leaves of 1. `share` is their share in the log-odds that they and the trees pool.

    Raises:
        ValueError: when shapes don't fit, knots fall, an index is of no feature, or the share is none.
    """

    knots: NDArray[np.float64]
    scores: NDArray[np.float64]
    weights: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    share: float
    interactions: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))

    _slopes: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.knots.shape != self.scores.shape or self.weights.shape != (len(self.intercepts), len(self.knots)):
            raise ValueError(
                f"experts have knots {self.knots.shape}, scores {self.scores.shape}, weights {self.weights.shape} and "
                f"intercepts {self.intercepts.shape}, which don't fit each other"
            )
        if not (np.diff(self.knots, axis=1) >= 0.0).all():
            raise ValueError("experts have knots that fall, expected rising values of each feature")
        if self.interactions.ndim != 2 or self.interactions.shape[1] != 2 or self.n_features < 0:
            raise ValueError(
                f"experts have interactions {self.interactions.shape}, which don't fit {len(self.knots)} columns"
            )
        if self.interactions.size and not 0 <= self.interactions.min() <= self.interactions.max() < self.n_features:
            raise ValueError(f"experts have an interaction of a feature beyond 0 to {self.n_features - 1}")
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"experts have a share of {self.share}, expected 0 to 1")
        steps, rise = np.diff(self.knots, axis=1), np.diff(self.scores, axis=1)
        object.__setattr__(self, "_slopes", np.divide(rise, steps, out=np.zeros_like(rise), where=steps > 0.0))

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read from a bundle's arrays."""
        return cls(
            arrays["knots"], arrays["scores"], arrays["weights"], arrays["intercepts"], float(arrays["share"][0]),
            arrays.get("interactions", np.zeros((0, 2), np.int64)),
        )  # fmt: skip

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `of_arrays` reads."""
        return {
            "knots": self.knots, "scores": self.scores, "weights": self.weights, "intercepts": self.intercepts,
            "share": np.array([self.share]),
        } | ({"interactions": self.interactions} if len(self.interactions) else {})  # fmt: skip

    @property
    def n_features(self) -> int:
        """How many features are read."""
        return len(self.knots) - len(self.interactions)

    def normal_scores(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Normal score of each column of feature rows X (n_sessions, n_features), shape (n_sessions, n_columns)."""
        X = with_interactions(X, self.interactions)
        rows, last = np.arange(len(self.knots)), self.knots.shape[1] - 1
        place = self._places(X)
        left = np.clip(place, 0, last - 1)  # the formula of np.interp, for all features at once
        found = self._slopes[rows, left] * (X - self.knots[rows, left]) + self.scores[rows, left]
        return np.where(place < 0, self.scores[:, 0], np.where(place >= last, self.scores[:, -1], found))

    def _places(self, X: NDArray[np.float64]) -> NDArray[np.int64]:
        """The last knot that each value reaches, -1 where it reaches none."""
        if len(X) < _FEW:
            return np.asarray((self.knots <= X[:, :, None]).sum(axis=2) - 1)
        columns = [np.searchsorted(knots, X[:, j], side="right") - 1 for j, knots in enumerate(self.knots)]
        return np.stack(columns, axis=1)

    def margins(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log of the mean odds of all experts, shape (n_sessions,); row i depends on session i alone."""
        log_odds = self._log_odds(self.normal_scores(X))
        return np.asarray(_log_sum(log_odds)[:, 0] - np.log(len(self.intercepts)))

    def contributions(self, X: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each feature adds to the margin on the straight way from `usual` to X, both (n_sessions, n_features) and
        so is the result: integrated gradients (Sundararajan et al. 2017) in normal scores. They sum to the difference
        of both margins, up to what 32 steps of an integral lose (below 1e-5). An interaction counts as its first
        feature's."""
        scores, origin = self.normal_scores(X), self.normal_scores(usual)
        begin, end = self._log_odds(origin), self._log_odds(scores)
        shares = np.zeros_like(begin)  # of each expert in the pool, the mean along the way
        for place, weight in zip(_PLACES, _PLACE_WEIGHTS, strict=True):
            log_odds = begin + place * (end - begin)
            shares += weight * np.exp(log_odds - _log_sum(log_odds))
        columns: NDArray[np.float64] = (shares[:, :, None] * self.weights).sum(axis=1) * (scores - origin)
        found = columns[:, : self.n_features].copy()
        np.add.at(found.T, self.interactions[:, 0], columns[:, self.n_features :].T)
        return found

    def _log_odds(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        # A matrix product may sum in another order in another batch; this sum is the same for a row anywhere.
        return np.asarray((scores[:, None, :] * self.weights).sum(axis=2) + self.intercepts)


def with_interactions(X: NDArray[np.float64], interactions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Feature rows (n_sessions, n_features) with a column for each interaction behind them."""
    if not len(interactions):
        return X
    left = 1.0 - np.clip(X[:, interactions[:, 1]], 0.0, 1.0)
    return np.concatenate([X, X[:, interactions[:, 0]] * left], axis=1)


def _log_sum(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of the sum of exp of each row of finite numbers, (n, 1): scipy's formula, without its care for any array."""
    highest = logs.max(axis=1, keepdims=True)
    is_highest = logs == highest
    n_highest = is_highest.sum(axis=1, keepdims=True)
    others = np.where(is_highest, 0.0, np.exp(logs - highest)).sum(axis=1, keepdims=True)
    return np.asarray(np.log1p(others / n_highest) + np.log(n_highest) + highest)
