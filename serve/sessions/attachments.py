"""Attachments: files in the text of a prompt (data: URLs, base64, dumps): only a marker or the ends are read."""

from __future__ import annotations

import re
from collections.abc import Sequence

MARKER = "[data]"
MAX_CHARS = 16_000
"""Characters of a text that are read: three quarters from its head, the others from its tail."""

MIN_BLOCK = 256
"""Characters of base64 or hexadecimal digits in a row that are data."""
_SURE_BLOCK = 1024
_MIN_CAPITALS = 5
"""In a shorter block at least one character of five is a capital, as in base64 and in few paths of URLs."""
MIN_LINE = 48
"""Characters of a line of base64; three such lines are data."""
_MIN_LINES = 3
MIN_DATA = _MIN_LINES * MIN_LINE
"""Characters of the shortest text that may hold data outside of a URL."""
_URL = re.compile(
    r"data:(?:[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,80})?(?:;[a-z0-9=_.+-]{1,80}){0,5},[a-z0-9+/=_%-]++",
    re.IGNORECASE | re.ASCII,
)
_SIGN = "[A-Za-z0-9+/_=-]"
_BLOCK = re.compile(rf"(?<!{_SIGN}){_SIGN}{{{MIN_BLOCK},}}+")
_LINE = rf"{_SIGN}{{{MIN_LINE},{MIN_BLOCK}}}+(?!\S)"
_LAST = r"\s++[A-Za-z0-9+/_-]{1,60}+={1,2}(?!\S)"
_LINES = re.compile(rf"(?<!\S){_LINE}(?:\s++{_LINE}){{{_MIN_LINES - 1},}}+(?:{_LAST})?")
_HEX = re.compile(r"[0-9a-fA-F\s]++")
_LETTERS = re.compile(r"[A-Z]"), re.compile(r"[a-z]"), re.compile(r"[0-9]")


def without_data(text: str) -> str:
    """The text with a marker in place of each base64 data: URL and each block of base64 or hexadecimal digits.

    A block is `MIN_BLOCK` characters in a row, or three lines of `MIN_LINE` or more.
    """
    if "data:" in text.lower():
        text = _URL.sub(lambda url: f" {MARKER} " if _is_file(url[0]) else url[0], text)
    if len(text) < MIN_DATA or not are_long(text.split()):
        return text
    return _LINES.sub(_marked, _BLOCK.sub(_marked, text))


def are_long(words: Sequence[str]) -> bool:
    """Whether a word has `MIN_BLOCK` ASCII characters, or three in a row have `MIN_LINE`: there is no data without."""
    if max(map(len, words), default=0) < MIN_LINE:
        return False
    n_before = 0
    for word in words:
        n_ascii = len(word.encode("ascii", "ignore")) if len(word) >= MIN_LINE else 0
        n_before = n_before + 1 if n_ascii >= MIN_LINE else 0
        if n_ascii >= MIN_BLOCK or n_before == _MIN_LINES:
            return True
    return False


def shortened(text: str, n_chars: int = MAX_CHARS) -> str:
    """The text, or the head and the tail of one that is longer than `n_chars` even with single blanks."""
    if len(text) <= n_chars:
        return text
    text = " ".join(text.split())
    if len(text) <= n_chars:
        return text
    n_head = n_chars * 3 // 4
    return f"{text[:n_head]} {text[-(n_chars - n_head - 1) :]}"


def _is_file(url: str) -> bool:
    head, _, content = url.partition(",")
    return head.lower().endswith(";base64") or (len(content) >= MIN_BLOCK and _is_encoded(content))


def _is_encoded(run: str) -> bool:
    if _HEX.fullmatch(run):
        return True
    is_sure = len(run) >= _SURE_BLOCK or _MIN_CAPITALS * len(_LETTERS[0].findall(run)) >= len(run)
    return is_sure and all(letters.search(run) for letters in _LETTERS)


def _marked(found: re.Match[str]) -> str:
    return f" {MARKER} " if _is_encoded(found[0]) else found[0]
