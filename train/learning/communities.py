"""Communities: accounts that ask alike in composed populations, of campaigns, products and people that were left out.

Each fold leaves a part of the campaigns and of the benign sources out of the prompt scorer and composes populations of
that part alone, so every community is judged as one of a new provider's will be. Products have up to hundreds of
customers, who ask alike as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serve.campaigns.detector import candidates
from serve.campaigns.sketches import text_hashes
from serve.features.prompt_scorer import PromptScorer
from serve.features.prompt_training import train
from serve.sessions.canonical_text import canonical
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.learning.community_table import CommunityTable
from train.learning.evidence import EvidenceSettings, lessons
from train.learning.sketched_population import sketched
from train.synthesis.population import Population, PopulationSettings, populate, without_twins

_KINDS = ("harvest", "person", "product")
_MIN_PROMPTS = 290
_MAIN = 0.2


@dataclass(frozen=True, slots=True)
class Plan:
    """One population of every fold: customers of a product, dilution (None for one without campaigns), and whether
    benign accounts are drawn from all sources, three in four of which the scorer saw."""

    customers: tuple[int, int]
    dilution: float | None
    is_known: bool = False


@dataclass(frozen=True, slots=True)
class CommunitySettings:
    """Folds, and the populations of each: benign accounts drawn, campaigns, accounts a campaign, exchanges an
    account."""

    n_folds: int = 4
    n_benign: int = 420
    n_campaigns: int = 6
    accounts: tuple[int, int] = (8, 32)
    exchanges: tuple[int, int] = (25, 55)
    plans: tuple[Plan, ...] = (
        Plan((1, 20), 0.0), Plan((20, 150), 0.5), Plan((1, 20), 0.75), Plan((20, 150), 0.9), Plan((1, 60), 0.5, True),
        Plan((5, 60), 0.9),
    )  # fmt: skip
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)


@dataclass(frozen=True)
class LeftOutGroups:
    """What a fold leaves out of the scorer, and composes populations of."""

    campaigns: tuple[str, ...]
    sources: tuple[str, ...]


def left_out_groups(pool: Pool, n_folds: int, *, seed: int) -> tuple[LeftOutGroups, ...]:
    """Groups of each kind dealt over the folds; starter campaigns, too small to share out, are learned from in all.

    Raises:
        ValueError: when there are fewer groups of a kind than folds.
    """
    hands = []
    for offset, kind in enumerate(_KINDS):
        real = sorted(set(pool.groups[(pool.kinds == kind) & ~pool.is_starter].tolist()))
        if len(real) < n_folds:
            raise ValueError(f"the corpora hold {len(real)} groups of kind {kind}, expected at least {n_folds}")
        dealt = [_dealt(real, n_folds, seed + offset)]
        if kind != "harvest":
            dealt.append(
                _dealt(sorted(set(pool.groups[(pool.kinds == kind) & pool.is_starter].tolist())), n_folds, seed)
            )
        hands.append([tuple(sorted(name for hand in dealt for name in hand[fold])) for fold in range(n_folds)])
    return tuple(LeftOutGroups(c, p + q) for c, p, q in zip(*hands, strict=True))


def _dealt(names: list[str], n_hands: int, seed: int) -> list[list[str]]:
    shuffled = np.random.default_rng(seed).permutation(names).tolist()
    return [shuffled[hand::n_hands] for hand in range(n_hands)]


def composed_communities(
    pool: Pool, cache: PromptCache, settings: CommunitySettings, *, seed: int
) -> Iterator[CommunityTable]:
    """The communities of one population after another."""
    topic = cache.lookup_raw(pool.texts).assigned.cell.astype(np.int64)
    known = np.flatnonzero(np.isin(pool.kinds, ("person", "product")))
    for fold, held in enumerate(left_out_groups(pool, settings.n_folds, seed=seed)):
        scorer = _scorer(pool, cache, held, settings.evidence, seed)
        harvest = _large_enough(pool, held.campaigns)
        new = np.flatnonzero(np.isin(pool.groups, held.sources))
        for index, plan in enumerate(settings.plans):
            asked = PopulationSettings(
                settings.n_benign,
                0 if plan.dilution is None else max(1, min(settings.n_campaigns, len(harvest) // 2)),
                settings.accounts, settings.exchanges, plan.customers, plan.dilution or 0.0,
            )  # fmt: skip
            drawn = populate(
                pool, known if plan.is_known else new, harvest, topic, asked, seed=seed + 1000 * fold + index
            )
            population = without_twins(drawn, pool)
            yield _communities(population, pool, cache, scorer, fold, plan)


def _communities(
    population: Population, pool: Pool, cache: PromptCache, scorer: PromptScorer, fold: int, plan: Plan
) -> CommunityTable:
    linked = candidates(sketched(population, pool, cache, scorer))
    sketches, blended, found = linked.sketches, linked.blended, linked.communities
    tasks = text_hashes([canonical(pool.texts[row]) for row in population.rows[population.is_task].tolist()])
    is_task = np.isin(sketches.items.text, tasks)
    accounts = [community.accounts for community, _ in found]
    n = len(found)
    return CommunityTable.of(
        [signs for _, signs in found],
        task_share=np.array([
            np.average(is_task[own.items], weights=blended.part[own.items, own.index]) for own, _ in found
        ], dtype=np.float64),
        harvest_share=np.array([(population.campaign[own] != "").mean() for own in accounts], dtype=np.float64),
        n_accounts=np.array([len(own) for own in accounts], dtype=np.int64),
        source=np.array([_main_sources(population, pool, own) for own in accounts], dtype=np.str_),
        dilution=np.full(n, np.nan if plan.dilution is None else plan.dilution),
        fold=np.full(n, fold), is_known=np.full(n, plan.is_known),
    )  # fmt: skip


def _main_sources(population: Population, pool: Pool, accounts: NDArray[np.int64]) -> str:
    """The groups that a fifth of these accounts' exchanges are of, or more, joined by a plus."""
    names, counts = np.unique(pool.groups[population.of_accounts(accounts).rows], return_counts=True)
    return "+".join(names[counts >= _MAIN * counts.sum()].tolist())


def _scorer(pool: Pool, cache: PromptCache, held: LeftOutGroups, settings: EvidenceSettings, seed: int) -> PromptScorer:
    seen = np.flatnonzero(~np.isin(pool.groups, held.campaigns + held.sources))
    return train(lessons(pool, seen, cache, settings).examples, settings, seed=seed)


def _large_enough(pool: Pool, groups: Sequence[str]) -> list[str]:
    names, counts = np.unique(pool.groups, return_counts=True)
    return sorted(set(groups) & set(names[counts >= _MIN_PROMPTS].tolist()))
