"""Canonical text: a prompt without what a sender changes for free, which is what everything reads that judges it.

All of it takes time linear in the length of the prompt, whatever is in it.
"""

from __future__ import annotations

import unicodedata

from serve.sessions import hidden_characters, look_alikes
from serve.sessions.attachments import MAX_CHARS, MIN_BLOCK, MIN_DATA, are_long, shortened, without_data
from serve.sessions.wrappers import may_be_wrapped, strip_wrappers

_FINAL = " .!?…。！？;:,"
_OF_ONE_LINE = bytes(code for code in range(128) if code >= 32 and code not in b"<[;\x7f")
_SEVERAL = bytes(code for code in range(128) if code not in _OF_ONE_LINE)
"""Characters of ASCII that break lines, are hidden, or may open what is to be taken out."""
_MAX_RAW_CHARS = 4 * MAX_CHARS
_MAX_ROUNDS = 4
_STEP = MIN_BLOCK // 2
_LONG_WORDS = 10


def canonical(text: str) -> str:
    """The text as it is encoded: NFKC, lower case, single spaces, no final punctuation.

    Without hidden characters, without what a harness wraps around it, with Latin letters in place of look-alikes, a
    marker in place of data, and only the head and the tail of what is longer than `attachments.MAX_CHARS`. A text of
    nothing else is kept, so that nothing becomes empty. The canonical text of a canonical text is the same text.
    """
    return (_plain_ascii(text) if text.isascii() else _plain(text)) or _of_any(text)


def is_altered(text: str) -> bool:
    """Whether a prompt has hidden characters, piled marks or look-alikes among Latin letters, as ordinary ones don't.

    One such prompt means little (texts are pasted from anywhere); many of one account are a sign by themselves.
    """
    if hidden_characters.has_hidden(text):
        return True
    if text.isascii():
        return False
    composed = unicodedata.normalize("NFKC", hidden_characters.without_hidden(shortened(text, _MAX_RAW_CHARS)))
    return look_alikes.with_latin_letters(composed) != composed


def _plain_ascii(text: str) -> str:
    """The canonical text of an ASCII text that has nothing to be taken out; empty where there may be."""
    if len(text) > MAX_CHARS:
        return ""
    raw = text.encode()
    if len(raw.translate(None, _SEVERAL)) == len(raw) and "  " not in text:
        folded = text.strip(" ").lower()
        n_words = folded.count(" ") + 1
    else:
        words = raw.translate(None, hidden_characters.CONTROLS).decode().lower().split()
        folded, n_words = " ".join(words), len(words)
        if ";base64," in folded or may_be_wrapped(folded):
            return ""
    if len(folded) >= MIN_DATA and _may_hold_data(folded, n_words) and are_long(folded.split(" ")):
        return ""
    return folded.rstrip(_FINAL) or folded


def _may_hold_data(folded: str, n_words: int) -> bool:
    """Whether words are long, or one may have `MIN_BLOCK` characters: such a one covers one of the steps whole."""
    if len(folded) > _LONG_WORDS * n_words:
        return True
    for start in range(_STEP, len(folded) - _STEP, _STEP):  # noqa: SIM110 (half the time of any() here)
        if folded.find(" ", start, start + _STEP) < 0:
            return True
    return False


def _plain(text: str) -> str:
    """`_plain_ascii` for texts of any script."""
    if len(text) > MAX_CHARS or hidden_characters.not_plain().is_met_in(text):
        return ""
    composed = unicodedata.normalize("NFKC", text)
    lower = composed.lower()
    words = lower.split()
    folded = " ".join(words)
    if len(lower) > MAX_CHARS or ";base64," in folded or may_be_wrapped(folded):
        return ""
    if are_long(words) and without_data(composed) != composed:
        return ""
    if any(look_alikes.with_latin_letters(own) != own for own in {composed, lower}):  # of Σ only σ looks like a letter
        return ""
    return folded.rstrip(_FINAL) or folded


def _of_any(text: str) -> str:
    for _ in range(_MAX_ROUNDS):  # what is taken out may lay bare what is to be taken out
        shown = _shown(text)
        if shown == text or (plain := _plain_ascii(shown) if shown.isascii() else _plain(shown)) == shown:
            return shown
        text = plain or shown
    return text


def _shown(text: str) -> str:
    if len(text) > _MAX_RAW_CHARS:
        text = shortened(without_data(strip_wrappers(text) or text), _MAX_RAW_CHARS)
    composed = unicodedata.normalize("NFKC", hidden_characters.without_hidden(text) or text)
    latin = look_alikes.with_latin_letters(composed)
    own = without_data(_own_words(latin))
    lower = hidden_characters.without_diacritics(_composed(shortened(own).lower()))
    folded = " ".join(lower.split()) or " ".join(composed.split())
    return shortened(folded.rstrip(_FINAL) or folded)


def _own_words(text: str) -> str:
    """The text without wrappers, or all of it where they are all that it says."""
    own = strip_wrappers(text)
    return own if any(map(str.isalnum, own)) else text


def _composed(text: str) -> str:
    return text if unicodedata.is_normalized("NFKC", text) else unicodedata.normalize("NFKC", text)
