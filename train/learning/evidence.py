"""Learn the prompt scorer, cross-fitted: what a session is learned from is scored as unseen traffic will be.

Campaigns are always scored by a scorer that never saw their group. Organic prompts are scored either by one that never
saw their source (as a new provider's will be) or by one that saw the source, but other people of it (as those of a
provider that adapted will be).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serve.features.prompt_scorer import HEADS, PromptInputs, PromptScorer
from serve.features.prompt_training import DenseExamples, Examples, TrainingSettings, train
from serve.sessions.canonical_text import canonical
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache


@dataclass(frozen=True, slots=True)
class EvidenceSettings(TrainingSettings):
    """How the prompt scorer is trained: the network's settings, prompts a group at most, parts for cross-fitting, and
    how many times its share a group that is `group_power` larger counts (0 counts all groups alike).

    With `known_organic`, benign traffic to judge is of the sources learned from, so sessions to learn from and to
    calibrate on are scored by scorers that saw their source; without it, by scorers that didn't, as a new provider's
    traffic will be. `n_sample` prompts are stored for `adapt`.
    """

    max_prompts: int = 3000
    n_parts: int = 4
    group_power: float = 0.0
    starter_weight: float = 1.0
    known_organic: bool = False
    n_sample: int = 5000


@dataclass(frozen=True)
class Lessons:
    """Prompts that a scorer may learn from: `row` (n,) of the pool, with group and examples."""

    row: NDArray[np.int64]
    group: NDArray[np.str_]
    examples: Examples


@dataclass(frozen=True)
class CrossScorers:
    """`scorers[k]` was trained without the prompts of part k; `part_of` (n_pool,) is the part of each prompt of the
    pool, -1 where no part left it out."""

    scorers: tuple[PromptScorer, ...]
    part_of: NDArray[np.int64]


@dataclass(frozen=True)
class CrossEvidence:
    """Scores for prompts of the pool: `whole` was trained with all lessons; `cross` scores each prompt by a scorer that
    never saw it, though it may know other people of an organic prompt's source (see `EvidenceSettings`)."""

    whole: PromptScorer
    sample: DenseExamples
    cross: CrossScorers

    def of(self, rows: NDArray[np.int64], inputs: PromptInputs) -> NDArray[np.float64]:
        """Scores of prompts `rows` of the pool, each from a scorer that never saw it."""
        found = np.zeros((len(rows), len(HEADS)))
        part_of = self.cross.part_of[rows]
        for part in np.unique(part_of):
            own = np.flatnonzero(part_of == part)
            scorer = self.whole if part < 0 else self.cross.scorers[part]
            found[own] = scorer.of(inputs.rows(own))
        return found

    def knowing_all(self) -> CrossEvidence:
        """The scorer that judges: every prompt is scored by the one that saw everything that is learned from."""
        return replace(self, cross=CrossScorers((), np.full_like(self.cross.part_of, -1)))


def lessons(pool: Pool, rows: NDArray[np.int64], cache: PromptCache, settings: EvidenceSettings) -> Lessons:
    """What is learned from: prompts of each group among `rows`, evenly drawn; evaluation prompts are left out."""
    groups, kinds = pool.groups, pool.kinds
    usable = rows[kinds[rows] != "evaluation"]
    owned = [usable[groups[usable] == name] for name in np.unique(groups[usable])]
    picked = [own[np.linspace(0, len(own) - 1, min(len(own), settings.max_prompts)).astype(np.int64)] for own in owned]
    row = np.concatenate(picked)
    found = cache.lookup([canonical(pool.texts[index]) for index in row])
    kind = np.array([HEADS.index(str(name)) for name in kinds[row]], dtype=np.int64)
    weight = _weights(groups[row], kind, pool.is_starter[row], settings)
    return Lessons(row, groups[row], Examples(PromptInputs.of(found.encoded), kind, weight))


def cross_evidence(pool: Pool, learned: Lessons, settings: EvidenceSettings, *, seed: int) -> CrossEvidence:
    """The scorer of all lessons, and those of all but a part."""
    whole = train(learned.examples, settings, seed=seed)
    part_of = _part_of_groups(pool, learned, settings.n_parts, seed)
    if settings.known_organic:
        part_of = _by_person(pool, learned, part_of, settings.n_parts, seed)
    cross = _crossed(learned, part_of, settings, seed)
    return CrossEvidence(whole, _sample(learned, whole, settings.n_sample, seed), cross)


def _by_person(pool: Pool, learned: Lessons, by_group: NDArray[np.int64], n_parts: int, seed: int) -> NDArray[np.int64]:
    """The same parts, but people of real organic sources dealt out one by one."""
    is_real = (pool.labels == "organic") & ~pool.is_starter
    person = np.random.default_rng(seed).integers(0, n_parts, int(pool.person.max(initial=0)) + 1)
    seen = np.zeros(len(pool), np.bool_)
    seen[learned.row] = True
    # People that nothing is learned from (those to calibrate on) are scored as judged traffic is: by the whole.
    return np.where(is_real, np.where(_people_seen(pool, seen), person[pool.person], -1), by_group)


def _crossed(learned: Lessons, part_of: NDArray[np.int64], settings: EvidenceSettings, seed: int) -> CrossScorers:
    own = part_of[learned.row]
    scorers = [
        train(_chosen(learned.examples, np.flatnonzero(own != part)), settings, seed=seed)
        for part in range(settings.n_parts)
    ]
    return CrossScorers(tuple(scorers), part_of)


def _chosen(examples: Examples, rows: NDArray[np.int64]) -> Examples:
    """Some examples, with the three kinds in balance again."""
    kind, weight = examples.kind[rows], examples.weight[rows].copy()
    for own in (kind == head for head in range(len(HEADS))):
        weight[own] /= max(float(weight[own].sum()), 1e-12)
    return Examples(examples.inputs.rows(rows), kind, weight)


def _weights(
    groups: NDArray[np.str_], kind: NDArray[np.int64], starter: NDArray[np.bool_], settings: EvidenceSettings
) -> NDArray[np.float64]:
    """Chance of each prompt to be drawn: by its group's, and every kind the same in all."""
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weight = (counts**settings.group_power / counts)[inverse] * np.where(starter, settings.starter_weight, 1.0)
    for own in (kind == head for head in range(len(HEADS))):
        weight[own] /= max(float(weight[own].sum()), 1e-12)
    return np.asarray(weight)


def _part_of_groups(pool: Pool, learned: Lessons, n_parts: int, seed: int) -> NDArray[np.int64]:
    """A part for each prompt of the pool by its group, kinds spread evenly; -1 where nothing of it is learned from."""
    rng = np.random.default_rng(seed)
    names, first = np.unique(learned.group, return_index=True)
    kind = learned.examples.kind[first]
    part = np.zeros(len(names), dtype=np.int64)
    for head in range(len(HEADS)):
        members = np.flatnonzero(kind == head)
        part[rng.permutation(members)] = np.arange(len(members)) % n_parts
    codes = dict(zip(names.tolist(), part.tolist(), strict=True))
    return np.array([codes.get(source.group, -1) for source in pool.sources], dtype=np.int64)[pool.source]


def _people_seen(pool: Pool, seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether anything of the person behind each prompt is learned from."""
    return np.asarray(np.bincount(pool.person, weights=seen) > 0)[pool.person]


def _sample(learned: Lessons, scorer: PromptScorer, n: int, seed: int) -> DenseExamples:
    """Some lessons as the scorer's hidden layer reads them, drawn by weight without replacement; they count alike."""
    examples = learned.examples
    chance = examples.weight / examples.weight.sum()
    n = min(n, int((chance > 0).sum()))
    rows = np.sort(np.random.default_rng(seed).choice(len(chance), size=n, replace=False, p=chance))
    drawn = Examples(examples.inputs.rows(rows), examples.kind[rows], np.ones(n))
    return DenseExamples.of(drawn, scorer)
