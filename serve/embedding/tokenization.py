"""Tokenization: texts cut at their spaces, so that what is costly is done once for each different piece."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve.embedding.word_pieces import WordPieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FEW = 8
"""Texts for which Arrow costs more than it saves."""

_MAX_KNOWN = 1 << 17
_MAX_KNOWN_CHARS = 24


@dataclass(frozen=True, slots=True)
class Pieces:
    """Text i is `distinct[code]` for each code of `codes[offsets[i]:offsets[i + 1]]`, joined by single spaces."""

    distinct: list[str]
    codes: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """Cut texts at every single space; an empty text is one empty piece.

        Raises:
            UnicodeEncodeError: when a text holds a lone surrogate.
        """
        cut = pc.split_pattern(pa.array(texts, pa.large_string()), " ")
        encoded = cut.flatten().dictionary_encode()
        return cls(encoded.dictionary.to_pylist(), encoded.indices.to_numpy(), cut.offsets.to_numpy().astype(np.int64))

    def expanded(
        self, values: NDArray[np.int32], sizes: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """What each text's pieces hold, one after another, and the bounds of each text in that, shape (n_texts + 1,).

        Distinct piece i holds the next `sizes[i]` of `values`.
        """
        own = sizes[self.codes]
        ends = np.cumsum(own)
        shifts = (np.cumsum(sizes) - sizes)[self.codes] - (ends - own)
        bounds = np.concatenate([[0], ends])[self.offsets]
        return values[np.repeat(shifts, own) + np.arange(bounds[-1])], bounds


class PieceTokenizer:
    """A tokenizer that, where it may, cuts texts at their spaces first and looks up the pieces that it has seen."""

    def __init__(self, tokenizer: Tokenizer, unknown: int | None) -> None:
        """Leave the token `unknown` out."""
        self._tokenizer = tokenizer
        self._unknown = unknown
        self._cuts = _is_cut_at_spaces(tokenizer)
        self._words = WordPieces.of(tokenizer, unknown) if self._cuts else None
        self._known: dict[str, tuple[int, ...]] = {}

    def ids(self, texts: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Tokens of all texts, one after another, and the bounds of each text in them, shape (n_texts + 1,)."""
        if not self._cuts:
            return flattened(self._of(texts))
        if len(texts) < FEW:
            cut = [text.split(" ") for text in texts]
            distinct = list(dict.fromkeys(itertools.chain.from_iterable(cut)))
            found = dict(zip(distinct, self._looked_up(distinct), strict=True))
            return flattened([tuple(itertools.chain.from_iterable(map(found.__getitem__, own))) for own in cut])
        pieces = Pieces.of(texts)
        ids, bounds = flattened(self._looked_up(pieces.distinct))
        return pieces.expanded(ids, np.diff(bounds))

    def _looked_up(self, pieces: list[str]) -> list[tuple[int, ...]]:
        known = self._known  # threads may share it: it only grows, and is replaced, never cleared
        found = list(map(known.get, pieces))
        new = [place for place, ids in enumerate(found) if ids is None]
        own = self._of_pieces([pieces[place] for place in new])
        if len(known) + len(new) > _MAX_KNOWN:
            self._known = known = {}
        for place, ids in zip(new, own, strict=True):
            found[place] = ids
            if len(piece := pieces[place]) <= _MAX_KNOWN_CHARS:
                known[piece] = ids
        return found  # type: ignore[return-value]  # none is None any more

    def _of_pieces(self, pieces: list[str]) -> list[tuple[int, ...]]:
        """Tokens of each piece; the plain ones are cut here, which takes less time than a call of the tokenizer."""
        found = [self._words.ids(piece) if self._words is not None else None for piece in pieces]
        others = [place for place, ids in enumerate(found) if ids is None]
        for place, ids in zip(others, self._of([pieces[place] for place in others]), strict=True):
            found[place] = ids
        return found  # type: ignore[return-value]

    def _of(self, texts: list[str]) -> list[tuple[int, ...]]:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        if self._unknown is None:
            return [tuple(encoding.ids) for encoding in encodings]
        return [tuple(token for token in encoding.ids if token != self._unknown) for encoding in encodings]


def _is_cut_at_spaces(tokenizer: Tokenizer) -> bool:
    """Whether a text's tokens are those of its pieces between spaces, whatever the text: BERT's tokenizer is so."""
    from tokenizers import models, normalizers, pre_tokenizers

    added = tokenizer.get_added_tokens_decoder().values()
    return (
        isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and isinstance(tokenizer.normalizer, normalizers.BertNormalizer)
        and isinstance(tokenizer.model, models.WordPiece)
        and not any(" " in token.content or token.lstrip or token.rstrip or token.single_word for token in added)
    )


def flattened(rows: list[tuple[int, ...]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The numbers of all rows, one after another, and the bounds of each row, shape (n_rows + 1,)."""
    bounds = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)), out=bounds[1:])
    return np.fromiter(itertools.chain.from_iterable(rows), np.int32, int(bounds[-1])), bounds
