"""Fingerprints: a prompt with its slots masked, as hashes that can be compared and shared, never text.

A prompt has up to `N_KEYS` keys: one of its first words, one of its last, and the two smallest of its other runs of
words (MinHash, Broder 1997). Prompts of one template share keys whatever fills its slots; near-duplicates share most.
Keys are the same on every machine, so that what one provider saw can be recognised by another.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

N_KEYS = 4
"""Keys of a prompt: opening, ending, two inner ones; 0 where there is none."""

N_WORDS = 6
"""Words and signs in the run that a key is made of."""

_HEAD_CHARS, _TAIL_CHARS = 500, 200
_SLOT = re.compile(r"https?://\S+|\"[^\"]{1,200}\"|`[^`]{1,200}`|“[^”]{1,200}”|\d+(?:[.,:]\d+)*")
_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
_BASE = 0x9E3779B97F4A7C15


def masked_words(text: str) -> list[str]:
    """Words and signs of a canonical text, quotations, addresses and numbers masked as "0", without a long middle."""
    if len(text) > _HEAD_CHARS + _TAIL_CHARS:
        text = f"{text[:_HEAD_CHARS]} {text[-_TAIL_CHARS:]}"
    return _WORD.findall(_SLOT.sub("0", text))


def fingerprint_keys(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Keys of canonical texts, shape (n_texts, N_KEYS); one key for the whole where there are fewer than `N_WORDS`."""
    found = [masked_words(text) for text in texts]
    lengths = np.fromiter(map(len, found), np.int64, len(found))
    words = np.fromiter((zlib.crc32(word.encode()) for own in found for word in own), np.uint64, int(lengths.sum()))
    keys = np.zeros((len(texts), N_KEYS), dtype=np.uint64)
    starts = np.cumsum(lengths) - lengths
    for row in np.flatnonzero((lengths > 0) & (lengths < N_WORDS)).tolist():
        keys[row, 0] = _mixed(
            _run_hash(words[starts[row] : starts[row] + lengths[row]][None])[:1] + np.uint64(lengths[row])
        )[0]
    full = np.flatnonzero(lengths >= N_WORDS)
    if len(full):
        runs = _mixed(_run_hash(np.lib.stride_tricks.sliding_window_view(words, N_WORDS)))
        _fill(keys, full, runs, starts[full], lengths[full] - N_WORDS + 1)
    return keys


def _fill(
    keys: NDArray[np.uint64],
    rows: NDArray[np.int64],
    runs: NDArray[np.uint64],
    starts: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:
    """Set the keys of texts whose `counts` runs begin at `starts`."""
    keys[rows, 0] = runs[starts]
    keys[rows, 1] = np.where(counts > 1, runs[starts + counts - 1], 0)
    for row, start, count in zip(rows.tolist(), starts.tolist(), counts.tolist(), strict=True):
        inner = np.unique(runs[start + 1 : start + count - 1])[: N_KEYS - 2]
        keys[row, 2 : 2 + len(inner)] = inner


def _run_hash(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A number for each row of words, that depends on their order."""
    total = np.zeros(len(words), dtype=np.uint64)
    for column in range(words.shape[1]):
        total = total * np.uint64(_BASE) + words[:, column]
    return total


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014), never 0."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    values = values ^ (values >> np.uint64(31))
    return np.maximum(values, np.uint64(1))
