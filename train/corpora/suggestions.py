"""Suggestions: what somebody who misspelt a name may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def suggestion(name: str, valid: Sequence[str]) -> str:
    """', did you mean …?' with the valid name most like `name`, or ', expected one of …'."""
    last = {full.rpartition(".")[2]: full for full in reversed(valid)}
    close = difflib.get_close_matches(name, valid, 1, 0.75)
    close = close or [last[part] for part in difflib.get_close_matches(name.rpartition(".")[2], list(last), 1, 0.7)]
    if close:
        return f", did you mean {close[0]!r}?"
    return f", expected one of {', '.join(full for full in valid if '.' not in full)}"
