"""Synchrony: accounts that begin, stop, keep hours or change subject together, compared with chance by resampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.campaigns.sketches import Sketches

_N_DRAWS = 499
_DAY = 86_400.0
_MIN_SIDE = 20
_MIN_CHANGE = 0.25
_MIN_ACCOUNTS = 3
_MIN_RATIO = 12.0


@dataclass(frozen=True, slots=True)
class Synchrony:
    """p-values, 0-1 and low where accounts act together: first exchanges, last exchanges, hours of the day; None where
    too few times are known."""

    start: float | None
    stop: float | None
    hours: float | None


@dataclass(frozen=True, slots=True)
class Pivot:
    """A day (seconds since 1970) from which an area's share of what accounts share is another than before."""

    at: float
    area: str
    share_before: float
    share_after: float


def synchrony(sketches: Sketches, accounts: NDArray[np.int64]) -> Synchrony:
    """How closely these accounts act together, against as many drawn at random from all."""
    rng = np.random.default_rng(len(accounts))
    return Synchrony(
        _spread_p_value(sketches.first_at, accounts, rng),
        _spread_p_value(sketches.last_at, accounts, rng),
        _hours_p_value(sketches.hours, accounts, rng),
    )


def _spread_p_value(at: NDArray[np.float64], accounts: NDArray[np.int64], rng: np.random.Generator) -> float | None:
    """Share of random sets whose middle half of times spans as little."""
    own, everyone = at[accounts], at[~np.isnan(at)]
    own = own[~np.isnan(own)]
    if len(own) < _MIN_ACCOUNTS or len(everyone) <= len(own):
        return None
    drawn = everyone[rng.integers(len(everyone), size=(_N_DRAWS, len(own)))]
    low, high = np.quantile(drawn, (0.25, 0.75), axis=1)
    own_low, own_high = np.quantile(own, (0.25, 0.75))
    return float((1 + np.sum(high - low <= own_high - own_low)) / (1 + _N_DRAWS))


def _hours_p_value(hours: NDArray[np.int64], accounts: NDArray[np.int64], rng: np.random.Generator) -> float | None:
    """Share of random sets whose hours are as far from everyone's (chi-square of the mean profile)."""
    known = np.flatnonzero(hours.sum(axis=1) > 0)
    own = np.intersect1d(accounts, known)
    if len(own) < _MIN_ACCOUNTS or len(known) <= len(own):
        return None
    profiles = hours / np.maximum(hours.sum(axis=1, keepdims=True), 1)
    everyone = profiles[known].mean(axis=0) + 1e-6

    def distance(rows: NDArray[np.int64]) -> float:
        return float(np.sum((profiles[rows].mean(axis=0) - everyone) ** 2 / everyone))

    observed = distance(own)
    drawn = [distance(known[rng.integers(len(known), size=len(own))]) for _ in range(_N_DRAWS)]
    return float((1 + np.sum(np.array(drawn) >= observed)) / (1 + _N_DRAWS))


def pivots(
    at: NDArray[np.float64], area: NDArray[np.int64], owner: NDArray[np.int64], areas: tuple[str, ...]
) -> tuple[Pivot, ...]:
    """Days on which shared prompts, with these times, areas and accounts, turn to or from an area; the clearest each.

    A likelihood ratio of a change against none decides (Page 1954), with a quarter of all prompts at least turning and
    several accounts on both sides.
    """
    known = ~np.isnan(at)
    at, area, owner = at[known], area[known], owner[known]
    day = np.floor(at / _DAY).astype(np.int64)
    found = (_pivot(day, area == index, owner, name) for index, name in enumerate(areas))
    return tuple(sorted((pivot for pivot in found if pivot), key=lambda pivot: pivot.at))


def _pivot(day: NDArray[np.int64], inside: NDArray[np.bool_], owner: NDArray[np.int64], name: str) -> Pivot | None:
    best: tuple[float, Pivot] | None = None
    for start in np.unique(day)[1:].tolist():
        after = day >= start
        if min(after.sum(), (~after).sum()) < _MIN_SIDE:
            continue
        if min(len(np.unique(owner[after])), len(np.unique(owner[~after]))) < _MIN_ACCOUNTS:
            continue
        before_share, after_share = float(inside[~after].mean()), float(inside[after].mean())
        ratio = _log_likelihood(inside[after]) + _log_likelihood(inside[~after]) - _log_likelihood(inside)
        if abs(after_share - before_share) >= _MIN_CHANGE and ratio > _MIN_RATIO and (best is None or ratio > best[0]):
            best = ratio, Pivot(float(start * _DAY), name, before_share, after_share)
    return best[1] if best else None


def _log_likelihood(inside: NDArray[np.bool_]) -> float:
    share = float(np.clip(inside.mean(), 1e-9, 1 - 1e-9))
    return float(inside.sum() * np.log(share) + (~inside).sum() * np.log(1 - share))
