"""Fit experts: one logistic model for each degree of dilution, on normal scores of features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize
from scipy.special import expit, ndtri

from serve.experts import Experts
from train.table import Table

DEGREES = ((0.0,), (0.5,), (0.75, 0.9))
"""Dilutions of the campaign sessions that each expert learns from; all learn from every organic session."""

_N_KNOTS = 128
_EDGE = 4.0  # normal score of a value at, or beyond, the ends of what training sessions have


def fit_experts(table: Table, rising: NDArray[np.bool_], *, strength: float, share: float) -> Experts:
    """Experts on the first columns of the table, as many as `rising` says of whether a feature may only speak for
    harvesting; the same table gives the same experts.

    `strength` weighs the mean loss of a session against the L2 penalty, `share` is the experts' share in the pool.
    """
    X = table.X[:, : len(rising)]
    knots, scores = (np.stack(part) for part in zip(*map(_scored, X.T), strict=True))
    blank = Experts(knots, scores, np.zeros((1, len(rising))), np.zeros(1), share)
    Z = blank.normal_scores(X)
    degrees = [own for degree in DEGREES if (own := (table.y == 1) & np.isin(table.dilution, degree)).any()]
    fitted = np.stack([_fit(Z, table, own, rising, strength) for own in degrees or [table.y == 1]])
    return Experts(knots, scores, fitted[:, :-1], fitted[:, -1], share)


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
    Z: NDArray[np.float64], table: Table, harvesting: NDArray[np.bool_], rising: NDArray[np.bool_], strength: float
) -> NDArray[np.float64]:
    """Weights and, last, the intercept of a logistic model with both labels weighing the same. SciPy fits it, since
    scikit-learn has no bounds on weights."""
    used = harvesting | (table.y == 0)
    scores, sign = Z[used], np.where(table.y[used] == 1, 1.0, -1.0)
    weight = table.weight[used].copy()
    weight[sign > 0] *= weight[sign < 0].sum() / weight[sign > 0].sum()
    weight *= strength / weight.mean()

    def loss(b: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (scores @ b[:-1] + b[-1])
        slope = -weight * sign * expit(-margin)
        value = (weight * np.logaddexp(0.0, -margin)).sum() + b[:-1] @ b[:-1] / 2.0
        return float(value), np.append(scores.T @ slope + b[:-1], slope.sum())

    bounds = Bounds(np.append(np.where(rising, 0.0, -np.inf), -np.inf))
    found = minimize(loss, np.zeros(Z.shape[1] + 1), jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x, dtype=np.float64)
