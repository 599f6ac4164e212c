"""Look-alikes: letters of other scripts in place of Latin ones, after Unicode's table of confusables (UTS 39)."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Mapping

from serve.sessions.hidden_characters import SignSet

_WORD = re.compile(r"[^\W\d_]+")
_CYRILLIC = re.compile("[\u0400-\u0432\u0434-\u052f]")  # without the one that stands for "year"
_SEVERAL = 3
_GREEK = re.compile("[\u0370-\u03ff]")
_ASCII_LETTER = re.compile(r"[a-zA-Z]")
_SMALL_CAPITAL = "LATIN LETTER SMALL CAPITAL "
_RARE_LATIN = frozenset("\u0251\u0261")
"""Latin letters that pass for ASCII ones and are hardly anybody's; others are of an alphabet, or small capitals."""


@functools.cache
def _tables() -> tuple[Mapping[int, str], SignSet, frozenset[str]]:
    """The ASCII letter of each look-alike, the look-alikes, and those alike enough to fool a reader word by word."""
    from confusable_homoglyphs.confusables import confusables_data

    found: dict[str, str] = {}
    distant: dict[str, str] = {}
    for sign, others in confusables_data.items():
        letters = [other["c"] for other in others if len(other["c"]) == 1]
        if len(sign) != 1 or sign.isascii() or not sign.isalpha() or not letters:
            continue
        if _is_letter(letters[0]):
            found[sign] = letters[0]
        elif capital := _small_capital(letters[0]):
            distant[sign] = capital
    for sign in filter(_small_capital, map(chr, range(0x0250, 0x1D30))):
        distant[sign] = _small_capital(sign)
    close = frozenset(filter(_is_foreign, found))
    every = {sign: letter for sign, letter in (distant | found).items() if _is_foreign(sign)}
    capitals = {sign: every[sign.lower()] for sign in map(str.upper, every) if len(sign) == 1 and sign.lower() in every}
    every |= {sign: letter for sign, letter in capitals.items() if every.get(sign, "l") == "l"}  # the table's I is an l
    every = {sign: letter for sign, letter in every.items() if _is_foreign(sign)}
    return {ord(sign): letter.lower() for sign, letter in every.items()}, SignSet(every), close


def _is_letter(sign: str) -> bool:
    return sign.isascii() and sign.isalpha()


def _is_foreign(sign: str) -> bool:
    if unicodedata.normalize("NFKC", sign) != sign or sign.isascii():
        return False
    is_latin = unicodedata.name(sign, "").startswith("LATIN")
    return not is_latin or sign in _RARE_LATIN or bool(_small_capital(sign))


def _small_capital(sign: str) -> str:
    """The letter of a small capital, empty where `sign` is none."""
    name = unicodedata.name(sign, "")
    letter = name.removeprefix(_SMALL_CAPITAL) if name.startswith(_SMALL_CAPITAL) else ""
    return letter if len(letter) == 1 else ""


def with_latin_letters(text: str) -> str:
    """The text with look-alikes read as the Latin letters that they pass for.

    Only in words that mix them with ASCII letters; and in words of nothing else where the rest of the text is Latin. So
    a text in Russian or Greek stays as it is, and so do the Greek letters of a formula.
    """
    if text.isascii():
        return text
    table, found, close = _tables()
    if not found.is_met_in(text):
        return text
    every = found.signs
    others = " ".join(part for part in text.split() if not part.isascii())
    words = [word for word in set(_WORD.findall(others)) if not every.isdisjoint(word)]
    mixed = {word for word in words if _ASCII_LETTER.search(word) and _reads_as_latin(word, every)}
    whole = {word for word in words if close.issuperset(word) and (len(word) > 1 or _passes(word, text, mixed))}
    if not mixed and not whole:
        return text
    folded = mixed | whole if whole and _is_latin(text, every) else mixed
    return _WORD.sub(lambda word: word[0].translate(table) if word[0] in folded else word[0], text)


def _passes(letter: str, text: str, mixed: set[str]) -> bool:
    """Whether a look-alike that stands alone passes for a Latin letter: Cyrillic in a text without Cyrillic of its own,
    or Greek in a text with Greek letters inside several Latin words."""
    if _GREEK.match(letter):
        return sum(map(bool, map(_GREEK.search, mixed))) >= _SEVERAL
    return bool(_CYRILLIC.match(letter)) and _tables()[1].signs.issuperset(_CYRILLIC.findall(text))


def _reads_as_latin(word: str, every: frozenset[str]) -> bool:
    """Whether few letters are neither ASCII nor look like it, as in no real word that takes a Latin stem."""
    return 3 * sum(sign.isascii() or sign in every for sign in word) >= 2 * len(word)


def _is_latin(text: str, every: frozenset[str]) -> bool:
    """Whether at least as many letters are ASCII as belong to other scripts beyond doubt."""
    n_ascii = sum(map(len, re.findall(r"[a-zA-Z]+", text)))
    n_letters = sum(map(len, re.findall(r"[^\W\d_]+", text)))
    return n_ascii >= n_letters - n_ascii - sum(map(every.__contains__, text))
