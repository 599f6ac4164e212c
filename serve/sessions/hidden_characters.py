"""Hidden characters: what a reader doesn't see and a model reads past, so that it may hide words from a watcher.

Zero-width and bidi controls, tags, variation selectors, soft hyphens, control characters, what stands in place of
bytes that are no text, and marks piled on a letter.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

MAX_MARKS = 8
"""Combining marks in a row that are read; without a bound, normalising a text takes quadratic time."""
_PILED = 3
_TABLE_SIZE = 1 << 17  # characters above share the last place
_LONG = 300
_VISIBLE_CONTROLS = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85")
_ALSO_HIDDEN = (
    "\u034f\u0488\u0489\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\ua670\ua671\ua672\uffa0\ufffd"
)
_EMOJI_CLASS = "\u2190-\u27ff\u2900-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"


class SignSet:
    """A set of characters that are looked for in texts, in a long one by a table of their codes."""

    def __init__(self, signs: Iterable[str]) -> None:
        """Of these characters."""
        self.signs = frozenset(signs)
        table = np.zeros(_TABLE_SIZE, np.bool_)
        table[np.minimum([ord(sign) for sign in self.signs], _TABLE_SIZE - 1)] = True
        self._table = table
        self._others = bytes(code for code in range(128) if chr(code) not in self.signs)

    def is_met_in(self, text: str) -> bool:
        """Whether any character of the text is one of the set."""
        if len(text) >= _LONG:
            codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
            if not self._table.take(codes, mode="clip").any():
                return False
        rest = text.encode("utf-8", "surrogatepass").translate(None, self._others).decode("utf-8", "surrogatepass")
        return not self.signs.isdisjoint(rest)


def _class(signs: Iterable[str]) -> str:
    """A character class of these signs, as ranges."""
    ranges: list[list[int]] = []
    for code in sorted(map(ord, signs)):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)


def _is_hidden(sign: str) -> bool:
    return unicodedata.category(sign) in ("Cc", "Cf", "Cs") and sign not in _VISIBLE_CONTROLS


def _is_mark(sign: str) -> bool:
    """Whether a sign becomes nothing but combining marks."""
    if unicodedata.combining(sign):
        return True
    becomes = unicodedata.decomposition(sign).split(">")[-1].split()
    return bool(becomes) and all(unicodedata.combining(chr(int(code, 16))) for code in becomes)


def _leaves_marks(sign: str) -> bool:
    """Whether a sign, composed and in lower case, is or holds a mark, or is not composed any more."""
    lower = unicodedata.normalize("NFKC", sign).lower()
    return any(map(_is_mark, lower)) or not unicodedata.is_normalized("NFKC", lower)


_CODES = (*range(10), *range(11, 0x3400), *range(0xA000, 0xAC00), *range(0xF900, 0x1F000))  # but the line feed
"""All characters that have hidden or changing ones among them."""
_DIACRITICAL_CLASS = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20dc\u20e1\u20e5-\u20f0\ufe20-\ufe2f"
_EMOJI = f"[{_EMOJI_CLASS}]\ufe0f?(?:\u200d[{_EMOJI_CLASS}]\ufe0f?)*|[0-9#*]\ufe0f\u20e3"
_PILE = re.compile(f"[{_DIACRITICAL_CLASS}]{{{_PILED},}}")
_DIACRITICAL = re.compile(f"[{_DIACRITICAL_CLASS}]+")


@functools.cache
def _hidden() -> tuple[str, ...]:
    return tuple(sign for sign in map(chr, _CODES) if not sign.isprintable() and _is_hidden(sign))


@functools.cache
def _changing() -> tuple[str, ...]:
    """Those that are marks, or become other ones in lower case or decomposed: all that may be or leave a mark."""
    one_a_line = "\n".join(map(chr, _CODES))
    forms = (one_a_line, one_a_line.lower(), unicodedata.normalize("NFKD", one_a_line))
    rows = zip(*(text.split("\n") for text in forms), strict=True)
    return tuple(sign for sign, *others in rows if others != [sign, sign] or unicodedata.combining(sign))


@functools.cache
def not_plain() -> SignSet:
    """Characters that a text without hidden ones and without marks doesn't hold; made for the first text that isn't
    ASCII, since it takes longer than to judge a session."""
    return SignSet((
        *_hidden(), *_ALSO_HIDDEN, *filter(_leaves_marks, _changing()), *map(chr, range(0xFE00, 0xFE10)),
        *map(chr, range(0xD800, 0xE000)), *map(chr, range(0xE0000, 0xE1000)),
        *filter(_DIACRITICAL.match, map(chr, _CODES)),
    ))  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Patterns:
    """What a text with a character of `not_plain` is searched with."""

    emoji_or_hidden: re.Pattern[str]
    many_marks: re.Pattern[str]
    among_letters: re.Pattern[str]


@functools.cache
def _patterns() -> _Patterns:
    hidden = _class(_hidden()) + _ALSO_HIDDEN + "\ud800-\udfff\ufe00-\ufe0f\U000e0000-\U000e0fff"
    marks = _class(filter(_is_mark, _changing()))
    return _Patterns(
        emoji_or_hidden=re.compile(f"({_EMOJI})|[{hidden}]+"),
        many_marks=re.compile(f"([{marks}]{{{MAX_MARKS}}})[{marks}]+"),
        among_letters=re.compile(
            f"\ufffd|[\U000e0000-\U000e007f]|[A-Za-z ][{hidden}]|[A-Za-z][{_DIACRITICAL_CLASS}]{{2}}"
        ),
    )


CONTROLS = bytes(code for code in (*range(32), 127) if chr(code) not in _VISIBLE_CONTROLS)
"""Hidden characters of ASCII."""


def without_hidden(text: str) -> str:
    """The text without hidden characters, but those that emoji are made with.

    At most `MAX_MARKS` marks in a row are left, and none where diacritics pile up.
    """
    if not _may_hide(text):
        return text
    return " ".join(part if _is_plain(part) else _shown(part) for part in text.split(" "))  # none of them has blanks


def _is_plain(part: str) -> bool:
    return part.isascii() and part.isprintable()


def _shown(part: str) -> str:
    patterns = _patterns()
    return patterns.many_marks.sub(r"\1", _PILE.sub("", patterns.emoji_or_hidden.sub(r"\1", part)))


def without_diacritics(text: str) -> str:
    """A composed text without the diacritics that no letter took in."""
    return _DIACRITICAL.sub("", text)


def has_hidden(text: str) -> bool:
    """Whether hidden characters stand where no script and no emoji needs them: after an ASCII letter or a blank."""
    return _may_hide(text) and (text.isascii() or _patterns().among_letters.search(text) is not None)


def _may_hide(text: str) -> bool:
    if text.isascii():
        return len(text.encode().translate(None, CONTROLS)) < len(text)
    return not_plain().is_met_in(text)
