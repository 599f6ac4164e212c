"""Word pieces: what is cut here has the tokens that the tokenizers library gives."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from serve.embedding.word_pieces import WordPieces

VOCABULARY = (
    "[UNK]", "[PAD]", "a", "ab", "abc", "b", "##b", "##bc", "##c", "##abca", "1", "12", "##2", "##34", "-", "#", "##",
    "longer", "##longer", "x" * 101,
)  # fmt: skip


def _tokenizer(*added: str) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({name: at for at, name in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[UNK]", "[PAD]"])
    tokenizer.add_tokens(list(added))
    return tokenizer


PIECES = st.lists(st.sampled_from([*"abc1234-#[", "longer", "[pad]", "[UNK]", "é", "Ab", "x" * 50]), min_size=1).map(
    "".join
)


@pytest.mark.parametrize("left_out", [None, 0])
@pytest.mark.parametrize("added", [(), ("b",), ("-a",)])
@given(piece=PIECES | st.text(string.printable.strip(), min_size=1, max_size=8))
def test_a_piece_has_the_tokens_of_the_library(piece: str, added: tuple[str, ...], left_out: int | None) -> None:
    tokenizer = _tokenizer(*added)
    if (found := WordPieces.of(tokenizer, left_out).ids(piece)) is not None:
        expected = tokenizer.encode(piece, add_special_tokens=False).ids
        assert list(found) == [token for token in expected if token != left_out]


def test_plain_words_are_cut_here_and_others_are_left() -> None:
    words = WordPieces.of(_tokenizer(), 0)
    assert words.ids("longerlonger") == (VOCABULARY.index("longer"), VOCABULARY.index("##longer"))
    assert words.ids("1234") == tuple(map(VOCABULARY.index, ("12", "##34")))
    assert words.ids("zz") == ()
    assert [words.ids(piece) for piece in ("é", "A", "[pad]", "x" * 101, "")] == [None] * 5
