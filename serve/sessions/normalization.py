"""Normalization: what a prompt looks like, and how to see past what a sender changes for free."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.sessions.canonical_text import canonical, is_altered
from serve.sessions.records import Sessions

_DIGITS = re.compile(r"\d+")
N_OPENING = 4
"""Exchanges that decide a session's wrapper."""
_MIN_SHARE = 0.75
_MAX_WRAPPER_WORDS = 16


@dataclass(frozen=True, slots=True)
class Wrapper:
    """What a sender puts before (`head`) and after (`tail`) the prompts of a session; empty where there is nothing."""

    head: str = ""
    tail: str = ""

    def strip(self, text: str) -> str:
        """The canonical text without the wrapper; kept whole when it is nothing but the wrapper."""
        bare = text.removeprefix(self.head) if self.head else text
        bare = bare.removesuffix(self.tail) if self.tail else bare
        return bare.strip() or text


def wrapper(texts: Sequence[str]) -> Wrapper:
    """The wrapper of a session, told from its first `N_OPENING` canonical texts; none when there are fewer.

    A wrapper is up to 16 words that open (or close) at least three quarters of those texts. What a sender puts in front
    of every prompt says nothing about what is asked; a longer shared template is left in place. Only the opening of a
    session decides, so that a growing session never changes what earlier exchanges were read as.
    """
    if len(texts) < N_OPENING:
        return Wrapper()
    heads, tails = [text[:400] for text in texts[:N_OPENING]], [text[-400:] for text in texts[:N_OPENING]]
    opens = _is_shared([head.partition(" ")[0] for head in heads])
    closes = _is_shared([tail.rpartition(" ")[2] for tail in tails])
    prefix = _shared([head.split(" ") for head in heads]) if opens else []
    suffix = _shared([tail.split(" ")[::-1] for tail in tails]) if closes else []
    head = " ".join(prefix) + " " if 0 < len(prefix) <= _MAX_WRAPPER_WORDS else ""
    tail = " " + " ".join(reversed(suffix)) if 0 < len(suffix) <= _MAX_WRAPPER_WORDS else ""
    return Wrapper(head, tail)


def _is_shared(words: Sequence[str]) -> bool:
    """Whether at least `_MIN_SHARE` of the words are the same."""
    needed = math.ceil(_MIN_SHARE * len(words))
    return any(words.count(word) >= needed for word in words[: len(words) - needed + 1])


def _shared(rows: Sequence[Sequence[str]]) -> list[str]:
    """The longest run of first words that at least `_MIN_SHARE` of the rows have in common."""
    needed = _MIN_SHARE * len(rows)
    shared: list[str] = []
    alive = list(rows)
    while alive and len(shared) <= _MAX_WRAPPER_WORDS:
        depth = len(shared)
        words = Counter(row[depth] for row in alive if len(row) > depth + 1)
        word, count = words.most_common(1)[0] if words else ("", 0)
        if count < needed:
            break
        shared.append(word)
        alive = [row for row in alive if len(row) > depth + 1 and row[depth] == word]
    return shared


@dataclass(frozen=True, slots=True)
class Form:
    """Form of canonical texts, as columns (n_texts,): words, and keys that are equal for equal openings and texts.

    Keys are hashes, good for comparing within one process only.
    """

    n_words: NDArray[np.int64]
    opening: NDArray[np.int64]
    text: NDArray[np.int64]

    def rows(self, chosen: NDArray[np.int64]) -> Form:
        """The form of the texts at these indices."""
        return Form(self.n_words[chosen], self.opening[chosen], self.text[chosen])

    @staticmethod
    def joined(parts: Sequence[Form]) -> Form:
        """The form of all texts of these parts, in order."""
        columns = ([getattr(part, name) for part in parts] for name in ("n_words", "opening", "text"))
        return Form(*map(np.concatenate, columns))


def form(texts: Sequence[str]) -> Form:
    """Form of each canonical text."""
    return Form(
        n_words=np.fromiter((text.count(" ") + 1 for text in texts), np.int64, len(texts)),
        opening=np.fromiter(map(hash, _openings(texts)), np.int64, len(texts)),
        text=np.fromiter(map(hash, texts), np.int64, len(texts)),
    )


def opening_words(text: str) -> str:
    """The first three words, with digits masked."""
    return _DIGITS.sub("0", _first_words(text))


def _openings(texts: Sequence[str]) -> list[str]:
    """The opening words of canonical texts, which hold no line breaks."""
    return _DIGITS.sub("0", "\n".join(map(_first_words, texts))).split("\n") if texts else []


def _first_words(text: str) -> str:
    return " ".join(text[:60].split(" ", 3)[:3])


def altered_counts(sessions: Sessions) -> NDArray[np.int64]:
    """How many prompts of each session are altered, see `canonical_text.is_altered`; shape (n_sessions,)."""
    altered = np.fromiter(map(is_altered, sessions.prompts), np.int64, len(sessions.prompts))
    return np.add.reduceat(altered, sessions.offsets[:-1]) if len(sessions) else np.zeros(0, np.int64)


def canonical_sessions(prompts: Sequence[str], offsets: NDArray[np.int64]) -> tuple[str, ...]:
    """Canonical texts of all prompts, each session's wrapper removed; session i owns `offsets[i]:offsets[i + 1]`."""
    texts = [canonical(prompt) for prompt in prompts]
    bounds = offsets.tolist()
    bare: list[str] = []
    for start, stop in itertools.pairwise(bounds):
        around = wrapper(texts[start : min(stop, start + N_OPENING)])
        own = texts[start:stop]
        bare.extend(own if around == Wrapper() else map(around.strip, own))
    return tuple(bare)
