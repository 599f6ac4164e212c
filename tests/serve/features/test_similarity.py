"""Cosines of a session's prompts: closed forms for identical and orthogonal prompts, exactness, and order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from serve.embedding.encoders import quantise
from serve.features import similarity as geometry

SIDE = 254 // 2  # four entries of this size make a vector of length exactly SCALE


def identical(n: int) -> NDArray[np.float32]:
    """The Gram matrix of n equal prompts."""
    return geometry.gram(np.full((1, n, 4), SIDE, np.int8))


def orthogonal(n: int) -> NDArray[np.float32]:
    """The Gram matrix of n prompts that have nothing in common, each of length exactly SCALE."""
    vectors = np.zeros((1, n, 4 * n), np.int8)
    for row in range(n):
        vectors[0, row, 4 * row : 4 * row + 4] = SIDE
    return geometry.gram(vectors)


def drawn(seed: int, n: int, n_sessions: int = 1) -> NDArray[np.int8]:
    return quantise(np.random.default_rng(seed).normal(size=(n_sessions * n, 48))).reshape(n_sessions, n, 48)


def test_grams_are_exact_integers_whatever_the_block() -> None:
    vectors = drawn(0, 30, 7)
    exact = vectors.astype(np.int64) @ vectors.astype(np.int64).transpose(0, 2, 1)
    assert (geometry.gram(vectors) == exact).all()
    assert all((geometry.gram(vectors[[index]])[0] == exact[index]).all() for index in range(7))


@pytest.mark.parametrize("n", [2, 3, 10])
def test_identical_prompts_have_similarity_1_and_one_direction(n: int) -> None:
    products = identical(n)
    assert geometry.pair_mean(products)[0] == 1.0
    assert geometry.consecutive_mean(products)[0] == 1.0
    assert (geometry.nearest(products) == geometry.UNIT).all()
    assert geometry.pair_quantiles(products, (0.0, 0.5, 0.99)).tolist() == [[1.0, 1.0, 1.0]]
    assert geometry.effective_rank(products)[0] == pytest.approx(1 / n)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_orthogonal_prompts_have_similarity_0_and_all_directions(n: int) -> None:
    products = orthogonal(n)
    assert geometry.pair_mean(products)[0] == 0.0
    assert geometry.consecutive_mean(products)[0] == 0.0
    assert (geometry.nearest(products) == 0.0).all()
    assert geometry.effective_rank(products)[0] == pytest.approx(1.0)


def test_two_topics_of_equal_size_have_rank_two() -> None:
    products = np.kron(np.eye(2), np.ones((5, 5)))[None].astype(np.float32) * np.float32(geometry.UNIT)
    assert geometry.effective_rank(products)[0] == pytest.approx(2 / 10)


def test_one_prompt_has_no_pair() -> None:
    products = geometry.gram(drawn(0, 1))
    assert geometry.pair_mean(products).tolist() == [0.0]
    assert geometry.consecutive_mean(products).tolist() == [0.0]
    assert geometry.nearest(products).tolist() == [[0.0]]
    assert geometry.pair_quantiles(products, (0.1, 0.9)).tolist() == [[0.0, 0.0]]
    assert geometry.effective_rank(products)[0] == pytest.approx(1.0)


def test_prompts_without_known_words_stay_finite() -> None:
    products = geometry.gram(np.zeros((2, 5, 16), np.int8))
    assert geometry.effective_rank(products).tolist() == [1.0, 1.0]
    assert geometry.pair_mean(products).tolist() == [0.0, 0.0]


@given(st.integers(0, 500), st.integers(2, 20))
def test_measures_agree_with_a_plain_loop(seed: int, n: int) -> None:
    vectors = drawn(seed, n)
    cosines = (vectors[0].astype(np.int64) @ vectors[0].astype(np.int64).T) / geometry.UNIT
    pairs = sorted(cosines[i, j] for i in range(n) for j in range(i + 1, n))
    products = geometry.gram(vectors)
    assert geometry.pair_mean(products)[0] == pytest.approx(np.mean(pairs))
    assert geometry.consecutive_mean(products)[0] == pytest.approx(np.mean([cosines[i, i + 1] for i in range(n - 1)]))
    nearest = [max(cosines[i, j] for j in range(n) if j != i) for i in range(n)]
    assert geometry.nearest(products)[0] / geometry.UNIT == pytest.approx(nearest)
    assert geometry.pair_quantiles(products, (0.5,))[0, 0] == pytest.approx(pairs[len(pairs) // 2])
    spectrum = np.linalg.eigvalsh(cosines)
    assert geometry.effective_rank(products)[0] == pytest.approx(spectrum.sum() ** 2 / (spectrum**2).sum() / n)


@given(st.integers(0, 500), st.integers(2, 20))
def test_what_knows_no_order_is_the_same_to_the_last_bit_when_prompts_are_shuffled(seed: int, n: int) -> None:
    products = geometry.gram(drawn(seed, n))
    order = np.random.default_rng(seed).permutation(n)[None]
    shuffled = geometry.reordered(products, order)
    assert (shuffled == geometry.gram(drawn(seed, n)[:, order[0]])).all()
    for measure in (geometry.pair_mean, geometry.effective_rank):
        assert (measure(products) == measure(shuffled)).all()
    assert (geometry.pair_quantiles(products, (0.1, 0.9)) == geometry.pair_quantiles(shuffled, (0.1, 0.9))).all()


def test_quantiles_are_values_that_occur() -> None:
    values = np.array([[5.0, 1.0, 4.0, 2.0, 3.0]])
    assert geometry.quantiles(values, (0.0, 0.2, 0.5, 0.99, 1.0)).tolist() == [[1.0, 2.0, 3.0, 5.0, 5.0]]


@given(st.integers(0, 500), st.integers(2, 12), st.data())
def test_split_distance_is_the_distance_of_means(seed: int, n: int, data: st.DataObject) -> None:
    vectors, k = drawn(seed, n), data.draw(st.integers(1, n - 1))
    unit = vectors[0] / 254.0
    expected = np.sum((unit[:k].mean(axis=0) - unit[k:].mean(axis=0)) ** 2)
    assert geometry.split_distance(geometry.gram(vectors), k)[0] == pytest.approx(expected)


def test_a_split_of_all_or_nothing_has_no_distance() -> None:
    products = identical(4)
    assert [geometry.split_distance(products, k)[0] for k in (0, 4, 2)] == [0.0, 0.0, 0.0]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=20))
def test_blocks_hold_every_session_once_with_all_its_prompts(sizes: list[int]) -> None:
    offsets = np.cumsum([0, *sizes])
    seen = [
        (int(session), rows.tolist())
        for block in geometry.blocks(offsets)
        for session, rows in zip(block.session, block.rows, strict=True)
    ]
    assert sorted(seen) == [(index, list(range(offsets[index], offsets[index + 1]))) for index in range(len(sizes))]


@pytest.mark.parametrize(("n", "step"), [(1, 1), (256, 1), (257, 2), (512, 2), (513, 4), (773, 4), (20_000, 128)])
def test_of_a_long_session_every_second_or_fourth_prompt_is_compared(n: int, step: int) -> None:
    (block,) = geometry.blocks(np.array([0, n]))
    assert block.rows[0].tolist() == list(range(0, n, step))
    assert len(block.rows[0]) <= geometry.MAX_PROMPTS


def test_a_session_that_grows_compares_what_it_compared_before_or_every_second_of_that() -> None:
    before: set[int] = set()
    for n in range(1, 1200):
        now = set(next(iter(geometry.blocks(np.array([0, n])))).rows[0].tolist())
        assert now <= before | {n - 1}
        before = now


@given(st.integers(1, 30_000))
def test_every_prompt_that_is_compared_is_scored_too(n: int) -> None:
    compared, scored = (
        next(iter(geometry.blocks(np.array([0, n]), limit))).rows[0]
        for limit in (geometry.MAX_PROMPTS, geometry.MAX_SCORED)
    )
    assert len(scored) == min(n, len(scored)) <= geometry.MAX_SCORED
    assert scored[:: -(-len(scored) // len(compared))].tolist() == compared.tolist()


@pytest.mark.parametrize(("n", "step"), [(1, 1), (257, 1), (1024, 1), (1025, 2), (2048, 2), (2049, 4), (20_000, 32)])
def test_of_a_session_of_more_than_a_thousand_prompts_some_are_scored(n: int, step: int) -> None:
    (block,) = geometry.blocks(np.array([0, n]), geometry.MAX_SCORED)
    assert block.rows[0].tolist() == list(range(0, n, step))


def test_blocks_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "_MAX_BLOCK_CELLS", 500)
    blocks = list(geometry.blocks(np.arange(0, 301, 10)))
    assert [len(block.session) for block in blocks] == [5] * 6
