"""Word frequencies: how often each prompt uses the commonest words and signs, which shows a manner of writing."""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from serve.embedding.tokenization import Pieces

MAX_CHARS = 600
"""Characters of a text that are read for words."""

LENGTH_EDGES = (2, 3, 4, 6, 8, 11, 15, 20, 27, 36, 48, 64, 90, 130, 180)
"""Number of words and signs at which each further class of length begins."""

LEVEL_UNIT = 16.0
_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
_WORD_OR_SPACE = re.compile(rf"{_WORD.pattern}| ")
_UNKNOWN, _SPACE = -1, -2
_FEW = 8  # texts for which cutting them into pieces costs more than it saves


def words(text: str) -> list[str]:
    """Words, runs of digits (all as "0") and single signs of a canonical text, in order."""
    return ["0" if word.isdigit() else word for word in _WORD.findall(text[:MAX_CHARS])]


def commonest(texts: Iterable[str], n_words: int) -> tuple[str, ...]:
    """The words that most of these texts use, most common first; equals in alphabetical order."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(set(words(text)))
    return tuple(sorted(counts, key=lambda word: (-counts[word], word))[:n_words])


def word_levels(texts: Sequence[str], vocabulary: Sequence[str]) -> tuple[scipy.sparse.csr_array, NDArray[np.int64]]:
    """Level 16 log2(1 + count) of each word of the vocabulary, rounded, (n_texts, n_words), and the class of length."""
    columns, bounds = _columns([text[:MAX_CHARS] for text in texts], _index(tuple(vocabulary)))
    known = columns != _UNKNOWN
    n_known = np.concatenate([[0], np.cumsum(known)])[bounds]
    shape = (len(texts), len(vocabulary))
    levels = scipy.sparse.csr_array((np.ones(int(n_known[-1])), columns[known], n_known), shape=shape)
    levels.sum_duplicates()
    levels.data = np.rint(LEVEL_UNIT * np.log2(1.0 + levels.data))
    return levels, np.searchsorted(LENGTH_EDGES, np.diff(bounds), side="right")


def _columns(texts: list[str], index: _Index) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Columns of the words of all texts, one after another, and the bounds of each text, shape (n_texts + 1,)."""
    if len(texts) < _FEW:
        found = [_WORD.findall(text) for text in texts]
        ends = np.cumsum([0, *map(len, found)])
        return np.fromiter(map(index.__getitem__, itertools.chain.from_iterable(found)), np.int32, int(ends[-1])), ends
    pieces = Pieces.of(texts)
    return pieces.expanded(*_of_pieces(pieces.distinct, index))


def _of_pieces(pieces: list[str], index: _Index) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Columns of the words of all pieces, one after another, and how many words each piece has."""
    is_word = np.fromiter(map(str.isalpha, pieces), np.bool_, len(pieces))
    sizes = np.ones(len(pieces), np.int64)
    mixed, sizes[~is_word] = _of_mixed(list(itertools.compress(pieces, ~is_word)), index)
    columns = np.empty(int(sizes.sum()), np.int32)
    is_own = np.repeat(is_word, sizes)
    known = map(index.get, itertools.compress(pieces, is_word), itertools.repeat(_UNKNOWN))
    columns[is_own], columns[~is_own] = np.fromiter(known, np.int32, int(is_word.sum())), mixed
    return columns, sizes


def _of_mixed(pieces: list[str], index: _Index) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """`_of_pieces` for pieces that may hold more than letters."""
    found = _WORD_OR_SPACE.findall(" ".join(pieces))  # one call for all: no piece holds a space
    columns = np.fromiter(map(index.__getitem__, found), np.int32, len(found))
    ends = np.append(np.flatnonzero(columns == _SPACE), len(columns))
    return columns[columns != _SPACE], (np.diff(ends, prepend=-1) - 1)[: len(pieces)]


@functools.lru_cache(maxsize=4)
def _index(vocabulary: tuple[str, ...]) -> _Index:
    return _Index(vocabulary)


class _Index(dict[str, int]):
    """Columns of a vocabulary's words; all runs of digits are "0"."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        super().__init__((word, column) for column, word in enumerate(vocabulary) if word == "0" or not word.isdigit())
        self[" "] = _SPACE
        self.setdefault("0", _UNKNOWN)

    def __missing__(self, word: str) -> int:
        return self["0"] if word.isdigit() else _UNKNOWN
