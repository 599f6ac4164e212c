"""Detector: accounts that harvest together, found by what they ask and not by who they say they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serve.campaigns.community_features import (
    MIN_ACCOUNTS,
    Community,
    communities_of,
    measure,
    widened,
)
from serve.campaigns.findings import Findings, campaign_of, findings_of
from serve.campaigns.mixture import MAX_COMMUNITIES, Mixture, Seeds, fit_mixture
from serve.campaigns.similarity_graph import WIDTH, account_vectors, communities, prompt_kernel, unit_rows
from serve.campaigns.sketches import ContentOrder, Items, Sketches
from serve.capability.capability_map import CapabilityMap
from serve.infrastructure.account_metadata import AccountMetadata
from serve.infrastructure.sharing import MIN_TIE, SharedInfrastructure, Sharing
from serve.model.community_model import BUILT_IN, CommunityFeatures, CommunityModel

MAX_ITEMS = 600_000
"""Prompts that are compared at a time; of a larger population each account brings fewer, those most like tasks."""
MAX_ACCOUNT_SHARE = 0.5
"""Share of all accounts beyond which a community is what everyone asks, and no campaign."""
_RESOLUTIONS = (6.0, 4.0)
_TASK_SLOPE, _CLAIM_SLOPE, _TASK_LEVEL = 10.0, 6.0, 0.1
_SAME = 0.75
_SAME_ACCOUNTS = 0.5
_REPEAT = 0.98
_N_COMPARED = 200


def find(
    sketches: Sketches,
    capabilities: CapabilityMap,
    model: CommunityModel = BUILT_IN,
    metadata: AccountMetadata | None = None,
) -> Findings:
    """Campaigns among these accounts; a population too small to hold one has none. With `metadata`, what accounts that
    ask alike share of it speaks for a campaign, too."""
    return campaigns_among(sketches, candidates(sketches, metadata), capabilities, model)


def campaigns_among(
    sketches: Sketches, found: Candidates, capabilities: CapabilityMap, model: CommunityModel
) -> Findings:
    """Those communities among these accounts that a model calls campaigns, with what is reported of them; where only
    what accounts share makes one, it is of those who share."""
    called = [
        (signs, (own, shared) if model.is_campaign(signs) else _sharers(own, shared, found.sketches.items))
        for (own, signs), shared in zip(found.communities, found.shared, strict=True)
        if model.log_odds(signs) + shared.log_odds > model.threshold
    ]
    campaigns = [
        campaign_of(own, signs, found.blended, found.sketches, capabilities, model, shared)
        for signs, (own, shared) in called
        if len(own.accounts) >= MIN_ACCOUNTS
    ]
    campaigns.sort(key=lambda campaign: (-campaign.n_exchanges, campaign.campaign_id))
    return findings_of(sketches, tuple(campaigns))


def _sharers(
    community: Community, shared: SharedInfrastructure, items: Items
) -> tuple[Community, SharedInfrastructure]:
    """The community without accounts that share too little to be tied by it."""
    tied = shared.ties >= MIN_TIE
    rows = community.items[np.isin(items.owner[community.items], community.accounts[tied])]
    return Community(community.index, community.accounts[tied], rows), replace(shared, ties=shared.ties[tied])


@dataclass(frozen=True)
class Candidates:
    """Communities that may be campaigns, each with its signs and what infrastructure it shares; `sketches` as they were
    compared, and as a blend."""

    sketches: Sketches
    blended: Mixture
    communities: tuple[tuple[Community, CommunityFeatures], ...]
    shared: tuple[SharedInfrastructure, ...]


def candidates(sketches: Sketches, metadata: AccountMetadata | None = None) -> Candidates:
    """The communities among these accounts that a model of communities judges; none where too few could make one.

    Whatever judges communities, learns from them or sets a threshold by them has to ask here, so that all see the same.
    """
    return linked(sketches).candidates(metadata)


@dataclass(frozen=True)
class Linked:
    """Accounts whose prompts were compared, as a blend of communities; `items` and what follows are in `order`."""

    sketches: Sketches
    order: ContentOrder
    items: Items
    weight: NDArray[np.float64]
    blended: Mixture

    def candidates(self, metadata: AccountMetadata | None = None) -> Candidates:
        """The communities of the blend, with the signs of those whom their prompts tie; what accounts share adds
        accounts and speaks for a community, and takes nothing from those who share nothing."""
        if not len(self.blended.share):
            return Candidates(self.sketches, self.blended, (), ())
        most = MAX_ACCOUNT_SHARE * len(self.sketches)
        blended = joined(self.blended, communities_of(self.blended, self.items), self.items)
        found = [own for own in communities_of(blended, self.items) if len(own.accounts) <= most]
        signs = measure(found, blended, self.items, self.weight)
        shared = [SharedInfrastructure.nothing(len(own.accounts)) for own in found]
        if metadata:
            names = self.sketches.account_ids
            sharing = Sharing(metadata, tuple(names[own] for own in self.order.accounts.tolist()))
            wider = [widened(own, sharing.ties(own.accounts), blended, self.items) for own in found]
            found = [own if len(more.accounts) > most else more for own, more in zip(found, wider, strict=True)]
            shared = [sharing.evidence(own.accounts) for own in found]
        blended, communities, ties = _as_given(self.order, blended, found, shared)
        return Candidates(self.sketches, blended, tuple(zip(communities, signs, strict=True)), ties)


def linked(sketches: Sketches) -> Linked:
    """Compare what accounts ask, in an order that what they sent decides, so that their names change nothing."""
    n = len(sketches)
    thin = sketches.thinned(max(8, MAX_ITEMS // max(n, 1))) if len(sketches.items) > MAX_ITEMS else sketches
    order = ContentOrder.of(thin.items, n)
    items, weight = order.ordered(thin.items), thin.weight[order.items]
    if n < MIN_ACCOUNTS or len(items) < MIN_ACCOUNTS:
        return Linked(thin, order, items, weight, Mixture.empty())
    return Linked(thin, order, items, weight, fit_mixture(prompt_kernel(items), items.owner, weight, seeds(items, n)))


def _as_given(
    order: ContentOrder, blended: Mixture, found: Sequence[Community], shared: Sequence[SharedInfrastructure]
) -> tuple[Mixture, list[Community], tuple[SharedInfrastructure, ...]]:
    """The blend, its communities and what they share, for accounts and prompts in the order of the sketches."""
    for column in blended.part.T:
        column[order.items] = column.copy()
    share, gain = np.empty_like(blended.share), np.empty_like(blended.gain)
    share[order.accounts], gain[order.accounts] = blended.share, blended.gain
    by_name = [np.argsort(order.accounts[own.accounts]) for own in found]
    communities = [
        Community(own.index, order.accounts[own.accounts[places]], np.sort(order.items[own.items]))
        for own, places in zip(found, by_name, strict=True)
    ]
    ties = tuple(replace(own, ties=own.ties[places]) for own, places in zip(shared, by_name, strict=True))
    return Mixture(blended.part, share, gain), communities, ties


def seeds(items: Items, n_accounts: int) -> Seeds:
    """Communities to begin with: accounts alike in what looks like tasks, and accounts alike in all they ask."""
    evidence = items.evidence[:, 0].astype(np.float64)
    task = 1.0 / (1.0 + np.exp(-_TASK_SLOPE * (evidence - _TASK_LEVEL)))
    by_task, by_all = (
        communities(account_vectors(items, weight, n_accounts), resolution=resolution)
        for weight, resolution in zip((task, np.ones(len(items))), _RESOLUTIONS, strict=True)
    )
    by_task = _most_harvest(by_task, items, task)
    claim = 1.0 / (1.0 + np.exp(-_CLAIM_SLOPE * (evidence - _TASK_LEVEL)))
    return Seeds((by_task, np.where(by_all < MAX_COMMUNITIES // 2, by_all, -1)), (claim, 1.0 - claim))


def _most_harvest(label: NDArray[np.int64], items: Items, task: NDArray[np.float64]) -> NDArray[np.int64]:
    """The labels of the communities that send the most task-like prompts, renumbered; -1 for the others."""
    n_labels = int(label.max(initial=-1)) + 1
    if n_labels <= MAX_COMMUNITIES // 2:
        return label
    of_item = label[items.owner]
    mass = np.bincount(of_item[of_item >= 0], weights=task[of_item >= 0], minlength=n_labels)
    rank = np.full(n_labels + 1, -1)
    rank[np.argsort(-mass, kind="stable")[: MAX_COMMUNITIES // 2]] = np.arange(MAX_COMMUNITIES // 2)
    return rank[label]


def joined(blended: Mixture, found: Sequence[Community], items: Items) -> Mixture:
    """The blend with communities put together that ask the same or are the same accounts.

    Whether they ask the same, a kernel two-sample test on what each shares tells. Fitting sees
    the nearest prompts only, and can leave a campaign in pieces; here samples are compared whole.
    """
    if not found:
        return blended
    close = _closeness([_sample(community, items) for community in found])
    own = np.sqrt(np.maximum(np.diag(close), 1e-12))
    same = np.triu((close > _SAME * np.outer(own, own)) | (_overlaps(found) > _SAME_ACCOUNTS), 1)
    label = _same_labels(same | same.T | np.eye(len(found), dtype=np.bool_))
    part, share, gain = blended.part.copy(), blended.share.copy(), blended.gain.copy()
    for position in np.flatnonzero(label != np.arange(len(label))).tolist():
        into, out = found[int(label[position])].index, found[position].index
        for columns in (part, share):
            columns[:, into] += columns[:, out]
            columns[:, out] = 0.0
        gain[:, into] = np.maximum(gain[:, into], gain[:, out])
    return Mixture(part, share, gain)


def _same_labels(same: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A label for each community, the smallest index of those put together with it: every two of them are the same.

    If one that is like many were enough to link all of those, people who ask about everything would link everybody.
    """
    label = np.arange(len(same))
    for first, second in np.argwhere(np.triu(same, 1)).tolist():
        one, other = label == label[first], label == label[second]
        if same[np.ix_(one, other)].all():
            label[one | other] = min(label[first], label[second])
    return label


def _overlaps(found: Sequence[Community]) -> NDArray[np.float64]:
    """Accounts of both over accounts of either, for each two communities, (n, n)."""
    members = np.zeros((len(found), 1 + max(int(own.accounts.max()) for own in found)), np.float32)
    for place, own in enumerate(found):
        members[place, own.accounts] = 1.0
    both = (members @ members.T).astype(np.float64)  # whole numbers: exact in any order
    size = np.diag(both)
    return np.asarray(both / (size[:, None] + size - both))


@dataclass(frozen=True, slots=True)
class _Sample:
    """Some of the prompts that a community shares, with their accounts."""

    rows: NDArray[np.float32]
    owner: NDArray[np.int64]


def _sample(community: Community, items: Items) -> _Sample:
    chosen = community.items[np.linspace(0, len(community.items) - 1, _N_COMPARED).astype(np.int64)]
    chosen = np.unique(chosen)
    return _Sample(unit_rows(items.vector[chosen]), items.owner[chosen])


def _closeness(samples: Sequence[_Sample]) -> NDArray[np.float64]:
    """Mean kernel between prompts of different accounts, repeats left out, of each two communities, (n, n)."""
    rows, owner = np.concatenate([own.rows for own in samples]), np.concatenate([own.owner for own in samples])
    begins = np.cumsum([0, *(len(own.owner) for own in samples[:-1])])
    close = np.zeros((len(samples), len(samples)))
    for place, own in enumerate(samples):  # one product for all pairs of a community: many small ones take far longer
        kernel = own.rows @ rows.T
        counted = (own.owner[:, None] != owner) & (kernel < _REPEAT)
        kernel -= 1.0
        kernel /= WIDTH
        np.exp(kernel, out=kernel)
        kernel *= counted
        total = np.add.reduceat(kernel.sum(axis=0, dtype=np.float64), begins)
        close[place] = total / np.maximum(np.add.reduceat(counted.sum(axis=0), begins), 1)
    return close
