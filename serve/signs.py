"""Signs: what tells a campaign from the accounts of one product, readers of one forum or students of one course.

All of those ask alike; that alone is no sign. Each sign is measured against the population that is looked at, so that
nothing has to be known of a provider's benign traffic beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from serve.blend import Blend
from serve.sketches import Items

MIN_ACCOUNTS = 5
"""Accounts below which nothing is called a campaign."""

MIN_GAIN = 5.0
"""Nats by which an account's prompts must be likelier with the community than without it."""

_MIN_MASS = 1.5
_MIN_SHARE = 0.03
_MIN_OF_MEDIAN = 0.3
_MIN_PART = 0.3
_N_DRAWN = 50
_PURE = 0.7
_MIN_ITEMS = 10


@dataclass(frozen=True, slots=True)
class Signs:
    """Signs of one community, each high where it speaks for a campaign.

    `harvest`: mean harvest evidence of what the accounts share, in spreads of the population's above its median.
    `apart`: share of it that nobody outside sends too. `even`: how alike the accounts' shares are, 0 to 1. `broad`:
    log of the cells that 50 of the shared prompts reach. `hidden`: share of the accounts' other traffic. `foreign`:
    share of accounts whose other traffic is what the accounts of quite another community send and nothing else.
    `large`: log of the number of accounts.
    """

    harvest: float
    apart: float
    even: float
    broad: float
    hidden: float
    foreign: float
    large: float


SIGNS = tuple(field.name for field in fields(Signs))


@dataclass(frozen=True, slots=True)
class Gate:
    """A logistic model of signs: means, scales and weights by sign, and an intercept that puts its threshold at 0."""

    mean: Mapping[str, float]
    scale: Mapping[str, float]
    weight: Mapping[str, float]
    intercept: float

    def contributions(self, signs: Signs) -> dict[str, float]:
        """Log-odds that each sign adds, above 0 where it speaks for a campaign."""
        return {
            name: self.weight[name] * float(np.clip((getattr(signs, name) - self.mean[name]) / self.scale[name], -3, 3))
            for name in SIGNS
        }

    def log_odds(self, signs: Signs) -> float:
        """Log-odds of a campaign against the least likely benign community; 0 is the threshold."""
        return self.intercept + sum(self.contributions(signs).values())


@dataclass(frozen=True, slots=True)
class Community:
    """Accounts that ask alike: indices of `accounts` and of the `items` they share, and its place in the blend."""

    index: int
    accounts: NDArray[np.int64]
    items: NDArray[np.int64]


def communities_of(blended: Blend, items: Items) -> tuple[Community, ...]:
    """Communities of at least `MIN_ACCOUNTS` accounts that each are tied to it by `MIN_GAIN` and by several prompts.

    An account whose share is far below what is usual in the community is left out: it met it by chance.
    """
    n_accounts = len(blended.share)
    found = []
    for index in range(blended.part.shape[1] - 1):
        share, mass = blended.share[:, index], np.bincount(items.owner, blended.part[:, index], n_accounts)
        tied = np.flatnonzero((mass > _MIN_MASS) & (blended.gain[:, index] > MIN_GAIN) & (share > _MIN_SHARE))
        tied = tied[share[tied] > _MIN_OF_MEDIAN * np.median(share[tied])] if len(tied) else tied
        shared = np.flatnonzero((blended.part[:, index] > _MIN_PART) & np.isin(items.owner, tied))
        if len(tied) >= MIN_ACCOUNTS and len(shared) >= _MIN_ITEMS:
            found.append(Community(index, tied, shared))
    return tuple(found)


def measure(found: Sequence[Community], blended: Blend, items: Items) -> tuple[Signs, ...]:
    """Signs of communities, measured against each other and the whole population."""
    evidence = items.evidence[:, 0].astype(np.float64)
    middle = float(np.median(evidence)) if len(evidence) else 0.0
    spread = 1.4826 * float(np.median(np.abs(evidence - middle))) if len(evidence) else 1.0
    senders = _senders(items)
    typical = np.zeros(blended.share.shape[1])
    for community in found:
        typical[community.index] = np.median(blended.share[community.accounts, community.index])
    return tuple(
        Signs(
            harvest=(_mean(evidence, community, blended) - middle) / max(spread, 1e-6),
            apart=_apart(community, items, senders),
            even=1.0 - min(1.0, 4.0 * float(np.std(blended.share[community.accounts, community.index]))),
            broad=_broad(community, blended, items),
            hidden=1.0 - float(np.mean(blended.share[community.accounts, community.index])),
            foreign=_foreign(community, blended, typical),
            large=float(np.log(len(community.accounts))),
        )
        for community in found
    )


def _mean(values: NDArray[np.float64], community: Community, blended: Blend) -> float:
    return float(np.average(values[community.items], weights=blended.part[community.items, community.index]))


def _senders(items: Items) -> NDArray[np.int64]:
    """How many accounts sent each item's text."""
    _, inverse, counts = np.unique(items.text, return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse])


def _apart(community: Community, items: Items, senders: NDArray[np.int64]) -> float:
    _, inverse, counts = np.unique(items.text[community.items], return_inverse=True, return_counts=True)
    return float(np.mean(senders[community.items] <= counts[inverse]))


def _broad(community: Community, blended: Blend, items: Items) -> float:
    """Log of the distinct cells that `_N_DRAWN` of the shared prompts reach on average."""
    weights = blended.part[community.items, community.index].astype(np.float64)
    cells = np.bincount(items.cell[community.items].astype(np.int64) + 1, weights=weights)
    return float(np.log(np.sum(1.0 - (1.0 - cells / cells.sum()) ** _N_DRAWN)))


def _foreign(community: Community, blended: Blend, typical: NDArray[np.float64]) -> float:
    """Share of accounts most of whose other traffic is of one community whose accounts send nothing else."""
    rest = blended.share[community.accounts].astype(np.float64)
    rest[:, community.index] = 0.0
    total = rest.sum(axis=1)
    rest[:, -1] = 0.0
    main = rest.argmax(axis=1)
    in_one = rest[np.arange(len(rest)), main] > 0.5 * total
    return float(np.mean(in_one & (typical[main] > _PURE) & (total > 0.2)))


GATE = Gate(
    mean={"harvest": 1.0, "apart": 0.7, "even": 0.5, "broad": 3.0, "hidden": 0.5, "foreign": 0.2, "large": 3.5},
    scale={"harvest": 1.0, "apart": 0.3, "even": 0.3, "broad": 0.8, "hidden": 0.3, "foreign": 0.2, "large": 0.7},
    weight={"harvest": 1.9, "apart": 1.8, "even": 2.0, "broad": 0.5, "hidden": 1.4, "foreign": 0.6, "large": -0.3},
    intercept=-2.0,
)
"""Learned from composed populations (train/RESEARCH.md, Campaigns)."""
