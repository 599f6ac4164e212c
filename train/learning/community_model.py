"""Learn what tells a campaign from other accounts that ask alike: a logistic model with a threshold."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from serve.model.community_model import FEATURES, MAX_SPREADS, CommunityFeatures, CommunityModel
from train.learning.communities import CommunityTable

_STRENGTH = 1.0
_DIGITS = 3


@dataclass(frozen=True)
class FittedCommunities:
    """A model of all communities, and the log-odds (n,) that models of the other folds give each."""

    model: CommunityModel
    left_out: NDArray[np.float64]


def fit_communities(table: CommunityTable, pass_rate: float) -> FittedCommunities:
    """Fit campaigns against benign communities, both counted alike; mixed ones teach nothing.

    The threshold is the least log-odds that at most a share `pass_rate` of benign communities reaches when a model of
    the other folds judges them. It is never below 0, where a campaign is as likely as not.

    Raises:
        ValueError: when campaigns or benign communities are not of two folds at least.
    """
    folds = np.unique(table.fold)
    for kind, own in (("campaigns", table.is_campaign), ("benign communities", table.is_benign)):
        if len(np.unique(table.fold[own])) < 2:
            raise ValueError(f"there are no {kind} of two folds, expected some to fit and some to judge")
    left_out = np.zeros(len(table.fold))
    for fold in folds.tolist():
        held = table.fold == fold
        left_out[held] = log_odds(_fitted(table.where(~held)), table.signs[held])
    threshold = max(0.0, _limit(left_out[table.is_benign], pass_rate))
    model = _fitted(table)
    rounded = CommunityModel(model.mean, model.scale, model.weight, model.intercept, round(threshold, _DIGITS))
    return FittedCommunities(rounded, left_out)


def log_odds(model: CommunityModel, signs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds of a campaign for each row of signs (n, n_features)."""
    return np.array([model.log_odds(CommunityFeatures(*row)) for row in signs.tolist()])


def _fitted(table: CommunityTable) -> CommunityModel:
    """A model whose numbers are rounded as they are printed, with threshold 0."""
    pure = table.where(table.is_campaign | table.is_benign)
    mean = _named(pure.signs.mean(axis=0))
    scale = _named(np.maximum(pure.signs.std(axis=0), 10.0**-_DIGITS))
    spread = (pure.signs - [mean[name] for name in FEATURES]) / [scale[name] for name in FEATURES]
    fitted = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=1000)
    fitted.fit(np.clip(spread, -MAX_SPREADS, MAX_SPREADS), pure.is_campaign)
    return CommunityModel(mean, scale, _named(fitted.coef_[0]), round(float(fitted.intercept_[0]), _DIGITS), 0.0)


def _named(values: NDArray[np.float64]) -> dict[str, float]:
    return {name: round(value, _DIGITS) for name, value in zip(FEATURES, values.tolist(), strict=True)}


def _limit(values: NDArray[np.float64], rate: float) -> float:
    """The value that at most a share `rate` of all lies above."""
    return float(np.quantile(values, 1.0 - rate, method="higher"))


def reliability(odds: NDArray[np.float64], table: CommunityTable, edges: Sequence[float]) -> str:
    """A line for each range of probability: communities in it, mean probability, share that are campaigns.

    Both kinds count alike, as in the fit.
    """
    pure = table.is_campaign | table.is_benign
    is_campaign = table.is_campaign[pure]
    chance = 1.0 / (1.0 + np.exp(-odds[pure]))
    weight = np.where(is_campaign, 1.0 / is_campaign.sum(), 1.0 / (~is_campaign).sum())
    lines = ["probability   communities  campaigns   mean  realised"]
    for low, high in itertools.pairwise(edges):
        own = (chance >= low) & ((chance < high) | (high >= 1.0))
        if own.any():
            share = float(np.average(is_campaign[own], weights=weight[own]))
            mean = float(np.average(chance[own], weights=weight[own]))
            lines.append(
                f"{low:.2f} to {high:.2f}  {own.sum():11}  {is_campaign[own].sum():9}  {mean:5.3f}  {share:8.3f}"
            )
    return "\n".join(lines) + "\n"
