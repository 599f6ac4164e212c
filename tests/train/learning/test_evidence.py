"""Evidence is learned by exact sums, weighs a prompt with heads that never saw its group, and tells kinds apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from serve.features.word_frequencies import words

from serve.features.prompt_scorer import HEADS, EvidenceInputs
from serve.sessions.canonical_text import canonical
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.learning.evidence import CrossEvidence, EvidenceSettings, GroupGrams, cross_evidence, group_grams, solve

SETTINGS = EvidenceSettings(n_parts=3, n_words=40)


@pytest.fixture(scope="module")
def grams(pool: Pool, cache: PromptCache) -> GroupGrams:
    return group_grams(pool, np.arange(len(pool)), cache, SETTINGS)


@pytest.fixture(scope="module")
def crossed(pool: Pool, grams: GroupGrams) -> CrossEvidence:
    return cross_evidence(pool, grams, SETTINGS, seed=0)


def inputs_of(pool: Pool, cache: PromptCache, rows: np.ndarray, vocabulary: tuple[str, ...]) -> EvidenceInputs:
    texts = [canonical(pool.texts[row]) for row in rows]
    found = cache.lookup(texts)
    return EvidenceInputs.of(found.vectors, found.assigned.cell_cosines, texts, vocabulary)


def weigh(crossed: CrossEvidence, pool: Pool, cache: PromptCache, rows: np.ndarray) -> np.ndarray:
    return crossed.of(rows, inputs_of(pool, cache, rows, crossed.whole.vocabulary))


def test_moments_are_those_of_the_inputs_with_an_intercept(pool: Pool, cache: PromptCache, grams: GroupGrams) -> None:
    for index, group in enumerate(grams.groups):
        own = np.flatnonzero(pool.groups == group)
        inputs = inputs_of(pool, cache, own, grams.vocabulary)
        moments = grams.moments[index].astype(np.float64)
        n_dims, n_words = inputs.vectors.shape[1], len(grams.vocabulary)
        assert moments[-1, -1] == pytest.approx(1.0)
        means = moments[-1, :-1] / grams.scales
        assert means[:n_dims] == pytest.approx(inputs.vectors.mean(axis=0), abs=0.01)
        assert means[-n_words:] == pytest.approx(inputs.words.toarray().mean(axis=0), abs=0.01)
        assert moments == pytest.approx(moments.T, abs=1e-6)
        assert grams.n_prompts[index] == len(own)


def test_the_vocabulary_is_of_the_prompts_that_are_learned_from(pool: Pool, cache: PromptCache) -> None:
    learned = np.flatnonzero(np.isin(pool.groups, ("katas", "forum")))
    vocabulary = group_grams(pool, learned, cache, replace(SETTINGS, n_words=10_000)).vocabulary
    assert set(vocabulary) == {word for row in learned for word in words(canonical(pool.texts[row]))}
    assert "helpdesk" not in vocabulary


def test_benchmarks_are_learned_from_as_nothing(pool: Pool, grams: GroupGrams) -> None:
    assert set(grams.groups) == set(pool.groups[pool.labels != "evaluation"].tolist())
    assert "evaluation" not in grams.kinds


def test_heads_tell_tasks_from_talk_and_agree_with_a_dense_ridge(
    pool: Pool, cache: PromptCache, crossed: CrossEvidence
) -> None:
    rows = np.flatnonzero(pool.labels != "evaluation")
    harvest = weigh(crossed, pool, cache, rows)[:, HEADS.index("harvest")]
    is_task = pool.kinds[rows] == "harvest"
    assert harvest[is_task].mean() > 0.3 > -0.3 > harvest[~is_task].mean()


def test_a_group_s_prompts_are_weighed_by_heads_that_never_saw_it(
    pool: Pool, cache: PromptCache, grams: GroupGrams, crossed: CrossEvidence
) -> None:
    for group in ("katas", "forum", "shop"):
        rows = np.flatnonzero(pool.groups == group)
        part = int(crossed.part_of[rows[0]])
        assert (crossed.part_of[rows] == part).all()
        unseen = {name for name in grams.groups if crossed.part_of[np.flatnonzero(pool.groups == name)[0]] == part}
        alone = solve(grams, np.array([name not in unseen for name in grams.groups]), SETTINGS)
        expected = alone.of(inputs_of(pool, cache, rows, grams.vocabulary))
        assert np.array_equal(weigh(crossed, pool, cache, rows), expected)


def test_a_group_left_out_has_no_say(grams: GroupGrams) -> None:
    used = np.array([name != "katas" for name in grams.groups])
    poisoned = grams.moments.copy()
    poisoned[grams.groups.index("katas")] *= 1e3
    plain, other = solve(grams, used, SETTINGS), solve(replace(grams, moments=poisoned), used, SETTINGS)
    assert np.array_equal(plain.weights, other.weights)
    assert np.array_equal(plain.intercepts, other.intercepts)


def test_sources_of_one_group_are_in_one_part(pool: Pool, crossed: CrossEvidence) -> None:
    assert len(set(crossed.part_of[pool.groups == "maths"].tolist())) == 1


def test_prompts_of_no_learned_group_are_weighed_by_the_whole(
    pool: Pool, cache: PromptCache, crossed: CrossEvidence
) -> None:
    rows = np.flatnonzero(pool.labels == "evaluation")
    assert (crossed.part_of[rows] == -1).all()
    expected = crossed.whole.of(inputs_of(pool, cache, rows, crossed.whole.vocabulary))
    assert np.array_equal(weigh(crossed, pool, cache, rows), expected)


def test_the_same_seed_learns_the_same_weights(pool: Pool, grams: GroupGrams, crossed: CrossEvidence) -> None:
    again = cross_evidence(pool, grams, SETTINGS, seed=0)
    assert np.array_equal(again.whole.weights, crossed.whole.weights)
    assert np.array_equal(again.part_of, crossed.part_of)
    assert all(
        np.array_equal(one.weights, other.weights) for one, other in zip(again.parts, crossed.parts, strict=True)
    )


def test_weights_are_whole_numbers_that_keep_serving_exact(crossed: CrossEvidence) -> None:
    for evidence in (crossed.whole, *crossed.parts):
        assert np.issubdtype(evidence.weights.dtype, np.integer)
        n_inputs = len(evidence.weights)
        assert int(np.abs(evidence.weights.astype(np.int64)).max()) * 127 * n_inputs < 2**53


def test_a_stronger_ridge_makes_smaller_weights(grams: GroupGrams) -> None:
    used = np.ones(len(grams.groups), bool)
    sizes = [
        np.abs(evidence.weights * evidence.scales).sum()
        for evidence in (solve(grams, used, replace(SETTINGS, ridge=ridge)) for ridge in (0.001, 0.1, 10.0))
    ]
    assert sizes == sorted(sizes, reverse=True)


def test_known_organic_prompts_are_weighed_by_heads_that_saw_their_source(pool: Pool, crossed: CrossEvidence) -> None:
    known = crossed.knowing_organic()
    real = (pool.labels == "organic") & ~pool.is_starter
    assert (known.part_of[real] == -1).all()
    assert np.array_equal(known.part_of[~real], crossed.part_of[~real])
    assert (known.part_of[pool.labels == "harvesting"] >= 0).all()
    assert (crossed.knowing_all().part_of == -1).all()
