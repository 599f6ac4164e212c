"""Refitting: a classifier from rows of features, for training and for a provider's own traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize
from scipy.special import expit, ndtri

from serve.features.session_features import judged_names
from serve.model.classifier import Classifier
from serve.model.logistic_ensemble import LogisticEnsemble, with_interactions
from serve.model.trees import grow

DEGREES = ((0.0,), (0.5,), (0.75, 0.9))
"""Dilutions of the campaign sessions that each expert learns from; all learn from every organic session."""

# Features whose direction is certain: more evidence of harvest never makes a session more innocent.
_RISING = ("evidence.harvest_", "subset.half_evidence", "subset.quarter_evidence", "subset.tenth_evidence")
# What is read once more where prompts stand apart, and the features (0 to 1) that say where they don't.
_OF_PROMPTS = ("evidence.", "subset.")
_ALIKE = ("geometry.pair_q10",)
_N_KNOTS = 128
_CERTAIN = 5e5  # weight of each label against the penalty on the slope, which is there for separable margins alone
_NONE = np.zeros((0, 2), np.int64)
_EDGE = 4.0  # normal score of a value at, or beyond, the ends of what training sessions have


@dataclass(frozen=True, slots=True)
class ClassifierSettings:
    """Booster parameters, by LightGBM's names where it has one; and how strongly data weigh against the experts' L2
    penalty, and the experts' share in the pooled log-odds."""

    n_rounds: int = 600
    learning_rate: float = 0.04
    num_leaves: int = 7
    min_data_in_leaf: int = 60
    feature_fraction: float = 0.4
    bagging_fraction: float = 0.7
    lambda_l2: float = 5.0
    monotone: bool = True
    n_threads: int = 2
    expert_strength: float = 0.1
    expert_share: float = 0.6


@dataclass(frozen=True)
class Rows:
    """What a classifier is fitted to: `X` (n_sessions, n_features), `y` 1 for harvesting, a weight and a dilution."""

    X: NDArray[np.float64]
    y: NDArray[np.int64]
    weight: NDArray[np.float64]
    dilution: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_]) -> Self:
        """The rows that are chosen."""
        return type(self)(self.X[chosen], self.y[chosen], self.weight[chosen], self.dilution[chosen])


def fit(rows: Rows, names: Sequence[str], settings: ClassifierSettings, *, seed: int) -> Classifier:
    """Boost trees and fit experts on the features that are judged by (`session_features.judged_names`); the same rows,
    settings and seed give the same classifier."""
    judged = list(judged_names(names))
    rising = np.array([name.startswith(_RISING) for name in judged])
    X = np.ascontiguousarray(rows.X[:, : len(judged)])
    parameters = _parameters(rising & settings.monotone, settings, seed)
    trees = grow(X, rows.y, rows.weight, judged, parameters, n_rounds=settings.n_rounds)
    experts = fit_experts(
        rows, rising, strength=settings.expert_strength, share=settings.expert_share, interactions=interactions(judged)
    )  # fmt: skip
    return Classifier(trees, experts)


def interactions(names: Sequence[str]) -> NDArray[np.int64]:
    """Pairs of columns, (n_pairs, 2): what prompts score, and how alike they are."""
    alike = [index for index, name in enumerate(names) if name in _ALIKE]
    found = [(index, own) for own in alike for index, name in enumerate(names) if name.startswith(_OF_PROMPTS)]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def fit_experts(
    rows: Rows, rising: NDArray[np.bool_], *, strength: float, share: float, interactions: NDArray[np.int64] = _NONE
) -> LogisticEnsemble:
    """Experts on the first columns of the rows, as many as `rising` says of whether a feature may only speak for
    harvesting, and on `interactions` of them, which may speak either way; the same rows give the same experts.

    `strength` weighs the mean loss of a session against the L2 penalty, `share` is the experts' share in the pool.
    """
    X = rows.X[:, : len(rising)]
    knots, scores = (np.stack(part) for part in zip(*map(_scored, with_interactions(X, interactions).T), strict=True))
    blank = LogisticEnsemble(knots, scores, np.zeros((1, len(knots))), np.zeros(1), share, interactions)
    fitted = _experts(blank.normal_scores(X), rows, _padded(rising, len(interactions)), strength)
    return replace(blank, weights=fitted[:, :-1], intercepts=fitted[:, -1])


def _padded(rising: NDArray[np.bool_], n_interactions: int) -> NDArray[np.bool_]:
    return np.concatenate([rising, np.zeros(n_interactions, np.bool_)])


def with_confirmed(
    classifier: Classifier, rows: Rows, names: Sequence[str], settings: ClassifierSettings
) -> Classifier:
    """The classifier with experts beside its own that know confirmed campaigns: fitted to these rows alone, by what
    single prompts score. Where campaigns are known by name, their prompts tell more than how a session is built. The
    experts' share in the pool becomes that of `settings`."""
    judged, known = list(judged_names(names)), classifier.experts
    rising = _padded(np.array([name.startswith(_RISING) for name in judged]), len(known.interactions))
    Z = np.where(rising, known.normal_scores(np.ascontiguousarray(rows.X[:, : len(judged)])), 0.0)
    own = _experts(Z, rows, rising, settings.expert_strength)
    experts = replace(
        known, weights=np.concatenate([known.weights, own[:, :-1]]),
        intercepts=np.concatenate([known.intercepts, own[:, -1]]), share=settings.expert_share,
    )  # fmt: skip
    return Classifier(classifier.trees, experts)


def _experts(Z: NDArray[np.float64], rows: Rows, rising: NDArray[np.bool_], strength: float) -> NDArray[np.float64]:
    """Weights and, last, the intercept of one expert for each degree of dilution, (n_experts, n_features + 1)."""
    degrees = [own for degree in DEGREES if (own := (rows.y == 1) & np.isin(rows.dilution, degree)).any()]
    return np.stack([_expert(Z, rows, own, rising, strength) for own in degrees or [rows.y == 1]])


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


def _expert(
    Z: NDArray[np.float64], rows: Rows, harvesting: NDArray[np.bool_], rising: NDArray[np.bool_], strength: float
) -> NDArray[np.float64]:
    """Weights and, last, the intercept of one expert: both labels weigh the same."""
    used = harvesting | (rows.y == 0)
    y, weight = rows.y[used], rows.weight[used].copy()
    weight[y == 1] *= weight[y == 0].sum() / weight[y == 1].sum()
    return logistic(Z[used], y, weight * strength / weight.mean(), rising)


def logistic(
    scores: NDArray[np.float64], y: NDArray[np.int64], weight: NDArray[np.float64], rising: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Weights and, last, the intercept of a logistic model of `scores` (n, n_features) with an L2 penalty of half the
    weights' squares, none below 0 where `rising`. SciPy fits it, since scikit-learn has no bounds on weights."""
    sign = np.where(y == 1, 1.0, -1.0)

    def loss(b: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (scores @ b[:-1] + b[-1])
        slope = -weight * sign * expit(-margin)
        value = (weight * np.logaddexp(0.0, -margin)).sum() + b[:-1] @ b[:-1] / 2.0
        return float(value), np.append(scores.T @ slope + b[:-1], slope.sum())

    bounds = Bounds(np.append(np.where(rising, 0.0, -np.inf), -np.inf))
    found = minimize(loss, np.zeros(scores.shape[1] + 1), jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x, dtype=np.float64)


def _parameters(rising: NDArray[np.bool_], settings: ClassifierSettings, seed: int) -> Mapping[str, object]:
    return {
        "objective": "binary",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.num_leaves,
        "min_data_in_leaf": settings.min_data_in_leaf,
        "feature_fraction": settings.feature_fraction,
        "bagging_fraction": settings.bagging_fraction,
        "bagging_freq": 1,
        "lambda_l2": settings.lambda_l2,
        "monotone_constraints": rising.astype(int).tolist(),
        "num_threads": settings.n_threads,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def score_map(harvesting: NDArray[np.float64], benign: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept of the logistic map from margins to scores that is likeliest when both labels weigh the same
    (Platt 1999); the slope is never below 0.001, so that a score doesn't fall as the margin rises."""
    y = np.repeat([1, 0], [len(harvesting), len(benign)])
    weight = np.where(y == 1, _CERTAIN / len(harvesting), _CERTAIN / len(benign))
    slope, intercept = logistic(np.concatenate([harvesting, benign])[:, None], y, weight, np.zeros(1, np.bool_))
    return max(float(slope), 1e-3), float(intercept)
