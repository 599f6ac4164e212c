"""Evidence: ridge heads over single prompts, cross-fitted by group so that training prompts are weighed as
unseen ones will be. Gram matrices add up over groups, so leaving groups out costs one solve and no second pass."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serve.embedding.encoders import SCALE
from serve.features.prompt_scorer import HEADS, LEVELS, N_LENGTHS, Evidence, EvidenceInputs
from serve.features.word_frequencies import LEVEL_UNIT, commonest
from serve.model import ridge
from serve.model.ridge import Moments, moment
from serve.sessions.normalization import canonical
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache

# How strongly each kind of input counts against the ridge penalty, chosen on inner folds (see RESEARCH.md).
_VECTOR, _KERNEL, _LENGTH, _WORD = 4.0 / SCALE, 4.0 / LEVELS, 1.0, 0.5 / LEVEL_UNIT


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """Ridge strength (share of the mean eigenvalue), prompts a group at most, and parts for cross-fitting.

    With `known_organic`, benign traffic to judge is of the sources learned from, so what is calibrated on is weighed by
    heads that saw its source; without it, by heads that didn't, as a new provider's traffic will be.
    """

    ridge: float = 0.05
    n_words: int = 600
    max_prompts: int = 3000
    n_parts: int = 4
    starter_weight: float = 0.5
    known_organic: bool = False


@dataclass(frozen=True)
class GroupGrams:
    """Second moments of the inputs of each group's prompts: `moments` (n_groups, n_inputs + 1, n_inputs + 1), with the
    intercept last, divided by the number of prompts."""

    groups: tuple[str, ...]
    kinds: tuple[str, ...]
    n_prompts: NDArray[np.int64]
    vocabulary: tuple[str, ...]
    scales: NDArray[np.float64]
    moments: NDArray[np.float32]


@dataclass(frozen=True)
class CrossEvidence:
    """Evidence for prompts of the pool: `parts[k]` was learned without the groups of part k.

    `part_of` (n_pool,) is the part of each prompt of the pool, -1 for `whole`, which was learned from all of them, by
    `moments`; `is_real` (n_pool,) says what real people or products sent.
    """

    whole: Evidence
    moments: Moments
    parts: tuple[Evidence, ...]
    part_of: NDArray[np.int64]
    is_real: NDArray[np.bool_]

    def of(self, rows: NDArray[np.int64], inputs: EvidenceInputs) -> NDArray[np.float64]:
        """Evidence of prompts `rows` of the pool, each from heads that never saw its group."""
        found = np.zeros((len(rows), len(HEADS)))
        part_of = self.part_of[rows]
        for part in np.unique(part_of):
            own = part_of == part
            evidence = self.whole if part < 0 else self.parts[part]
            found[own] = evidence.of(inputs.rows(own))
        return found

    def knowing_organic(self) -> CrossEvidence:
        """The same, with organic prompts weighed by heads that saw their source, as those of judged traffic will be
        where it is known; but those of the starter corpus, whose few sources would be known by heart."""
        return replace(self, part_of=np.where(self.is_real, -1, self.part_of))

    def knowing_all(self) -> CrossEvidence:
        """The heads that judge: every prompt is weighed by those that saw everything that is learned from."""
        return replace(self, part_of=np.full_like(self.part_of, -1))


def group_grams(pool: Pool, rows: NDArray[np.int64], cache: PromptCache, settings: EvidenceSettings) -> GroupGrams:
    """Second moments of each group among `rows`; evaluation prompts are left out."""
    groups, kinds = pool.groups, pool.kinds
    usable = rows[kinds[rows] != "evaluation"]
    names = [str(name) for name in np.unique(groups[usable])]
    owned = [usable[groups[usable] == name] for name in names]
    picked = [own[np.linspace(0, len(own) - 1, min(len(own), settings.max_prompts)).astype(np.int64)] for own in owned]
    texts = [[canonical(pool.texts[row]) for row in own] for own in picked]
    vocabulary = commonest((text for own in texts for text in own), settings.n_words)
    scales = _scales(cache, len(vocabulary))
    moments = [moment(_inputs(cache, own, vocabulary), scales) for own in texts]
    own_kinds = tuple(str(kinds[own[0]]) for own in owned)
    counts = np.array([len(own) for own in owned])
    return GroupGrams(tuple(names), own_kinds, counts, vocabulary, scales, np.stack(moments))


def cross_evidence(pool: Pool, grams: GroupGrams, settings: EvidenceSettings, *, seed: int) -> CrossEvidence:
    """Heads from all groups, and for each part of the groups heads without them."""
    part_of_group = _parts(grams, settings.n_parts, seed)
    members = [solve(grams, part_of_group != part, settings) for part in range(settings.n_parts)]
    codes = dict(zip(grams.groups, part_of_group.tolist(), strict=True))
    part_of = np.array([codes.get(source.group, -1) for source in pool.sources], dtype=np.int64)[pool.source]
    is_real = (pool.labels == "organic") & ~pool.is_starter
    moments = weighted(grams, np.ones(len(grams.groups), bool), settings)
    return CrossEvidence(ridge.solve(moments), moments, tuple(members), part_of, is_real)


def solve(grams: GroupGrams, used: NDArray[np.bool_], settings: EvidenceSettings) -> Evidence:
    """Heads of the `used` groups alone."""
    return ridge.solve(weighted(grams, used, settings))


def weighted(grams: GroupGrams, used: NDArray[np.bool_], settings: EvidenceSettings) -> Moments:
    """Moments of the `used` groups together, every kind with the same weight."""
    weights = _group_weights(grams, used, settings)
    second = np.zeros(grams.moments.shape[1:])
    for group in np.flatnonzero(weights):
        second += weights[group] * grams.moments[group]
    means = grams.moments[:, -1, :].astype(np.float64)
    goals = [np.array([1.0 if kind == head else -1.0 for kind in grams.kinds]) * weights @ means for head in HEADS]
    return Moments(grams.vocabulary, grams.scales, second, np.stack(goals, axis=1), settings.ridge)


def _group_weights(grams: GroupGrams, used: NDArray[np.bool_], settings: EvidenceSettings) -> NDArray[np.float64]:
    """Square roots of group sizes, starter groups turned down, scaled so that every kind weighs the same."""
    kinds = np.array(grams.kinds)
    starter = np.array([name.startswith("starter/") for name in grams.groups])
    weights = np.sqrt(np.minimum(grams.n_prompts, 3000)) * np.where(starter, settings.starter_weight, 1.0) * used
    for kind in np.unique(kinds):
        total = weights[kinds == kind].sum()
        weights[kinds == kind] /= max(total, 1e-12)
    return np.asarray(weights / max(weights.sum(), 1e-12))


def _parts(grams: GroupGrams, n_parts: int, seed: int) -> NDArray[np.int64]:
    """A part for each group, kinds spread evenly."""
    rng = np.random.default_rng(seed)
    part_of = np.zeros(len(grams.groups), dtype=np.int64)
    for kind in np.unique(grams.kinds):
        members = np.flatnonzero(np.array(grams.kinds) == kind)
        part_of[rng.permutation(members)] = np.arange(len(members)) % n_parts
    return part_of


def _scales(cache: PromptCache, n_words: int) -> NDArray[np.float64]:
    """Factor of each input, in the order of the weights."""
    counts = (cache.encoder.n_dims, len(cache.capabilities.cells), N_LENGTHS, n_words)
    return np.repeat([_VECTOR, _KERNEL, _LENGTH, _WORD], counts)


def _inputs(cache: PromptCache, texts: list[str], vocabulary: tuple[str, ...]) -> EvidenceInputs:
    found = cache.lookup(texts)
    return EvidenceInputs.of(found.vectors, found.assigned.cell_cosines, texts, vocabulary)
