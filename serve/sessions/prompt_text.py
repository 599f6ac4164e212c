"""Prompt text: a prompt as it is stored, whatever was sent; nobody leaves the files by one character or by length."""

from __future__ import annotations

import re

from serve.sessions.attachments import shortened, without_data
from serve.sessions.wrappers import strip_wrappers

MAX_PROMPT_CHARS = 100_000
"""Characters of a prompt; of a longer one the head and the tail are kept, without files and wrappers."""

MAX_READ_CHARS = 1_000_000
"""Characters of a text that are looked at: searching more at once would keep everything else waiting."""

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def storable(text: str) -> str:
    """The text with U+FFFD in place of each NUL and each lone surrogate, which files and encoders can't hold."""
    if text.isascii():
        return text.replace("\0", _REPLACEMENT)
    return _NO_TEXT.sub(_REPLACEMENT, text)


def both_ends(text: str) -> str:
    """The text, or the first and the last half million characters of one that is longer than `MAX_READ_CHARS`."""
    half = MAX_READ_CHARS // 2
    return text if len(text) <= MAX_READ_CHARS else text[:half] + text[-half:]


def prompt_text(text: str) -> str:
    """A prompt that can be stored, of at most `MAX_PROMPT_CHARS`.

    It has the same canonical text as the one given, or as both ends of one that is longer than `MAX_READ_CHARS`.
    """
    text = storable(both_ends(text))
    if len(text) <= MAX_PROMPT_CHARS:
        return text
    return shortened(without_data(strip_wrappers(text) or text), MAX_PROMPT_CHARS)
