"""Scores of what is learned from: by scorers that never saw a prompt's group or person, kinds and groups in balance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from serve.features.prompt_scorer import HEADS, PromptInputs, PromptScorer
from serve.features.prompt_training import DenseExamples, Examples, TrainingSettings
from serve.sessions.canonical_text import canonical
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.learning import evidence as module
from train.learning.evidence import CrossEvidence, EvidenceSettings, Lessons, cross_evidence, lessons

SETTINGS = EvidenceSettings(n_parts=3, n_columns=8, n_hidden=16, n_passes=20, rate=0.02, n_sample=300)
KNOWN = replace(SETTINGS, known_organic=True)


@pytest.fixture(scope="module")
def learned(pool: Pool, cache: PromptCache) -> Lessons:
    return lessons(pool, np.arange(len(pool)), cache, SETTINGS)


@pytest.fixture(scope="module")
def crossed(pool: Pool, learned: Lessons) -> CrossEvidence:
    return cross_evidence(pool, learned, SETTINGS, seed=0)


def inputs_of(pool: Pool, cache: PromptCache, rows: NDArray[np.int64]) -> PromptInputs:
    return PromptInputs.of(cache.lookup([canonical(pool.texts[row]) for row in rows]).encoded)


def same(one: PromptScorer, other: PromptScorer) -> bool:
    arrays = other.arrays()
    return all(np.array_equal(array, arrays[name]) for name, array in one.arrays().items())


@dataclass(frozen=True)
class Watched:
    """Cross-fitted evidence with the rows of the pool, and the weights, that each of its scorers was trained on."""

    evidence: CrossEvidence
    whole: NDArray[np.int64]
    cross: tuple[NDArray[np.int64], ...]
    examples: tuple[Examples, ...]


@pytest.fixture
def watch(
    pool: Pool, learned: Lessons, prompt_scorer: PromptScorer, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Watched]:
    """Cross-fits without training: each lesson carries its number in place of its class of length."""
    numbered = replace(learned.examples.inputs, length=np.arange(len(learned.row)))
    own = replace(learned, examples=replace(learned.examples, inputs=numbered))
    seen: list[tuple[PromptScorer, Examples]] = []

    def train(examples: Examples, settings: TrainingSettings, *, seed: int) -> PromptScorer:
        seen.append((replace(prompt_scorer), examples))
        return seen[-1][0]

    def cross_fitted(settings: EvidenceSettings = SETTINGS, learned: Lessons = own) -> Watched:
        seen.clear()
        monkeypatch.setattr(module, "train", train)
        found = cross_evidence(pool, learned, settings, seed=0)
        rows = {id(scorer): learned.row[examples.inputs.length] for scorer, examples in seen}
        return Watched(
            found, rows[id(found.whole)], tuple(rows[id(scorer)] for scorer in found.cross.scorers),
            tuple(examples for _, examples in seen),
        )  # fmt: skip

    return cross_fitted


def test_benchmarks_are_learned_from_as_nothing(pool: Pool, learned: Lessons) -> None:
    assert set(learned.group.tolist()) == set(pool.groups[pool.labels != "evaluation"].tolist())
    assert (pool.kinds[learned.row] != "evaluation").all()
    assert [HEADS[kind] for kind in learned.examples.kind] == pool.kinds[learned.row].tolist()
    assert learned.group.tolist() == pool.groups[learned.row].tolist()


def test_lessons_are_of_the_rows_that_may_be_learned_from(pool: Pool, cache: PromptCache) -> None:
    rows = np.flatnonzero(np.isin(pool.groups, ("katas", "forum", "shop", "bench")))
    found = lessons(pool, rows, cache, SETTINGS)
    assert set(found.row.tolist()) == set(rows[pool.kinds[rows] != "evaluation"].tolist())
    expected = inputs_of(pool, cache, found.row)
    assert np.array_equal(found.examples.inputs.vectors, expected.vectors)
    assert (found.examples.inputs.sequences != expected.sequences).nnz == 0


def test_of_a_large_group_prompts_from_its_first_to_its_last_are_learned(pool: Pool, cache: PromptCache) -> None:
    found = lessons(pool, np.arange(len(pool)), cache, replace(SETTINGS, max_prompts=50))
    for group in np.unique(found.group):
        own, all_of_it = found.row[found.group == group], np.flatnonzero(pool.groups == group)
        assert len(own) == len(set(own.tolist())) == min(50, len(all_of_it))
        assert (own[0], own[-1]) == (all_of_it[0], all_of_it[-1])
        assert np.ptp(np.diff(np.searchsorted(all_of_it, own))) <= 1


def test_kinds_count_alike_and_groups_within_a_kind(learned: Lessons) -> None:
    weight, kind = learned.examples.weight, learned.examples.kind
    for head in range(len(HEADS)):
        own = kind == head
        assert weight[own].sum() == pytest.approx(1.0)
        sums = np.array([weight[own & (learned.group == name)].sum() for name in np.unique(learned.group[own])])
        assert sums == pytest.approx(1.0 / len(sums))


def test_larger_groups_count_more_and_starters_less_where_settings_ask_for_it(pool: Pool, cache: PromptCache) -> None:
    settings = replace(SETTINGS, group_power=0.5, starter_weight=0.2)
    found = lessons(pool, np.arange(len(pool)), cache, settings)
    for head, name in enumerate(HEADS):
        own = found.examples.kind == head
        names, counts = np.unique(found.group[own], return_counts=True)
        expected = np.sqrt(counts) * np.where(np.char.startswith(names, "starter/"), 0.2, 1.0)
        sums = [found.examples.weight[found.group == group].sum() for group in names]
        assert sums == pytest.approx(expected / expected.sum()), name


def test_no_prompt_is_scored_by_a_scorer_that_saw_its_group(pool: Pool, watch: Callable[..., Watched]) -> None:
    watched = watch()
    assert set(watched.whole.tolist()) == set(np.flatnonzero(pool.labels != "evaluation").tolist())
    part_of = watched.evidence.cross.part_of
    assert ((part_of >= 0) == (pool.labels != "evaluation")).all()
    for part, seen in enumerate(watched.cross):
        scored = set(pool.groups[part_of == part].tolist())
        assert scored
        assert scored.isdisjoint(pool.groups[seen].tolist())
        assert scored | set(pool.groups[seen].tolist()) == set(pool.groups[watched.whole].tolist())


def test_known_organic_prompts_are_scored_by_scorers_that_saw_their_source_but_not_their_person(
    pool: Pool, watch: Callable[..., Watched]
) -> None:
    watched = watch(KNOWN)
    part_of = watched.evidence.cross.part_of
    real = (pool.labels == "organic") & ~pool.is_starter
    for part, seen in enumerate(watched.cross):
        own = np.flatnonzero(part_of == part)
        assert set(pool.person[own].tolist()).isdisjoint(pool.person[seen].tolist())
        assert set(pool.groups[own[real[own]]].tolist()) <= set(pool.groups[seen].tolist())
        assert set(pool.groups[own[~real[own]]].tolist()).isdisjoint(pool.groups[seen].tolist())
    assert (part_of[pool.labels != "evaluation"] >= 0).all()
    assert np.array_equal(part_of[~real], watch().evidence.cross.part_of[~real])


def test_people_that_nothing_is_learned_from_are_scored_by_the_whole(
    pool: Pool, cache: PromptCache, watch: Callable[..., Watched]
) -> None:
    left_out = (pool.groups == "forum") & (pool.person % 3 == 0)
    assert left_out.any()
    found = watch(KNOWN, lessons(pool, np.flatnonzero(~left_out), cache, SETTINGS)).evidence.cross
    assert (found.part_of[left_out] == -1).all()
    assert (found.part_of[(pool.groups == "forum") & ~left_out] >= 0).all()


def test_every_scorer_learns_from_kinds_in_balance(watch: Callable[..., Watched]) -> None:
    for examples in watch().examples:
        sums = np.bincount(examples.kind, weights=examples.weight, minlength=len(HEADS))
        assert sums == pytest.approx(1.0)


def test_kinds_are_dealt_to_all_parts(pool: Pool, watch: Callable[..., Watched]) -> None:
    part_of = watch().evidence.cross.part_of
    for kind in HEADS:
        groups = np.unique(pool.groups[(pool.kinds == kind)])
        parts = [int(part_of[pool.groups == group][0]) for group in groups]
        assert np.ptp(np.bincount(parts, minlength=SETTINGS.n_parts)) <= 1


def test_sources_of_one_group_are_in_one_part(pool: Pool, crossed: CrossEvidence) -> None:
    assert len(set(crossed.cross.part_of[pool.groups == "maths"].tolist())) == 1


def test_scores_are_those_of_each_prompt_s_own_scorer(pool: Pool, cache: PromptCache, crossed: CrossEvidence) -> None:
    rows = np.random.default_rng(0).permutation(len(pool))
    inputs = inputs_of(pool, cache, rows)
    scores = crossed.of(rows, inputs)
    for place in (0, 7, *np.flatnonzero(pool.labels[rows] == "evaluation")[:3]):
        part = crossed.cross.part_of[rows[place]]
        scorer = crossed.whole if part < 0 else crossed.cross.scorers[part]
        assert np.array_equal(scores[place], scorer.of(inputs.rows(np.array([place])))[0])
    assert np.array_equal(crossed.knowing_all().of(rows, inputs), crossed.whole.of(inputs))


def test_campaigns_left_out_are_told_from_organic_prompts(
    pool: Pool, cache: PromptCache, crossed: CrossEvidence
) -> None:
    rows = np.flatnonzero(pool.labels != "evaluation")
    is_task = pool.kinds[rows] == "harvest"
    for own in (crossed, crossed.knowing_all()):
        harvest = own.of(rows, inputs_of(pool, cache, rows))[:, HEADS.index("harvest")]
        assert np.median(harvest[is_task]) > 0.3 > -0.3 > np.median(harvest[~is_task])


def test_a_group_left_out_has_no_say(pool: Pool, learned: Lessons, crossed: CrossEvidence) -> None:
    inputs = learned.examples.inputs
    turned = np.where((learned.group == "katas")[:, None], -inputs.vectors, inputs.vectors)
    poisoned = replace(learned, examples=replace(learned.examples, inputs=replace(inputs, vectors=turned)))
    other = cross_evidence(pool, poisoned, SETTINGS, seed=0)
    part = int(crossed.cross.part_of[pool.groups == "katas"][0])
    equal = [same(one, another) for one, another in zip(crossed.cross.scorers, other.cross.scorers, strict=True)]
    assert equal == [index == part for index in range(SETTINGS.n_parts)]
    assert not same(crossed.whole, other.whole)


def test_the_same_seed_learns_the_same_scorers(pool: Pool, learned: Lessons, crossed: CrossEvidence) -> None:
    again = cross_evidence(pool, learned, SETTINGS, seed=0)
    assert same(again.whole, crossed.whole)
    assert np.array_equal(again.cross.part_of, crossed.cross.part_of)
    assert all(same(one, other) for one, other in zip(again.cross.scorers, crossed.cross.scorers, strict=True))
    for name, array in again.sample.arrays().items():
        assert np.array_equal(array, crossed.sample.arrays()[name])


def test_the_stored_sample_is_of_lessons_as_the_whole_reads_them(learned: Lessons, crossed: CrossEvidence) -> None:
    sample, all_of_it = crossed.sample, DenseExamples.of(learned.examples, crossed.whole)
    assert len(sample.dense) == SETTINGS.n_sample
    assert (sample.weight == 1.0).all()

    def keys(examples: DenseExamples) -> list[bytes]:
        columns = (examples.dense, examples.length[:, None], examples.kind[:, None])
        return [row.tobytes() for row in np.concatenate(columns, axis=1)]

    assert set(keys(sample)) <= set(keys(all_of_it))
    assert np.bincount(sample.kind) / len(sample.kind) == pytest.approx(1 / 3, abs=0.1)


def test_a_sample_larger_than_what_was_learned_is_all_of_it(learned: Lessons, watch: Callable[..., Watched]) -> None:
    assert len(watch(replace(SETTINGS, n_sample=10**6)).evidence.sample.dense) == len(learned.row)
