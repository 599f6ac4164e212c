"""Wording: numbers with their nouns, as messages and summaries say them."""

from __future__ import annotations


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun: `1 row`, `2,000 rows`; `plural` where it isn't the noun with an s."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
