"""Pieces: what is done once a piece comes back in every text that has it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serve.embedding.tokenization import Pieces
from serve.scoring.scorer import Scorer

TEXTS = st.lists(st.text(alphabet=" ab\n\té猫", max_size=12), max_size=6)


@given(TEXTS)
def test_pieces_make_up_the_texts_again(texts: list[str]) -> None:
    pieces = Pieces.of(texts)
    own = [pieces.codes[start:stop] for start, stop in zip(pieces.offsets, pieces.offsets[1:], strict=False)]
    assert [" ".join(pieces.distinct[code] for code in codes) for codes in own] == texts
    assert len(set(pieces.distinct)) == len(pieces.distinct)


@given(TEXTS)
def test_what_pieces_hold_comes_in_the_order_of_each_text(texts: list[str]) -> None:
    pieces = Pieces.of(texts)
    letters = [[ord(letter) for letter in piece] for piece in pieces.distinct]
    values = np.array([letter for piece in letters for letter in piece], np.int32)
    found, bounds = pieces.expanded(values, np.array([len(piece) for piece in letters], np.int64))
    own = ["".join(map(chr, part)) for part in np.split(found, bounds[1:-1])] if texts else []
    assert own == [text.replace(" ", "") for text in texts]


PARTS = (
    *"aé猫İß|[#1²", " ", " ", "\t", "\u0338", "\u037e", "\u200b", "the", "[UNK]", "[PAD]", "mango", "naïve", "x" * 99,
)  # fmt: skip


@given(st.lists(st.lists(st.sampled_from(PARTS), max_size=20).map("".join), min_size=8, max_size=12))
def test_pieces_that_were_seen_before_have_the_tokens_of_the_whole_text(
    released_scorer: Scorer, texts: list[str]
) -> None:
    """A few texts are tokenised whole, many by their pieces: to the same vectors."""
    encoder = released_scorer.bundle.encoder
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert (encoder.encode(texts) == alone).all()
    assert (encoder.encode(texts[::-1]) == alone[::-1]).all()
