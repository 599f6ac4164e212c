"""Evidence: integer arithmetic, one prompt at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serve.features.word_frequencies import LEVEL_UNIT

from serve.capability.capability_map import CapabilityMap
from serve.embedding.encoders import Encoder, quantise
from serve.features.prompt_scorer import HEADS, KERNEL_WIDTH, LEVELS, N_LENGTHS, Evidence, EvidenceInputs
from serve.scoring.scorer import Scorer

TEXTS = ("fix the bug", "the cake, a cake", "?", "python 3 list", "good morning my friend")
N_HEADS = len(HEADS)


def inputs_of(
    cosines: Sequence[Sequence[float]], *, texts: Sequence[str] = ("fix it",), vocabulary: Sequence[str] = ()
) -> EvidenceInputs:
    vectors = np.tile(np.array([[10, -3]], np.int8), (len(cosines), 1))
    return EvidenceInputs.of(vectors, np.array(cosines, np.float32), texts, vocabulary)


def one_head(*weights: int, vocabulary: tuple[str, ...] = (), scale: float = 0.5) -> Evidence:
    """These weights for the first head, zeros for the others, whose intercepts are 1, 2 …"""
    columns = np.zeros((len(weights), N_HEADS), np.int32)
    columns[:, 0] = weights
    return Evidence(vocabulary, columns, np.full(N_HEADS, scale), np.arange(N_HEADS, dtype=np.float64))


def test_a_kernel_to_each_cell_by_hand() -> None:
    kernel = inputs_of([[1.0, 0.75, 0.0, -1.0]]).kernel[0]
    near, far = (np.rint(LEVELS * np.exp(-distance / KERNEL_WIDTH)) for distance in (0.25, 1.0))
    assert kernel.tolist() == [LEVELS, near, far, far]


def test_kernels_are_whole_numbers_that_rise_with_the_cosine_even_a_little_beyond_1() -> None:
    kernel = inputs_of([np.linspace(-1.01, 1.01, 999).tolist()]).kernel[0]
    assert (kernel == np.rint(kernel)).all()
    assert (np.diff(kernel) >= 0).all()
    assert kernel.max() == LEVELS


def test_evidence_by_hand() -> None:
    # Two words make the second class of length; "fix" is there once.
    of_length = [0, 7, *[100] * (N_LENGTHS - 2)]
    evidence = one_head(2, 1, -1, *of_length, 3, 1000, vocabulary=("fix", "absent"))
    found = evidence.of(inputs_of([[1.0]], vocabulary=evidence.vocabulary))
    assert found.tolist() == [[0.5 * (20 - 3 - LEVELS + 7 + 3 * LEVEL_UNIT), *range(1, N_HEADS)]]


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_evidence_is_the_same_to_the_last_bit_in_any_batch_and_order(
    capabilities: CapabilityMap, evidence: Evidence, seed: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = quantise(rng.normal(size=(n, 64)))
    cosines = rng.uniform(-1, 1, size=(n, len(capabilities.cells))).astype(np.float32)
    texts = rng.choice(TEXTS, size=n)

    def weigh(rows: np.ndarray) -> np.ndarray:
        own = EvidenceInputs.of(vectors[rows], cosines[rows], texts[rows].tolist(), evidence.vocabulary)
        return evidence.of(own)

    whole, order = weigh(np.arange(n)), rng.permutation(n)
    assert np.array_equal(weigh(order), whole[order])
    assert np.array_equal(np.concatenate([weigh(np.array([row])) for row in range(n)]), whole)


@given(st.lists(st.booleans(), min_size=5, max_size=5))
def test_chosen_rows_are_weighed_as_among_all(evidence: Evidence, chosen: list[bool]) -> None:
    vectors = quantise(np.random.default_rng(0).normal(size=(5, 64)))
    cosines = np.zeros((5, len(evidence.weights) - 64 - N_LENGTHS - len(evidence.vocabulary)), np.float32)
    inputs, mask = EvidenceInputs.of(vectors, cosines, TEXTS, evidence.vocabulary), np.array(chosen)
    assert np.array_equal(evidence.of(inputs.rows(mask)), evidence.of(inputs)[mask])


def test_the_largest_weights_keep_sums_exact() -> None:
    n_cells = 512
    weights = np.full((1024 + n_cells + N_LENGTHS, N_HEADS), 2**20, np.int32)
    inputs = EvidenceInputs.of(np.full((1, 1024), 127, np.int8), np.ones((1, n_cells), np.float32), ("a",), ())
    found = Evidence((), weights, np.ones(N_HEADS), np.zeros(N_HEADS)).of(inputs)
    assert found[0, 0] == 2**20 * (127 * (1024 + n_cells) + 1)


@pytest.mark.parametrize("shape", [(4,), (4, N_HEADS + 1)])
def test_weights_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"evidence weights have shape .*, expected \(n_inputs, {N_HEADS}\)"):
        Evidence((), np.zeros(shape, np.int32), np.ones(N_HEADS), np.zeros(N_HEADS))


@pytest.mark.parametrize(("n_scales", "n_intercepts"), [(1, N_HEADS), (N_HEADS, 1)])
def test_scales_and_intercepts_of_another_shape_are_refused(n_scales: int, n_intercepts: int) -> None:
    with pytest.raises(ValueError, match=rf"evidence scales or intercepts are not of shape \({N_HEADS},\)"):
        Evidence((), np.zeros((4, N_HEADS), np.int32), np.ones(n_scales), np.zeros(n_intercepts))


def test_a_word_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="evidence vocabulary names a word twice"):
        one_head(1, vocabulary=("a", "b", "a"))


def test_inputs_of_another_number_than_the_weights_are_refused() -> None:
    expected = 2 + 1 + N_LENGTHS
    with pytest.raises(ValueError, match=f"evidence has 2 weights a head, expected {expected} for these inputs"):
        one_head(1, 2).of(inputs_of([[1.0]]))


def test_the_released_heads_tell_clear_cases_apart(released_scorer: Scorer) -> None:
    bundle = released_scorer.bundle

    def weigh(text: str, encoder: Encoder) -> dict[str, float]:
        vectors = encoder.encode([text])
        cosines = bundle.capabilities.assign(vectors).cell_cosines
        inputs = EvidenceInputs.of(vectors, cosines, [text], bundle.evidence.vocabulary)
        return dict(zip(HEADS, bundle.evidence.of(inputs)[0].tolist(), strict=True))

    task = weigh("write a function that takes an array of n integers and returns the longest subarray", bundle.encoder)
    chat = weigh("hey i still get that error after i did what you said, any other idea", bundle.encoder)
    assert task["harvest"] > chat["harvest"]
    assert task["person"] < chat["person"]
