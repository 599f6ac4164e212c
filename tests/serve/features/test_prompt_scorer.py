"""The prompt scorer: closed forms of a tiny network, exact in any batch, and what is read of a prompt."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from serve.embedding.encoders import Encoded, Encoder, StaticEncoder
from serve.features.prompt_scorer import (
    HEAD_TOKENS,
    HEADS,
    LENGTH_EDGES,
    LIMIT,
    N_BUCKETS,
    N_LENGTHS,
    TAIL_TOKENS,
    PromptInputs,
    PromptScorer,
)
from serve.scoring.scorer import Scorer
from tests.conftest import WORDS

N_HEADS = len(HEADS)
MAX_TOKENS = HEAD_TOKENS + TAIL_TOKENS

texts = st.lists(st.sampled_from([*WORDS, "xyzzy", "7"]), max_size=20).map(" ".join)


def inputs_by_hand(
    *, vector: Sequence[int] = (10, -3), buckets: Sequence[int] = (5, 5, 9, 7), length: int = 1
) -> PromptInputs:
    """One prompt with these token sequences, one entry each, as `PromptInputs.of` lays them out."""
    bounds = np.array([0, len(buckets)])
    return PromptInputs(np.array([vector], np.int8), np.array(buckets, np.int32), bounds, np.array([length]))


def scorer_by_hand() -> PromptScorer:
    """Two columns, two dimensions, two hidden units; two rows of the table and one class of length are not zero."""
    table = np.zeros((N_BUCKETS, 2), np.int8)
    table[5], table[9] = (3, -2), (1, 4)
    length = np.zeros((N_LENGTHS, 2), np.int32)
    length[1] = (9, -7)
    return PromptScorer(
        table, 10.0, np.array([[1, 0, 2, 0], [-1, 5, 0, 1]], np.int8), length, np.array([1 / 64, 1 / 64]),
        np.array([[3, -1, 0], [100, 100, -100]], np.int32), 1.0, np.array([0.0, 0.5, 1.0]),
    )  # fmt: skip


def log_odds(*logits: float) -> list[float]:
    """Of each class against the others together, on the grid of 1/1024."""
    e = np.exp(logits)
    return [float(np.rint(1024 * np.log(own / (e.sum() - own))) / 1024) for own in e]


def encoded_of(*rows: Sequence[int]) -> Encoded:
    """Texts of these tokens, all with the same vector."""
    bounds = np.cumsum([0, *map(len, rows)])
    return Encoded(np.full((len(rows), 2), 3, np.int8), np.array([t for row in rows for t in row], np.int32), bounds)


def buckets_of(inputs: PromptInputs, row: int = 0) -> list[int]:
    sequences = inputs.sequences
    return sorted(sequences.indices[sequences.indptr[row] : sequences.indptr[row + 1]].tolist())


def expected_buckets(tokens: Sequence[int]) -> list[int]:
    """The hash in plain integers that never overflow."""
    single = [(token * 2_654_435_761 >> 7) % N_BUCKETS for token in tokens]
    mixed = [first * 1_000_003 + second * 8_191 for first, second in itertools.pairwise(tokens)]
    mixed = [(value ^ value >> 15) * 2_654_435_761 % 2**47 >> 11 for value in mixed]
    return sorted([*single, *(value % N_BUCKETS for value in mixed)])


def test_dense_inputs_by_hand() -> None:
    # Sums are 2 * 3 + 1 = 7 and 2 * -2 + 4 = 0; four sequences halve them, and the scale makes 7 / 2 * 10.
    assert scorer_by_hand().dense(inputs_by_hand()).tolist() == [[35, 0, 10, -3]]


def test_sums_are_clipped_to_eight_bits() -> None:
    scorer = scorer_by_hand()
    assert scorer.dense(inputs_by_hand(buckets=[5] * 100)).tolist() == [[127, -127, 10, -3]]


def test_scores_by_hand() -> None:
    # The first unit is (35 + 2 * 10 + 9) / 64 = 1, the second is below zero.
    assert scorer_by_hand().of(inputs_by_hand()).tolist() == [log_odds(3.0, -0.5, 1.0)]


def test_each_class_of_length_adds_its_own_to_the_hidden_layer() -> None:
    # Without the 9 of the first class, the unit is 55 / 64, of which the layer keeps 55 steps of 1 / 64.
    found = scorer_by_hand().of(inputs_by_hand(length=2))
    assert found.tolist() == [log_odds(3 * 55 / 64, 0.5 - 55 / 64, 1.0)]


def test_a_prompt_without_tokens_and_without_a_vector_has_the_scores_of_length_and_intercepts() -> None:
    found = scorer_by_hand().of(inputs_by_hand(vector=(0, 0), buckets=(), length=1))
    assert found.tolist() == [log_odds(3 * 9 / 64, 0.5 - 9 / 64, 1.0)]


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_scores_stay_within_the_limit_and_at_its_ends(size: int) -> None:
    scorer = replace(scorer_by_hand(), output=np.array([[size, -size, -size], [0, 0, 0]], np.int32))
    assert scorer.of(inputs_by_hand()).tolist() == [[LIMIT, -LIMIT, -LIMIT]]


def test_scores_are_on_a_grid_that_hides_the_last_bits(prompt_scorer: PromptScorer, encoder: Encoder) -> None:
    found = prompt_scorer.of(PromptInputs.of(encoder.read([" ".join(WORDS[:n]) for n in range(1, 30)])))
    assert (found * 1024 == np.rint(found * 1024)).all()
    assert np.abs(found).max() <= LIMIT
    assert len(np.unique(found[:, 0])) > 10


@given(st.lists(texts, min_size=1, max_size=40), st.integers(0, 10_000))
def test_scores_are_the_same_to_the_last_bit_in_any_batch_and_order(
    encoder: Encoder, prompt_scorer: PromptScorer, own: list[str], seed: int
) -> None:
    def score(texts: Sequence[str]) -> NDArray[np.float64]:
        return prompt_scorer.of(PromptInputs.of(encoder.read(texts)))

    whole, order = score(own), np.random.default_rng(seed).permutation(len(own))
    assert np.array_equal(score([own[row] for row in order]), whole[order])
    assert np.array_equal(np.concatenate([score([text]) for text in own]), whole)


@given(st.lists(texts, min_size=2, max_size=12), st.data())
def test_chosen_rows_and_joined_parts_are_scored_as_among_all(
    encoder: Encoder, prompt_scorer: PromptScorer, own: list[str], data: st.DataObject
) -> None:
    inputs = PromptInputs.of(encoder.read(own))
    whole = prompt_scorer.of(inputs)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(own), max_size=len(own))))
    assert np.array_equal(prompt_scorer.of(inputs.rows(mask)), whole[mask])
    assert np.array_equal(prompt_scorer.of(inputs.rows(np.flatnonzero(mask))), whole[mask])
    joined = PromptInputs.joined([inputs.rows(~mask), inputs.rows(mask)])
    assert len(joined) == len(inputs)
    assert np.array_equal(prompt_scorer.of(joined), np.concatenate([whole[~mask], whole[mask]]))


def test_many_threads_score_as_one_does(encoder: Encoder, prompt_scorer: PromptScorer) -> None:
    rng = np.random.default_rng(0)
    inputs = PromptInputs.of(encoder.read([" ".join(rng.choice(WORDS, size=8)) for _ in range(500)]))
    alone = prompt_scorer.of(inputs)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(found, alone) for found in pool.map(lambda _: prompt_scorer.of(inputs), range(12)))


def test_the_largest_weights_keep_sums_exact() -> None:
    n_dims, n_hidden = 1024, 256
    scorer = PromptScorer(
        np.full((N_BUCKETS, 1), 127, np.int8), 1.0, np.full((n_hidden, n_dims + 1), 127, np.int8),
        np.full((N_LENGTHS, n_hidden), 1 << 22, np.int32), np.full(n_hidden, 1.0),
        np.tile(np.array([[32_767, 32_767, 32_766]], np.int32), (n_hidden, 1)), 2.0**-40, np.zeros(N_HEADS),
    )  # fmt: skip
    inputs = inputs_by_hand(vector=[127] * n_dims, buckets=[1])
    unit = 127 * 127 * (n_dims + 1) + (1 << 22)
    logit, less = (n_hidden * unit * output * 2.0**-40 for output in (32_767, 32_766))
    assert scorer.of(inputs).tolist() == [log_odds(logit, logit, less)]


def test_no_prompts_have_no_scores(encoder: Encoder, prompt_scorer: PromptScorer) -> None:
    inputs = PromptInputs.of(encoder.read([]))
    assert (len(inputs), prompt_scorer.of(inputs).shape) == (0, (0, N_HEADS))


@given(st.lists(st.lists(st.integers(0, 40_000), max_size=MAX_TOKENS), min_size=1, max_size=6))
def test_tokens_and_pairs_of_neighbours_are_hashed_as_plain_integers_are(rows: list[list[int]]) -> None:
    inputs = PromptInputs.of(encoded_of(*rows))
    assert [buckets_of(inputs, row) for row in range(len(rows))] == [expected_buckets(row) for row in rows]
    assert (np.diff(inputs.sequences.indptr) == [max(2 * len(row) - 1, 0) for row in rows]).all()


def test_the_order_of_tokens_is_read_in_pairs_alone() -> None:
    inputs = PromptInputs.of(encoded_of([7, 8, 9], [9, 8, 7]))
    own, other = set(buckets_of(inputs, 0)), set(buckets_of(inputs, 1))
    assert len(own & other) == 3
    assert len(own - other) == len(other - own) == 2


@given(st.integers(MAX_TOKENS - 2, 5 * MAX_TOKENS), st.integers(0, 99))
def test_of_a_long_prompt_the_first_and_last_tokens_are_read(n: int, seed: int) -> None:
    tokens = np.random.default_rng(seed).integers(0, 30_000, n).tolist()
    inputs = PromptInputs.of(encoded_of([1, 2, 3], tokens, [], [4]))
    read = tokens if n <= MAX_TOKENS else [*tokens[:HEAD_TOKENS], *tokens[-TAIL_TOKENS:]]
    assert len(read) == min(n, MAX_TOKENS)
    assert [buckets_of(inputs, row) for row in range(4)] == list(map(expected_buckets, ([1, 2, 3], read, [], [4])))
    assert inputs.length.tolist() == [1, N_LENGTHS - 1 if n >= MAX_TOKENS else N_LENGTHS - 2, 0, 0]


@pytest.mark.parametrize("n", [0, 1, 2, 5, 6, 127, 128, 129, 5000])
def test_the_class_of_length_is_how_many_edges_a_prompt_reaches(n: int) -> None:
    assert PromptInputs.of(encoded_of([5] * n)).length.tolist() == [sum(n >= edge for edge in LENGTH_EDGES)]


def test_texts_that_are_empty_or_unknown_to_the_encoder_are_scored_alike(
    static_folder: Path, prompt_scorer: PromptScorer
) -> None:
    static = StaticEncoder(static_folder)
    nothing = prompt_scorer.of(PromptInputs.of(static.read(["", "   ", "xyzzy qwx", "👩‍👩‍👧"])))
    known = prompt_scorer.of(PromptInputs.of(static.read(["sort a list"])))
    assert (nothing == nothing[0]).all()
    by_length = np.maximum(prompt_scorer.length[0], 0) * prompt_scorer.hidden_scale
    logits = by_length @ prompt_scorer.output * prompt_scorer.output_scale + prompt_scorer.intercepts
    assert nothing[0] == pytest.approx(log_odds(*logits), abs=0.1)
    assert not np.array_equal(known[0], nothing[0])


def test_arrays_make_the_same_scorer_again(prompt_scorer: PromptScorer, encoder: Encoder) -> None:
    again = PromptScorer.of_arrays(prompt_scorer.arrays())
    inputs = PromptInputs.of(encoder.read(WORDS))
    assert np.array_equal(again.of(inputs), prompt_scorer.of(inputs))
    assert (again.n_columns, again.n_dims) == (8, encoder.n_dims)


def test_an_array_that_is_missing_is_named(prompt_scorer: PromptScorer) -> None:
    arrays = prompt_scorer.arrays()
    for name in arrays:
        with pytest.raises(KeyError, match=name):
            PromptScorer.of_arrays({key: array for key, array in arrays.items() if key != name})


def without_last(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return array[:-1]


def one_column_less(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return array[:, :-1]


def without_rows(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return array[0]


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("table", without_last, rf"table has shape \({N_BUCKETS - 1}, 2\), expected \({N_BUCKETS}, 2\)"),
        ("table", without_rows, rf"table has shape \(2,\), expected \({N_BUCKETS}, 2\)"),
        ("hidden", without_rows, r"hidden has shape \(4,\), expected \(4, 4\)"),
        ("length", without_last, rf"length has shape \({N_LENGTHS - 1}, 2\), expected \({N_LENGTHS}, 2\)"),
        ("length", one_column_less, rf"length has shape \({N_LENGTHS}, 1\), expected \({N_LENGTHS}, 2\)"),
        ("hidden_scale", without_last, r"hidden_scale has shape \(1,\), expected \(2,\)"),
        ("output", without_last, rf"output has shape \(1, {N_HEADS}\), expected \(2, {N_HEADS}\)"),
        ("output", one_column_less, rf"output has shape \(2, {N_HEADS - 1}\), expected \(2, {N_HEADS}\)"),
        ("intercepts", without_last, rf"intercepts has shape \({N_HEADS - 1},\), expected \({N_HEADS},\)"),
    ],
)
def test_arrays_of_another_shape_are_refused(
    name: str, damage: Callable[[NDArray[np.generic]], NDArray[np.generic]], message: str
) -> None:
    scorer = scorer_by_hand()
    with pytest.raises(ValueError, match=f"prompt scorer: {message}"):
        replace(scorer, **{name: damage(getattr(scorer, name))})


def test_vectors_of_another_number_of_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="vectors have 3 dimensions, prompt scorer reads 2"):
        scorer_by_hand().of(inputs_by_hand(vector=(1, 2, 3)))


def test_the_released_heads_tell_clear_cases_apart(released_scorer: Scorer) -> None:
    bundle = released_scorer.bundle

    def score(text: str) -> dict[str, float]:
        inputs = PromptInputs.of(bundle.encoder.read([text]))
        return dict(zip(HEADS, bundle.prompt_scorer.of(inputs)[0].tolist(), strict=True))

    task = score("write a function that takes an array of n integers and returns the longest subarray")
    chat = score("hey i still get that error after i did what you said, any other idea")
    assert task["harvest"] > chat["harvest"]
    assert task["person"] < chat["person"]
