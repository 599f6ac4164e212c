"""Pieces: what is done once a piece comes back in every text that has it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serve.embedding.tokenization import Pieces

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
