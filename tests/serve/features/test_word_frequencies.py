"""Words of a text by hand, and levels that are small integers of one text alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.features.word_frequencies import LENGTH_EDGES, LEVEL_UNIT, MAX_CHARS, commonest, word_levels, words

TEXTS = st.lists(
    st.sampled_from(["fix it", "fix the bug, fix it", "12 cakes", "", "???", "the the the the"]), max_size=8
)
VOCABULARY = ("the", "fix", "0", "?", "it")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("don't fix it!", ["don", "'", "t", "fix", "it", "!"]),
        ("12 of 3456", ["0", "of", "0"]),
        ("a1b", ["a", "0", "b"]),
        ("привет, мир", ["привет", ",", "мир"]),
        ("", []),
    ],
)
def test_words_signs_and_numbers_by_hand(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_only_the_head_of_a_long_text_is_read() -> None:
    assert words("a " * (MAX_CHARS // 2) + "secret") == ["a"] * (MAX_CHARS // 2)


def test_the_commonest_words_are_those_of_most_texts_and_equals_are_in_order() -> None:
    assert commonest(["b b b b c", "c a", "c a", "b"], 3) == ("c", "a", "b")
    assert commonest(["b", "a"], 9) == ("a", "b")
    assert commonest([], 3) == ()


def test_levels_by_hand() -> None:
    levels, length = word_levels(("fix the bug, fix it", "the the the", "nothing known"), ("fix", "the", "zebra"))
    assert levels.toarray().tolist() == [
        [np.rint(LEVEL_UNIT * np.log2(3)), LEVEL_UNIT, 0],
        [0, 2 * LEVEL_UNIT, 0],
        [0, 0, 0],
    ]
    assert length.tolist() == [sum(edge <= n for edge in LENGTH_EDGES) for n in (6, 3, 2)]


@given(TEXTS, st.integers(0, 100))
def test_a_text_s_levels_depend_on_no_other_text(texts: list[str], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(texts))
    levels, length = word_levels(texts, VOCABULARY)
    shuffled, lengths = word_levels([texts[index] for index in order], VOCABULARY)
    assert (shuffled.toarray() == levels.toarray()[order]).all()
    assert (lengths == length[order]).all()
    assert (levels.toarray() == np.rint(levels.toarray())).all()


def test_without_vocabulary_or_texts_there_is_nothing_but_the_shape() -> None:
    assert word_levels(("fix it",), ())[0].shape == (1, 0)
    assert word_levels((), VOCABULARY)[0].shape == (0, len(VOCABULARY))
