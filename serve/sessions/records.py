"""Exchange, Session and Sessions: what a client sent, checked once here and trusted everywhere after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serve.sessions.chunking import chunk_bounds
from serve.sessions.prompt_text import prompt_text

TIMES = (-62_135_596_800.0, 253_402_300_800.0)
"""Seconds since 1970 from the year 1 (inclusive) to the year 10,000."""


def full_name(account_id: str, session_id: str | None = None) -> str:
    """One name for an account, or one of its sessions: the account's length comes first, so no two have the same."""
    return f"{len(account_id)}:{account_id}{'' if session_id is None else ':' + session_id}"


def text_fault(text: str) -> str | None:
    """Why `text` can't be used as a prompt, or None. Never quotes the text."""
    return None if text.strip() else "prompt is blank"


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and TIMES[0] <= value < TIMES[1]


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Exchange:
    """One prompt that a client sent; `at` is in seconds since 1970 (UTC); no verdict depends on `system`.

    The prompt is kept as `prompt_text` makes it: NULs and lone surrogates replaced, and cut where it is very long.

    Raises:
        ValueError: when the prompt is no text or blank, or `at` lies outside `TIMES`.
    """

    prompt: str
    at: float | None = None
    system: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str):
            raise ValueError(f"prompt is of type {type(self.prompt).__name__}, expected str")
        if fault := text_fault(self.prompt):
            raise ValueError(fault)
        object.__setattr__(self, "prompt", prompt_text(self.prompt))
        if self.at is not None and not _is_time(self.at):
            raise ValueError("at is not a number of seconds between the years 1 and 9999")


@dataclass(frozen=True, slots=True)
class Session:
    """One account's exchanges, in order.

    Raises:
        ValueError: when there is no exchange, or an id is not a text.
    """

    session_id: str
    account_id: str
    exchanges: tuple[Exchange, ...]

    def __post_init__(self) -> None:
        for name, value in (("session_id", self.session_id), ("account_id", self.account_id)):
            if not isinstance(value, str) or not value:
                raise ValueError(f"{name} is {type(value).__name__}, expected a text that is not empty")
            if not _is_encodable(value):
                raise ValueError(f"{name} holds a lone surrogate")
        if not self.exchanges:
            raise ValueError("session has 0 exchanges, expected at least 1")


@dataclass(frozen=True, slots=True)
class Sessions:
    """Many sessions as columns, which is what all arithmetic reads.

    Session i owns the rows `offsets[i]:offsets[i + 1]` of `prompts` and `at` (seconds, NaN where unknown).
    """

    session_ids: tuple[str, ...]
    account_ids: tuple[str, ...]
    offsets: NDArray[np.int64]
    prompts: tuple[str, ...]
    at: NDArray[np.float64]

    @classmethod
    def of(cls, sessions: Iterable[Session]) -> Self:
        """Columns of these sessions, in their order."""
        rows = tuple(sessions)
        counts = [len(session.exchanges) for session in rows]
        exchanges = [exchange for session in rows for exchange in session.exchanges]
        return cls(
            session_ids=tuple(session.session_id for session in rows),
            account_ids=tuple(session.account_id for session in rows),
            offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
            prompts=tuple(exchange.prompt for exchange in exchanges),
            at=np.array([np.nan if exchange.at is None else exchange.at for exchange in exchanges], dtype=np.float64),
        )

    def __len__(self) -> int:
        return len(self.session_ids)

    @property
    def n_exchanges(self) -> NDArray[np.int64]:
        """Exchanges of each session, shape (n_sessions,)."""
        return np.diff(self.offsets)

    def chunks(self, n_prompts: int) -> Iterator[Sessions]:
        """Consecutive parts of about `n_prompts` prompts; no session is ever cut."""
        return (self.part(start, stop) for start, stop in chunk_bounds(self.offsets, n_prompts))

    def part(self, start: int, stop: int) -> Sessions:
        """Sessions `start` to `stop` (exclusive)."""
        low, high = int(self.offsets[start]), int(self.offsets[stop])
        return Sessions(
            session_ids=self.session_ids[start:stop],
            account_ids=self.account_ids[start:stop],
            offsets=self.offsets[start : stop + 1] - low,
            prompts=self.prompts[low:high],
            at=self.at[low:high],
        )
