"""Words: how often each prompt uses the commonest words and signs: a manner of writing, whatever the topic."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

MAX_CHARS = 600
"""Characters of a text that are read for words."""

LENGTH_EDGES = (2, 3, 4, 6, 8, 11, 15, 20, 27, 36, 48, 64, 90, 130, 180)
"""Number of words and signs at which each further class of length begins."""

LEVEL_UNIT = 16.0
_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")


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
    index = {word: column for column, word in enumerate(vocabulary)}
    found = [words(text) for text in texts]
    lengths = np.fromiter(map(len, found), np.int64, len(found))
    columns = np.fromiter((index.get(word, -1) for own in found for word in own), np.int64, int(lengths.sum()))
    rows = np.repeat(np.arange(len(found)), lengths)
    known = columns >= 0
    keys, counts = np.unique(rows[known] * len(vocabulary) + columns[known], return_counts=True)
    levels = np.rint(LEVEL_UNIT * np.log2(1.0 + counts))
    places = (keys // max(len(vocabulary), 1), keys % max(len(vocabulary), 1))
    shape = (len(found), len(vocabulary))
    return scipy.sparse.csr_array((levels, places), shape=shape), np.searchsorted(LENGTH_EDGES, lengths, side="right")
