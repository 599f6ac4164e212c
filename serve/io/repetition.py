"""Repetition: plain rows that were made from whole requests, so that each repeats the history of its session."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from serve.io.discovery import InputError
from serve.io.logs.threads import text_hash
from serve.io.reading import read_paths

MIN_SHARE = 0.2
"""Share of repeating rows above which a warning is due."""

_MAX_ROWS = 50_000


@dataclass(slots=True)
class _Session:
    """What a session holds so far, and how far the newest rows repeat it from its beginning."""

    texts: list[int] = field(default_factory=list)
    place: int = 0
    has_begun_again: bool = False

    def n_repeats(self, text: int) -> int:
        """Take a row in: how many rows are now known to be repeats, which the row before may be, too."""
        if 0 < self.place < len(self.texts) and self.texts[self.place] == text:
            self.place += 1
            return 2 if self.place == 2 else 1
        if self.texts and self.texts[0] == text:
            self.place, self.has_begun_again = 1, True
            return 0
        was_whole = self.has_begun_again and self.place == len(self.texts) == 1
        self.texts.append(text)
        self.place, self.has_begun_again = len(self.texts), False
        return int(was_whole)


def repeated_share(rows: Iterable[tuple[str, str]]) -> float:
    """The share of rows, 0-1, that repeat the beginning of their session: `(session, prompt)` in order.

    A repeat begins with the session's first prompt and goes on as the session did; one prompt over and over, as a
    product sends it, is none.
    """
    sessions: dict[str, _Session] = {}
    n_rows = n_repeats = 0
    for name, prompt in rows:
        n_rows += 1
        n_repeats += sessions.setdefault(name, _Session()).n_repeats(text_hash(prompt))
    return n_repeats / n_rows if n_rows else 0.0


def warning(paths: Sequence[Path]) -> str | None:
    """What to say of files whose first rows repeat the history of their sessions; None where they don't, or can't be
    read, which is for the job to say."""
    try:
        share = repeated_share(islice(_first_rows(paths), _MAX_ROWS))
    except InputError:
        return None
    if share < MIN_SHARE:
        return None
    return (
        f"warning: {share:.0%} of the first rows repeat the beginning of their session, as rows made from requests do; "
        "stillwatch import counts a history once"
    )


def _first_rows(paths: Sequence[Path]) -> Iterable[tuple[str, str]]:
    for batch in read_paths(paths):
        columns = (batch.table.column(name).to_pylist() for name in ("account_id", "session_id", "prompt"))
        for account_id, session_id, prompt in zip(*columns, strict=True):
            yield f"{account_id}/{session_id}", prompt
