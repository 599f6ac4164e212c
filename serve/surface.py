"""Surface form: what a prompt looks like, and how to see past what a sender changes for free."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

_SPACES = re.compile(r"\s+")
_FINAL = " .!?…。！？;:,"
_MIN_PROMPTS = 4
_MIN_SHARE = 0.6
_MAX_WRAPPER_WORDS = 16


def canonical(text: str) -> str:
    """The text as it is encoded: NFKC, lower case, single spaces, no final punctuation.

    A text of punctuation only is kept as it is, so that nothing becomes empty.
    """
    folded = text if text.isascii() else unicodedata.normalize("NFKC", text)
    folded = _SPACES.sub(" ", folded.lower()).strip()
    return folded.rstrip(_FINAL) or folded


def without_wrapper(texts: Sequence[str]) -> tuple[str, ...]:
    """These canonical texts of one session without the prefix and the suffix that most of them share.

    A wrapper is up to 16 words that open (or close) at least 60 % of four or more texts. What a sender puts in front of
    every prompt says nothing about what is asked; a longer shared template is left in place. A text that is nothing but
    the wrapper is kept whole.
    """
    if len(texts) < _MIN_PROMPTS:
        return tuple(texts)
    prefix = _shared([text[:400].split(" ") for text in texts])
    suffix = _shared([text[-400:].split(" ")[::-1] for text in texts])
    head = " ".join(prefix) + " " if 0 < len(prefix) <= _MAX_WRAPPER_WORDS else ""
    tail = " " + " ".join(reversed(suffix)) if 0 < len(suffix) <= _MAX_WRAPPER_WORDS else ""
    if not head and not tail:
        return tuple(texts)
    return tuple(_bare(text, head, tail) for text in texts)


def _shared(rows: Sequence[Sequence[str]]) -> list[str]:
    """The longest run of first words that at least `_MIN_SHARE` of the rows have in common."""
    needed = _MIN_SHARE * len(rows)
    shared: list[str] = []
    alive = list(rows)
    while alive and len(shared) <= _MAX_WRAPPER_WORDS:
        depth = len(shared)
        words = Counter(row[depth] for row in alive if len(row) > depth + 1)
        if not words:
            break
        word, count = words.most_common(1)[0]
        if count < needed:
            break
        shared.append(word)
        alive = [row for row in alive if len(row) > depth + 1 and row[depth] == word]
    return shared


def _bare(text: str, head: str, tail: str) -> str:
    bare = text.removeprefix(head) if head else text
    bare = bare.removesuffix(tail) if tail else bare
    return bare.strip() or text
