"""Communities: accounts that ask alike in composed populations, of campaigns, products and people that were left out.

Each fold leaves a part of the campaigns and of the benign sources out of the prompt scorer and composes populations of
that part alone, so every community is judged as one of a new provider's will be. Products have up to hundreds of
customers, who ask alike as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serve.campaigns.detector import linked
from serve.features.prompt_scorer import PromptScorer
from serve.features.prompt_training import train
from serve.model.community_model import FEATURES
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.learning.evidence import EvidenceSettings, lessons
from train.learning.sketched_population import sketched
from train.synthesis.population import PopulationSettings, populate

MIN_PURE = 0.8
"""Share of a community's accounts that are of campaigns from which it counts as one, and below whose complement it
counts as benign; what lies between is not learned from."""
_KINDS = ("harvest", "person", "product")
_MIN_PROMPTS = 290


@dataclass(frozen=True, slots=True)
class CommunitySettings:
    """Folds, and for each a population of every number of customers and dilution (None for one without campaigns).

    `known` populations draw benign accounts from all sources, three in four of which the scorer saw.
    """

    n_folds: int = 4
    n_benign: int = 320
    n_campaigns: int = 4
    accounts: tuple[int, int] = (10, 40)
    exchanges: tuple[int, int] = (25, 60)
    customers: tuple[tuple[int, int], ...] = ((1, 20), (20, 150))
    known_customers: tuple[tuple[int, int], ...] = ((1, 60),)
    dilutions: tuple[float | None, ...] = (None, 0.0, 0.5, 0.75, 0.9)
    evidence: EvidenceSettings = field(default_factory=lambda: EvidenceSettings(max_prompts=2000, max_draws=100_000))


@dataclass(frozen=True)
class CommunityTable:
    """Communities as columns (n,): `signs` (n, n_features), `harvest_share` of their accounts that are of campaigns,
    `n_accounts`, the fold whose campaigns and sources they are of, and whether benign sources were known."""

    signs: NDArray[np.float64]
    harvest_share: NDArray[np.float64]
    n_accounts: NDArray[np.int64]
    fold: NDArray[np.int64]
    is_known: NDArray[np.bool_]

    @property
    def is_campaign(self) -> NDArray[np.bool_]:
        """Whether nearly all accounts are of campaigns."""
        return np.asarray(self.harvest_share >= MIN_PURE)

    @property
    def is_benign(self) -> NDArray[np.bool_]:
        """Whether hardly any account is of a campaign."""
        return np.asarray(self.harvest_share <= 1.0 - MIN_PURE)

    def where(self, chosen: NDArray[np.bool_]) -> CommunityTable:
        """The communities that are chosen."""
        return CommunityTable(
            self.signs[chosen], self.harvest_share[chosen], self.n_accounts[chosen], self.fold[chosen],
            self.is_known[chosen],
        )  # fmt: skip

    @classmethod
    def joined(cls, parts: Sequence[CommunityTable]) -> Self:
        """Communities of all parts, in order."""
        return cls(
            np.concatenate([part.signs for part in parts]), np.concatenate([part.harvest_share for part in parts]),
            np.concatenate([part.n_accounts for part in parts]), np.concatenate([part.fold for part in parts]),
            np.concatenate([part.is_known for part in parts]),
        )  # fmt: skip


@dataclass(frozen=True)
class LeftOutGroups:
    """What a fold leaves out of the scorer, and composes populations of."""

    campaigns: tuple[str, ...]
    sources: tuple[str, ...]


def left_out_groups(pool: Pool, n_folds: int, *, seed: int) -> tuple[LeftOutGroups, ...]:
    """Groups of each kind dealt over the folds; starter groups are learned from in all of them.

    Raises:
        ValueError: when there are fewer groups of a kind than folds.
    """
    hands = []
    for offset, kind in enumerate(_KINDS):
        names = sorted(set(pool.groups[(pool.kinds == kind) & ~pool.is_starter].tolist()))
        if len(names) < n_folds:
            raise ValueError(f"the corpora hold {len(names)} groups of kind {kind}, expected at least {n_folds}")
        shuffled = np.random.default_rng(seed + offset).permutation(names).tolist()
        hands.append([tuple(sorted(shuffled[fold::n_folds])) for fold in range(n_folds)])
    return tuple(LeftOutGroups(c, p + q) for c, p, q in zip(*hands, strict=True))


def composed_communities(
    pool: Pool, cache: PromptCache, settings: CommunitySettings, *, seed: int
) -> Iterator[CommunityTable]:
    """The communities of one population after another."""
    topic = cache.lookup_raw(pool.texts).assigned.cell.astype(np.int64)
    organic = np.isin(pool.kinds, ("person", "product"))
    for fold, held in enumerate(left_out_groups(pool, settings.n_folds, seed=seed)):
        scorer = _scorer(pool, cache, held, settings.evidence, seed)
        harvest = _large_enough(pool, held.campaigns)
        known, new = np.flatnonzero(organic), np.flatnonzero(np.isin(pool.groups, held.sources))
        sides = [(new, False, customers) for customers in settings.customers]
        sides += [(known, True, customers) for customers in settings.known_customers]
        for index, ((benign, is_known, customers), dilution) in enumerate(itertools.product(sides, settings.dilutions)):
            asked = PopulationSettings(
                settings.n_benign, 0 if dilution is None else min(settings.n_campaigns, len(harvest)),
                settings.accounts, settings.exchanges, customers, dilution or 0.0,
            )  # fmt: skip
            population = populate(pool, benign, harvest, topic, asked, seed=seed + 1000 * fold + index)
            found = linked(sketched(population, pool, cache, scorer))[1]
            yield _table(
                [tuple(getattr(signs, name) for name in FEATURES) for _, signs in found],
                [population.campaign[community.accounts] != "" for community, _ in found], fold, is_known,
            )  # fmt: skip


def _scorer(pool: Pool, cache: PromptCache, held: LeftOutGroups, settings: EvidenceSettings, seed: int) -> PromptScorer:
    seen = np.flatnonzero(~np.isin(pool.groups, held.campaigns + held.sources))
    return train(lessons(pool, seen, cache, settings).examples, settings, seed=seed)


def _large_enough(pool: Pool, groups: Sequence[str]) -> list[str]:
    names, counts = np.unique(pool.groups, return_counts=True)
    return sorted(set(groups) & set(names[counts >= _MIN_PROMPTS].tolist()))


def _table(
    signs: list[tuple[float, ...]], of_campaign: list[NDArray[np.bool_]], fold: int, is_known: bool
) -> CommunityTable:
    n = len(signs)
    return CommunityTable(
        np.array(signs, dtype=np.float64).reshape(n, len(FEATURES)),
        np.array([own.mean() for own in of_campaign]), np.array([len(own) for own in of_campaign], dtype=np.int64),
        np.full(n, fold), np.full(n, is_known),
    )  # fmt: skip
