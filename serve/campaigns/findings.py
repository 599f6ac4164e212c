"""Findings: campaigns, their accounts, and what is reported of each."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.campaigns.community_features import Community
from serve.campaigns.mixture import Mixture
from serve.campaigns.sketches import Items, Sketches
from serve.campaigns.synchrony import Pivot, Synchrony, pivots, synchrony
from serve.capability import coverage
from serve.capability.capability_map import CapabilityMap
from serve.infrastructure.sharing import SharedInfrastructure, SharedValue
from serve.model.community_model import CommunityFeatures, CommunityModel

PRIOR = 0.01
"""Share of accounts that harvest before anything is known, for the account's own probability."""
MIN_MEMBER = 0.5
"""Confidence from which an account of a campaign is called harvesting; one below it is listed, no more."""
GROWTH_SIZES = (10, 30, 100, 300, 1000)
"""Exchanges at which the growth of union coverage is reported."""
_N_SKELETONS = 32
_MAX_OUTSIDE = 0.1


@dataclass(frozen=True, slots=True)
class Tie:
    """What ties an account to a campaign.

    `share` of its exchanges belong to it; `gain` (nats) is by how much that makes what it asks likelier; so many of its
    kept prompts share a skeleton with one of another member, or nearly repeat it. `infrastructure` (nats) is what the
    values that it shares with other members add.
    """

    account_id: str
    confidence: float
    share: float
    gain: float
    n_exchanges: int
    n_shared: float
    n_same_skeleton: int
    n_near_duplicates: int
    infrastructure: float = 0.0


@dataclass(frozen=True, slots=True)
class Shared:
    """Infrastructure that members share: the log-odds that it adds, how likely as many random accounts share as much,
    and the values of most members, by kind and numbers of accounts alone."""

    log_odds: float = 0.0
    p_value: float = 1.0
    values: tuple[SharedValue, ...] = ()


@dataclass(frozen=True)
class Campaign:
    """Accounts that harvest together; never holds prompt text. Shares are 0-1, times seconds since 1970.

    `n_exchanges` counts all exchanges of its accounts, `n_harvested` estimates those that belong to the harvest.
    `contributions` are the log-odds each sign adds; `skeletons` map hashes to the number of accounts that sent them.
    `shared` is what infrastructure members share.
    """

    campaign_id: str
    confidence: float
    n_exchanges: int
    n_harvested: int
    dilution: float
    first_at: float | None
    last_at: float | None
    n_active_days: int
    areas: Mapping[str, float]
    skills: Mapping[str, float]
    union_coverage: Mapping[str, float]
    growth: Mapping[int, float]
    cells: Mapping[int, float]
    skeletons: Mapping[str, int]
    pivots: tuple[Pivot, ...]
    synchrony: Synchrony
    signs: CommunityFeatures
    contributions: Mapping[str, float]
    ties: tuple[Tie, ...]
    shared: Shared = Shared()

    @property
    def account_ids(self) -> frozenset[str]:
        """Accounts of the campaign."""
        return frozenset(tie.account_id for tie in self.ties)


@dataclass(frozen=True)
class Findings:
    """Campaigns, largest first, and for every account of the population its best one.

    `campaign` (n_accounts,) indexes `campaigns`, -1 for none; `confidence` is the probability of harvesting with it,
    and `probability` that of harvesting at all, from the account's sessions and from its campaign, given `PRIOR`.
    """

    campaigns: tuple[Campaign, ...]
    campaign: NDArray[np.int64]
    confidence: NDArray[np.float64]
    probability: NDArray[np.float64]

    @property
    def is_member(self) -> NDArray[np.bool_]:
        """Which accounts are tied to their campaign surely enough to be called harvesting (n_accounts,)."""
        return np.asarray((self.campaign >= 0) & (self.confidence >= MIN_MEMBER))


def campaign_of(
    community: Community, signs: CommunityFeatures, blended: Mixture, sketches: Sketches, capabilities: CapabilityMap,
    model: CommunityModel, infrastructure: SharedInfrastructure,
) -> Campaign:  # fmt: skip
    """What is reported of a community that is a campaign."""
    items, accounts = sketches.items, community.accounts
    confidence = _logistic(model.log_odds(signs) + infrastructure.log_odds)
    weight = (sketches.weight * blended.part[:, community.index])[community.items]
    shared = items.take(community.items)
    counts = coverage.CellCounts.of(np.zeros(len(shared), np.int64), shared.cell.astype(np.int64), 1)
    covered = coverage.area_coverage(counts, capabilities.cell_areas, capabilities.n_cells)
    ties = _ties(community, blended, sketches, confidence, infrastructure.ties)
    n_exchanges = int(sketches.n_exchanges[accounts].sum())
    n_harvested = round(sum(tie.n_shared for tie in ties))
    return Campaign(
        campaign_id=_name(shared),
        confidence=confidence,
        n_exchanges=n_exchanges,
        n_harvested=n_harvested,
        dilution=1.0 - n_harvested / max(n_exchanges, 1),
        first_at=_known(np.fmin.reduce(sketches.first_at[accounts])),
        last_at=_known(np.fmax.reduce(sketches.last_at[accounts])),
        n_active_days=len(np.unique(np.floor(shared.at[~np.isnan(shared.at)] / 86_400.0))),
        areas=_shares(shared.area, weight, capabilities.areas),
        skills=_shares(shared.skill, weight, [f"{capabilities.areas[s.area]}/{s.name}" for s in capabilities.skills]),
        union_coverage=dict(zip(capabilities.areas, covered[0].tolist(), strict=True)),
        growth=dict(zip(GROWTH_SIZES, coverage.growth(counts, GROWTH_SIZES)[0].tolist(), strict=True)),
        cells=_cells(shared.cell, weight),
        skeletons=_skeletons(shared, items, accounts),
        pivots=pivots(shared.at, shared.area.astype(np.int64), shared.owner, capabilities.areas),
        synchrony=synchrony(sketches, accounts),
        signs=signs,
        contributions=model.contributions(signs) | _added(infrastructure),
        ties=ties,
        shared=Shared(infrastructure.log_odds, infrastructure.p_value, infrastructure.values),
    )  # fmt: skip


def _added(infrastructure: SharedInfrastructure) -> dict[str, float]:
    return {"infrastructure": infrastructure.log_odds} if infrastructure.log_odds else {}


def _ties(
    community: Community, blended: Mixture, sketches: Sketches, confidence: float, shared: NDArray[np.float64]
) -> tuple[Tie, ...]:
    items, accounts, index = sketches.items, community.accounts, community.index
    n = len(sketches)
    share = _weighted_share(community, blended, sketches)
    sent = items.take(community.items)
    skeleton = np.bincount(sent.owner, weights=_has_common(sent), minlength=n)
    repeats = np.bincount(sent.owner, weights=_is_near_repeat(sent), minlength=n)
    member = _posterior(blended.gain[accounts, index] + shared, len(accounts), n)
    return tuple(
        Tie(
            sketches.account_ids[account], confidence * float(sure), float(share[account]),
            float(blended.gain[account, index]), int(sketches.n_exchanges[account]),
            float(share[account] * sketches.n_exchanges[account]), int(skeleton[account]), int(repeats[account]),
            nats,
        )
        for account, sure, nats in zip(accounts.tolist(), member.tolist(), shared.tolist(), strict=True)
    )  # fmt: skip


def _weighted_share(community: Community, blended: Mixture, sketches: Sketches) -> NDArray[np.float64]:
    """Estimated share of each account's exchanges that belong to the community, undoing the sampling of its sketch."""
    owner, weight, n = sketches.items.owner, sketches.weight, len(sketches)
    inside = np.bincount(owner, weights=weight * blended.part[:, community.index], minlength=n)
    return np.asarray(inside / np.maximum(np.bincount(owner, weights=weight, minlength=n), 1e-9))


def _posterior(gain: NDArray[np.float64], n_members: int, n: int) -> NDArray[np.float64]:
    """Probability of belonging, from the likelihood ratio and the share of members among all accounts."""
    prior = math.log(max(n_members, 1) / max(n - n_members, 1))
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(gain + prior, -50, 50))))


def _has_common(shared: Items) -> NDArray[np.float64]:
    """1 for each prompt with a skeleton key that another account's prompt of these has, too."""
    names, n_accounts = _senders(shared)
    return np.asarray(np.isin(shared.keys, names[n_accounts > 1]).any(axis=1), dtype=np.float64)


def _is_near_repeat(shared: Items) -> NDArray[np.float64]:
    """1 for each prompt all of whose keys are those of another account's prompt, the text the same or not."""
    _, inverse = np.unique(shared.keys, axis=0, return_inverse=True)
    pairs = np.unique(np.stack([inverse.ravel(), shared.owner], axis=1), axis=0)
    n_accounts = np.bincount(pairs[:, 0])
    return np.asarray(n_accounts[inverse.ravel()] > 1, dtype=np.float64)


def _skeletons(shared: Items, items: Items, accounts: NDArray[np.int64]) -> dict[str, int]:
    """The keys that most accounts sent, of those that several did and hardly anybody else."""
    names, counts = _senders(shared)
    n_outside = _n_senders(names, items, ~np.isin(items.owner, accounts))
    order = np.lexsort((names, -counts))
    own = order[(counts[order] > 2) & (n_outside[order] <= _MAX_OUTSIDE * counts[order])][:_N_SKELETONS]
    return {f"{names[row]:016x}": int(counts[row]) for row in own.tolist()}


def _senders(items: Items) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Skeleton keys, sorted, and how many accounts sent each."""
    names = np.unique(items.keys)
    names = names[names > 0]
    return names, _n_senders(names, items, np.ones(len(items), dtype=np.bool_))


def _n_senders(names: NDArray[np.uint64], items: Items, counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many accounts sent each of these keys, which are sorted, in the prompts that are counted."""
    if not len(names):
        return np.zeros(0, dtype=np.int64)
    keys = items.keys[counted]
    place = np.minimum(np.searchsorted(names, keys), len(names) - 1)
    row, column = np.nonzero(names[place] == keys)
    n_owners = int(items.owner.max(initial=0)) + 1
    pairs = np.unique(place[row, column] * n_owners + items.owner[counted][row])
    return np.bincount(pairs // n_owners, minlength=len(names))


def _shares(code: NDArray[np.int16], weight: NDArray[np.float64], names: Sequence[str]) -> dict[str, float]:
    """Share of each name that has any, largest first; what is in none has no name."""
    mass = np.bincount(code.astype(np.int64) + 1, weights=weight, minlength=len(names) + 1)[1:] / max(
        weight.sum(), 1e-9
    )
    return {names[row]: float(mass[row]) for row in np.argsort(-mass, kind="stable").tolist() if mass[row] > 0}


def _cells(cell: NDArray[np.int16], weight: NDArray[np.float64]) -> dict[int, float]:
    mass = np.bincount(cell.astype(np.int64) + 1, weights=weight)[1:] / max(weight.sum(), 1e-9)
    return {int(row): float(mass[row]) for row in np.flatnonzero(mass > 0).tolist()}


def _name(shared: Items) -> str:
    """An id from what was first seen of the campaign."""
    return hashlib.sha256(np.sort(np.unique(shared.text)).tobytes()).hexdigest()[:12]


def _known(at: float) -> float | None:
    return None if math.isnan(at) else float(at)


def _logistic(odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-odds))


def findings_of(sketches: Sketches, campaigns: tuple[Campaign, ...]) -> Findings:
    """The campaigns with, for each account, the one that it belongs to most surely."""
    position = {name: index for index, name in enumerate(sketches.account_ids)}
    campaign = np.full(len(sketches), -1, dtype=np.int64)
    confidence = np.zeros(len(sketches))
    for index, found in enumerate(campaigns):
        for tie in found.ties:
            account = position[tie.account_id]
            if tie.confidence > confidence[account]:
                campaign[account], confidence[account] = index, tie.confidence
    return Findings(campaigns, campaign, confidence, 1.0 - (1.0 - confidence) * (1.0 - _by_sessions(sketches.p_value)))


def _by_sessions(p_value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of harvesting from an account's own sessions: `PRIOR` times the most that a p-value can say.

    That is the Bayes factor -1 / (e p log p) (Sellke, Bayarri & Berger 2001).
    """
    small = np.minimum(p_value, 1.0 / math.e)
    odds = PRIOR / (1.0 - PRIOR) / (-math.e * small * np.log(small))
    return np.asarray(odds / (1.0 + odds))
