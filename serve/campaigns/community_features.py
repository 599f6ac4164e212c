"""Community features: what separates a campaign from a product's accounts, a forum's readers or a course's students.

All of those ask alike; that alone is no sign. What they ask must look like harvest rather than like people or a
product, be theirs alone, and tie each account to it firmly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.campaigns.mixture import Mixture
from serve.campaigns.sketches import Items
from serve.model.community_model import CommunityFeatures

MIN_ACCOUNTS = 5
"""Accounts below which nothing is called a campaign."""

MIN_GAIN = 5.0
"""Nats by which an account's prompts must be likelier with the community than without it."""

_LEAST_GAIN = 1.0
_MIN_MASS = 1.5
_MIN_SHARE = 0.03
_MIN_OF_MEDIAN = 0.3
_MIN_OF_MEDIAN_GAIN = 0.4
_FAR, _LEAST_SPREAD = 4.0, 0.05
_MIN_PART = 0.3
_N_DRAWN = 50
_N_ACCOUNTS, _N_OF_ACCOUNT = 32, 16
_MIN_ITEMS = 10
_TEMPER = 0.5
_SURE = 1.0 - 1e-6
_FEW_PROMPTS = 3.0
_LEAST_SHARE = 1e-3


@dataclass(frozen=True, slots=True)
class Community:
    """Accounts that ask alike: indices of `accounts` and of the `items` they share, and its place in the blend."""

    index: int
    accounts: NDArray[np.int64]
    items: NDArray[np.int64]


def communities_of(blended: Mixture, items: Items) -> tuple[Community, ...]:
    """Communities of at least `MIN_ACCOUNTS` accounts that each are tied to it by `MIN_GAIN` and by several prompts.

    An account whose share or gain is far below what is usual in the community, or what it shares far more like a person
    or product than what the others do, is left out: it met the community by chance. The share is the larger of those of
    what it sent and of what is kept, since sampling scatters the first and tilts the second.
    """
    found, n_kept = [], _n_kept(blended, items)
    for index in range(blended.part.shape[1] - 1):
        share, enough = _shares(index, blended, items, n_kept)
        tied = np.flatnonzero(enough & (blended.gain[:, index] > MIN_GAIN))
        if len(tied):
            tied = tied[share[tied] > _MIN_OF_MEDIAN * np.median(share[tied])]
            gain = blended.gain[tied, index]
            tied = tied[
                (gain > _MIN_OF_MEDIAN_GAIN * np.median(gain)) & ~_strangers(tied, blended.part[:, index], items)
            ]
        community = _community(index, tied, blended, items)
        if len(tied) >= MIN_ACCOUNTS and len(community.items) >= _MIN_ITEMS:
            found.append(community)
    return tuple(found)


def widened(community: Community, ties: NDArray[np.float64], blended: Mixture, items: Items) -> Community:
    """The community with those accounts that what they ask ties too weakly, but together with other `ties`
    (n_accounts,), in nats, firmly enough."""
    index, own = community.index, community.accounts
    share, enough = _shares(index, blended, items, _n_kept(blended, items))
    gain = blended.gain[:, index]
    weakly = enough & (gain > _LEAST_GAIN) & (ties > 0.0) & (gain + ties > MIN_GAIN)
    weakly &= share > _MIN_OF_MEDIAN * np.median(share[own])
    weakly &= gain + ties > _MIN_OF_MEDIAN_GAIN * np.median(gain[own])
    tied = np.union1d(own, np.flatnonzero(weakly))
    tied = np.union1d(own, tied[~_strangers(tied, blended.part[:, index], items)])
    return _community(index, tied, blended, items)


def _n_kept(blended: Mixture, items: Items) -> NDArray[np.int64]:
    """Prompts that are kept of each account, at least 1."""
    return np.maximum(np.bincount(items.owner, minlength=len(blended.share)), 1)


def _shares(
    index: int, blended: Mixture, items: Items, n_kept: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The share of each account in a community, and whether it and the prompts in it are enough to tell."""
    mass = np.bincount(items.owner, blended.part[:, index], len(blended.share))
    share = np.maximum(blended.share[:, index], mass / n_kept)
    return share, (mass > _MIN_MASS) & (share > _MIN_SHARE)


def _community(index: int, accounts: NDArray[np.int64], blended: Mixture, items: Items) -> Community:
    shared = np.flatnonzero((blended.part[:, index] > _MIN_PART) & np.isin(items.owner, accounts))
    return Community(index, accounts, shared)


def _strangers(accounts: NDArray[np.int64], part: NDArray[np.float32], items: Items) -> NDArray[np.bool_]:
    """Which of these accounts share prompts that lean far less to harvest than the others' do, by a robust z-score."""
    rows = np.flatnonzero(np.isin(items.owner, accounts))
    place = np.searchsorted(accounts, items.owner[rows])
    weights, evidence = part[rows].astype(np.float64), items.evidence[rows].astype(np.float64)
    mass = np.bincount(place, weights, len(accounts))
    means = np.stack([np.bincount(place, weights * column, len(accounts)) / mass for column in evidence.T])
    lean = means[0] - means[1:].max(axis=0)
    spread = 1.4826 * float(np.median(np.abs(lean - np.median(lean))))
    return np.asarray(lean < np.median(lean) - _FAR * max(spread, _LEAST_SPREAD))


def measure(
    found: Sequence[Community], blended: Mixture, items: Items, weight: NDArray[np.float64]
) -> tuple[CommunityFeatures, ...]:
    """Signs of communities; `weight` (n_items,) is how many exchanges each item stands for.

    Sketches keep what looks most like harvest, so an unweighted mean would make every product of a large population, of
    whose accounts little is kept, look like one; a weighted one hides a campaign most of whose prompts look like
    people's. Weights are tempered, halfway between both.
    """
    senders, weight, odds = _senders(items), weight**_TEMPER, _log_odds(items)
    accounts = [_by_account(community, blended, items, weight, odds) for community in found]
    return tuple(
        CommunityFeatures(
            lean=_lean(community, blended, items, weight),
            apart=_apart(community, items, senders, weight),
            broad=_broad(community, blended, items, weight),
            tied=float(np.log(np.median(blended.gain[community.accounts, community.index]))),
            shared_out=_shared_out(community, items),
            harvest=float(np.median(own.shared)),
            rest=-float(np.median(own.rest)),
            even=_even(blended.share[community.accounts, community.index]),
            size=float(np.log(len(community.accounts))),
        )
        for community, own in zip(found, accounts, strict=True)
    )


@dataclass(frozen=True, slots=True)
class _AccountEvidence:
    """Mean harvest log-odds of what each account of a community shares, and of the rest, (n_accounts,)."""

    shared: NDArray[np.float64]
    rest: NDArray[np.float64]


def _log_odds(items: Items) -> NDArray[np.float64]:
    """What a sketch keeps as twice the probability less one, as log-odds."""
    return np.asarray(2.0 * np.arctanh(np.clip(items.evidence[:, 0].astype(np.float64), -_SURE, _SURE)))


def _by_account(
    community: Community, blended: Mixture, items: Items, weight: NDArray[np.float64], odds: NDArray[np.float64]
) -> _AccountEvidence:
    """The evidence of the rest is drawn towards 0 where there are few other prompts."""
    rows = np.flatnonzero(np.isin(items.owner, community.accounts))
    place, n = np.searchsorted(community.accounts, items.owner[rows]), len(community.accounts)
    part = blended.part[rows, community.index].astype(np.float64)

    def mean(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.maximum(np.bincount(place, weights, n), 1e-9)
        return np.asarray(np.bincount(place, weights * odds[rows], n) / total)

    n_other = np.bincount(place, 1.0 - part, n)
    shared, rest = mean(part * weight[rows]), mean((1.0 - part) * weight[rows])
    return _AccountEvidence(shared, rest * n_other / (n_other + _FEW_PROMPTS))


def _even(share: NDArray[np.float32]) -> float:
    low, high = np.quantile(np.maximum(share.astype(np.float64), _LEAST_SHARE), (0.25, 0.75))
    return -float(np.log(high / low))


def _lean(community: Community, blended: Mixture, items: Items, weight: NDArray[np.float64]) -> float:
    weights = (blended.part[:, community.index] * weight)[community.items]
    harvest, *organic = np.average(items.evidence[community.items].astype(np.float64), axis=0, weights=weights)
    return float(harvest - max(organic))


def _senders(items: Items) -> NDArray[np.int64]:
    """How many accounts sent each item's text."""
    _, inverse, counts = np.unique(items.text, return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse])


def _apart(community: Community, items: Items, senders: NDArray[np.int64], weight: NDArray[np.float64]) -> float:
    _, inverse, counts = np.unique(items.text[community.items], return_inverse=True, return_counts=True)
    return float(np.average(senders[community.items] <= counts[inverse], weights=weight[community.items]))


def _broad(community: Community, blended: Mixture, items: Items, weight: NDArray[np.float64]) -> float:
    """Log of the distinct cells that `_N_DRAWN` of the shared prompts reach on average."""
    weights = (blended.part[:, community.index] * weight)[community.items]
    cells = np.bincount(items.cell[community.items].astype(np.int64) + 1, weights=weights)
    return float(np.log(np.sum(1.0 - (1.0 - cells / cells.sum()) ** _N_DRAWN)))


def _shared_out(community: Community, items: Items) -> float:
    """Mean cosine of prompts of different accounts less that of one account's, in a sample of both; 0 where no account
    has two."""
    owner = items.owner[community.items]
    names, first, counts = np.unique(owner, return_index=True, return_counts=True)
    some = np.unique(np.linspace(0, len(names) - 1, _N_ACCOUNTS).astype(np.int64))
    rows = [
        community.items[first[own] + np.unique(np.linspace(0, counts[own] - 1, _N_OF_ACCOUNT).astype(np.int64))]
        for own in some.tolist()
    ]
    chosen = np.concatenate(rows)
    vectors = items.vector[chosen].astype(np.float32)
    products = (vectors @ vectors.T).astype(np.float64)  # sums of whole numbers below 2**24: the same in any order
    lengths = np.sqrt(np.maximum(np.diag(products), 1.0))
    cosines = products / (lengths[:, None] * lengths[None])
    is_own = items.owner[chosen][:, None] == items.owner[chosen][None]
    inside = is_own & ~np.eye(len(chosen), dtype=np.bool_)
    if is_own.all() or not inside.any():
        return 0.0
    return float(cosines[~is_own].mean() - cosines[inside].mean())
