"""Fit experts: one logistic model for each degree of dilution, on normal scores of features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.linear_model import LogisticRegression

from serve.experts import Experts
from train.table import Table

DEGREES = ((0.0,), (0.5,), (0.75, 0.9))
"""Dilutions of the campaign sessions that each expert learns from; all learn from every organic session."""

_N_KNOTS = 128
_EDGE = 4.0  # normal score of a value at, or beyond, the ends of what training sessions have
_MAX_ITERATIONS = 500


def fit_experts(table: Table, n_features: int, *, strength: float, share: float) -> Experts:
    """Experts on the first `n_features` columns of the table, each label with the same weight; `strength` is the inverse
    of the L2 penalty, as scikit-learn has it, and `share` their share in the pool. The same table gives the same experts."""
    X = table.X[:, :n_features]
    knots, scores = (np.stack(part) for part in zip(*map(_scored, X.T), strict=True))
    blank = Experts(knots, scores, np.zeros((1, n_features)), np.zeros(1), share)
    Z = blank.normal_scores(X)
    degrees = [own for degree in DEGREES if (own := (table.y == 1) & np.isin(table.dilution, degree)).any()]
    fitted = [_fit(Z, table, own, strength) for own in degrees or [table.y == 1]]
    return Experts(knots, scores, np.stack([w for w, _ in fitted]), np.array([b for _, b in fitted]), share)


def _scored(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Knots at the quantiles of a feature, and their normal scores; equal values share their middle rank."""
    ranked = np.sort(values)
    knots = np.unique(np.quantile(ranked, np.linspace(0.0, 1.0, _N_KNOTS)))
    first, last = np.searchsorted(ranked, knots, "left"), np.searchsorted(ranked, knots, "right")
    scores = ndtri(np.clip((first + last) / 2.0 / len(ranked), 1e-7, 1.0 - 1e-7))
    if len(knots) > 1:
        scores[0], scores[-1] = min(scores[0], -_EDGE), max(scores[-1], _EDGE)
    missing = _N_KNOTS - len(knots)
    return np.pad(knots, (0, missing), mode="edge"), np.pad(scores, (0, missing), mode="edge")


def _fit(
    Z: NDArray[np.float64], table: Table, harvesting: NDArray[np.bool_], strength: float
) -> tuple[NDArray[np.float64], float]:
    used = harvesting | (table.y == 0)
    y, weight = table.y[used], table.weight[used].copy()
    weight[y == 1] *= weight[y == 0].sum() / weight[y == 1].sum()
    model = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS)
    model.fit(Z[used], y, sample_weight=weight / weight.mean())
    return model.coef_[0], float(model.intercept_[0])
