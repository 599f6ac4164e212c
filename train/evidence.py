"""Learn evidence: ridge heads over single prompts, cross-fitted by group so that training prompts are weighed as
unseen ones will be. Gram matrices add up over groups, so leaving groups out costs one solve and no second pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.encoder import SCALE
from serve.evidence import HEADS, LEVELS, N_LENGTHS, Evidence, EvidenceInputs
from serve.surface import canonical
from serve.words import LEVEL_UNIT, commonest
from train.cache import PromptCache
from train.pool import Pool

_HEAD_KINDS = {"harvest": "harvest", "person": "person", "product": "product"}
# How strongly each kind of input counts against the ridge penalty, chosen on inner folds (see RESEARCH.md).
_VECTOR, _KERNEL, _LENGTH, _WORD = 4.0 / SCALE, 4.0 / LEVELS, 1.0, 0.5 / LEVEL_UNIT
_MAX_WEIGHT = 2**20


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """Ridge strength (share of the mean eigenvalue), prompts a group at most, and parts for cross-fitting.

    With `known_organic`, benign traffic to judge is of the sources learned from, so organic prompts are weighed by
    heads that saw their source; without it, organic sources too are left out in turn.
    """

    ridge: float = 0.05
    n_words: int = 600
    max_prompts: int = 3000
    n_parts: int = 2
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

    `part_of` (n_pool,) is the part of each prompt of the pool; `whole` was learned from all of them.
    """

    whole: Evidence
    parts: tuple[Evidence, ...]
    part_of: NDArray[np.int64]

    def of(self, rows: NDArray[np.int64], inputs: EvidenceInputs) -> NDArray[np.float64]:
        """Evidence of prompts `rows` of the pool, each from heads that never saw its group."""
        found = np.zeros((len(rows), len(HEADS)))
        part_of = self.part_of[rows]
        for part in np.unique(part_of):
            own = part_of == part
            evidence = self.whole if part < 0 else self.parts[part]
            found[own] = evidence.of(inputs.rows(own))
        return found


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
    moments = [_moment(_inputs(cache, own, vocabulary), scales) for own in texts]
    own_kinds = tuple(str(kinds[own[0]]) for own in owned)
    counts = np.array([len(own) for own in owned])
    return GroupGrams(tuple(names), own_kinds, counts, vocabulary, scales, np.stack(moments))


def cross_evidence(pool: Pool, grams: GroupGrams, settings: EvidenceSettings, *, seed: int) -> CrossEvidence:
    """Heads from all groups, and for each part of the groups heads without them."""
    part_of_group = _parts(grams, settings.n_parts, seed)
    members = [solve(grams, part_of_group != part, settings) for part in range(settings.n_parts)]
    if settings.known_organic:
        part_of_group[np.array(grams.kinds) != "harvest"] = -1
    codes = dict(zip(grams.groups, part_of_group.tolist(), strict=True))
    part_of = np.array([codes.get(source.group, -1) for source in pool.sources], dtype=np.int64)[pool.source]
    return CrossEvidence(solve(grams, np.ones(len(grams.groups), bool), settings), tuple(members), part_of)


def solve(grams: GroupGrams, used: NDArray[np.bool_], settings: EvidenceSettings) -> Evidence:
    """Ridge regression of +1/-1 targets on the inputs of the `used` groups, every kind with the same weight."""
    weights = _group_weights(grams, used, settings)
    moments = np.zeros(grams.moments.shape[1:])
    for group in np.flatnonzero(weights):
        moments += weights[group] * grams.moments[group]
    n_inputs = len(moments) - 1
    penalty = np.full(n_inputs + 1, settings.ridge * np.trace(moments[:-1, :-1]) / n_inputs)
    penalty[-1] = 1e-9
    means = grams.moments[:, -1, :].astype(np.float64)
    goals = [
        np.array([1.0 if kind == _HEAD_KINDS[head] else -1.0 for kind in grams.kinds]) * weights @ means
        for head in HEADS
    ]
    solution = np.linalg.solve(moments + np.diag(penalty), np.stack(goals, axis=1))
    return _quantised(grams.vocabulary, solution[:-1] * grams.scales[:, None], solution[-1])


def _quantised(vocabulary: tuple[str, ...], weights: NDArray[np.float64], intercepts: NDArray[np.float64]) -> Evidence:
    scales = np.maximum(np.abs(weights).max(axis=0), 1e-12) / _MAX_WEIGHT
    return Evidence(vocabulary, np.rint(weights / scales).astype(np.int32), scales, intercepts)


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


def _moment(inputs: EvidenceInputs, scales: NDArray[np.float64]) -> NDArray[np.float32]:
    """Mean outer product of the scaled inputs of these prompts, an intercept last."""
    columns = [inputs.vectors, inputs.kernel, np.eye(N_LENGTHS)[inputs.length], inputs.words.toarray()]
    scaled = np.concatenate([np.asarray(c, np.float32) for c in columns], axis=1) * scales.astype(np.float32)
    extended = np.concatenate([scaled, np.ones((len(scaled), 1), np.float32)], axis=1)
    return np.asarray(extended.T @ extended / len(extended), dtype=np.float32)
