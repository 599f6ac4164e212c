"""Learn what tells a campaign from other accounts that ask alike: a logistic model with a threshold."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serve.model.community_model import FEATURES, CommunityFeatures, CommunityModel
from serve.model.refitting import logistic
from train.learning.community_table import CommunityTable

_STRENGTH = 100.0
_DIGITS = 3
_LOW, _HIGH = 8.0, 3.0
_SAYS_NO_MORE = {"broad": 1.5, "shared_out": 0.0, "rest": 2.0, "size": 2.5}
"""Values above which a sign tells nothing: what is broad or shared out at all, or of more than a dozen accounts, isn't
the likelier a campaign, and traffic that is like people's can be no more than that."""


@dataclass(frozen=True)
class FittedCommunities:
    """A model of all communities, and the log-odds (n,) that models of the other folds give each."""

    model: CommunityModel
    left_out: NDArray[np.float64]


def fit_communities(table: CommunityTable, pass_rate: float) -> FittedCommunities:
    """Fit campaigns against benign communities, both counted alike; mixed ones teach nothing.

    No sign may speak for innocence where it is high. The threshold is the least log-odds that at most a share
    `pass_rate` of benign communities exceeds when a model of the other folds judges them. It is never below 0, where a
    campaign is as likely as not.

    Raises:
        ValueError: when campaigns or benign communities are not of two folds at least.
    """
    folds = np.unique(table.fold)
    for kind, own in (("campaigns", table.is_campaign), ("benign communities", table.is_benign)):
        if len(np.unique(table.fold[own])) < 2:
            raise ValueError(f"there are no {kind} of two folds, expected some to fit and some to judge")
    left_out = np.zeros(len(table))
    for fold in folds.tolist():
        held = table.fold == fold
        left_out[held] = log_odds(_fitted(table.where(~held)), table.signs[held])
    threshold = max(0.0, _limit(left_out[table.is_benign], pass_rate))
    return FittedCommunities(replace(_fitted(table), threshold=round(threshold, _DIGITS)), left_out)


def log_odds(model: CommunityModel, signs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds of a campaign for each row of signs (n, n_features)."""
    return np.array([model.log_odds(CommunityFeatures(*row)) for row in signs.tolist()])


def _fitted(table: CommunityTable) -> CommunityModel:
    """A model whose numbers are rounded as they are written, with threshold 0."""
    pure = table.where(table.is_campaign | table.is_benign)
    weight = _weights(pure)
    most = np.array([_SAYS_NO_MORE.get(name, np.inf) for name in FEATURES])
    capped = np.minimum(pure.signs, most)
    mean = np.average(capped, axis=0, weights=weight)
    scale = np.maximum(np.sqrt(np.average((capped - mean) ** 2, axis=0, weights=weight)), 10.0**-_DIGITS)
    high = np.minimum(mean + _HIGH * scale, most)
    blank = CommunityModel(
        _named(mean), _named(scale), dict.fromkeys(FEATURES, 1.0), _named(mean - _LOW * scale), _named(high), 0.0, 0.0
    )
    signs = [blank.contributions(CommunityFeatures(*row)) for row in pure.signs.tolist()]
    spread = np.array([[own[name] for name in FEATURES] for own in signs])
    rising = np.ones(len(FEATURES), np.bool_)
    *slopes, intercept = logistic(spread, pure.is_campaign.astype(np.int64), weight, rising).tolist()
    return replace(blank, weight=_named(np.array(slopes)), intercept=round(intercept, _DIGITS))


def _weights(table: CommunityTable) -> NDArray[np.float64]:
    """Weights that give every source the square root of its share, and campaigns and others `_STRENGTH` together."""
    _, inverse, counts = np.unique(table.source, return_inverse=True, return_counts=True)
    weight = 1.0 / np.sqrt(counts[inverse])
    for own in (table.is_campaign, ~table.is_campaign):
        weight[own] *= _STRENGTH / weight[own].sum()
    return np.asarray(weight, dtype=np.float64)


def _named(values: NDArray[np.float64]) -> dict[str, float]:
    return {name: round(value, _DIGITS) for name, value in zip(FEATURES, values.tolist(), strict=True)}


def _limit(values: NDArray[np.float64], rate: float) -> float:
    """The value that at most a share `rate` of all lies above."""
    return float(np.quantile(values, 1.0 - rate, method="higher"))


def passing_text(fitted: FittedCommunities, table: CommunityTable) -> str:
    """How many communities of each kind, and campaigns of each dilution, pass the threshold when their fold is left
    out, with the accounts that aren't of a campaign."""
    passes = fitted.left_out > fitted.model.threshold
    kinds = {"benign": table.is_benign, "mixed": ~(table.is_campaign | table.is_benign), "campaigns": table.is_campaign}
    kinds |= {f"  at {at:.0%}": table.is_campaign & (table.dilution == at) for at in np.unique(table.dilution).tolist()}
    n_others = np.rint(table.n_accounts * (1.0 - table.harvest_share)).astype(np.int64)
    return "\n".join(
        f"{name:10} {passes[own].sum():5} of {own.sum():5} communities pass, {n_others[own & passes].sum()} accounts "
        "that are of no campaign"
        for name, own in kinds.items()
        if own.any()
    )


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
