"""Prompt text: a prompt as it is stored, whatever was sent; nobody leaves the files by one character or by length."""

from __future__ import annotations

import re

from serve.sessions.attachments import shortened, without_data
from serve.sessions.wrappers import strip_wrappers

MAX_PROMPT_CHARS = 100_000
"""Characters of a prompt; of a longer one the head and the tail are kept, without files and wrappers."""

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def storable(text: str) -> str:
    """The text with U+FFFD in place of each NUL and each lone surrogate, which files and encoders can't hold."""
    if text.isascii():
        return text.replace("\0", _REPLACEMENT)
    return _NO_TEXT.sub(_REPLACEMENT, text)


def prompt_text(text: str) -> str:
    """A prompt that can be stored, of at most `MAX_PROMPT_CHARS`; it has the same canonical text as the one given."""
    text = storable(text)
    if len(text) <= MAX_PROMPT_CHARS:
        return text
    return shortened(without_data(strip_wrappers(text) or text), MAX_PROMPT_CHARS)
