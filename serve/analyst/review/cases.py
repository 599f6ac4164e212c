"""Cases: what the review queue says of a session, and what analysts decided."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from serve.scoring.explanation import Evidence, Reason
from serve.scoring.verdict import Verdict

State = Literal["new", "confirmed", "cleared", "escalated"]
STATES: tuple[str, ...] = get_args(State)
"""States of a flagged session: nobody decided yet; it harvests; it doesn't; somebody else has to look."""

SORTS = ("p_value", "score", "n_exchanges", "latest", "account")
MAX_NOTE_CHARS = 500
PAGE = 50
"""Cases of one page of the queue."""

MAX_COUNTED = 1_000
"""Cases after the first one shown that a search counts."""


class QueueDownError(OSError):
    """The store of the queue does not answer."""


class DecidedMeanwhileError(ValueError):
    """Somebody else decided while this decision was made."""


@dataclass(frozen=True, slots=True)
class Case:
    """One session as it was judged last; `state` is empty where it is not flagged and nobody decided. Times in seconds
    since 1970; `areas` are shares of its prompts."""

    account_id: str
    session_id: str
    n_exchanges: int
    started_at: float | None
    ended_at: float | None
    score: float
    p_value: float
    threshold: float
    label: str
    state: str
    areas: Mapping[str, float]
    bundle: str
    judged_at: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody decided of one session of an account, or, where `session_id` is None, of all `n_sessions` that were
    in the queue; `verdict` is that of the clearest of them as it was then. `at` in seconds since 1970."""

    number: int
    account_id: str
    session_id: str | None
    n_sessions: int
    state: str
    note: str
    by: str
    at: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which cases of the queue: of a state, or of all; those whose ids hold a text; sorted; from a page on, from 0.

    Raises:
        ValueError: when the state or the order is none that is known.
    """

    state: str = "new"
    text: str = ""
    sort: str = "p_value"
    page: int = 0

    def __post_init__(self) -> None:
        if self.state not in (*STATES, "all"):
            raise ValueError(f"state is none of {', '.join(STATES)}, all")
        if self.sort not in SORTS:
            raise ValueError(f"sort is none of {', '.join(SORTS)}")


@dataclass(frozen=True, slots=True)
class QueuePage:
    """Cases of one page, how many there are in all (where a text is looked for, as far as they were counted), and how
    many of each state, whatever was wanted."""

    wanted: Wanted
    cases: tuple[Case, ...]
    n_found: int
    counts: Mapping[str, int]

    @property
    def is_counted(self) -> bool:
        """Whether all that was found was counted."""
        return not self.wanted.text or self.n_found <= self.wanted.page * PAGE + MAX_COUNTED

    @property
    def n_pages(self) -> int:
        """Pages of what was wanted, at least 1."""
        return max(1, -(-self.n_found // PAGE))


def packed(verdict: Verdict) -> bytes:
    """A verdict as bytes that `unpacked` reads."""
    row = _plain(verdict) | {name: dict(getattr(verdict, name)) for name in ("coverage", "area_share")}
    row |= {name: [_plain(own) for own in getattr(verdict, name)] for name in ("reasons", "evidence")}
    return zlib.compress(json.dumps(row, separators=(",", ":")).encode())


def _plain(record: Verdict | Reason | Evidence) -> dict[str, Any]:
    """The fields of a record; `dataclasses.asdict` copies them all, which takes ten times as long."""
    return {name: getattr(record, name) for name in record.__slots__}


def unpacked(data: bytes) -> Verdict:
    """The verdict of these bytes."""
    return verdict_of(json.loads(zlib.decompress(data)))


def verdict_of(row: Mapping[str, Any]) -> Verdict:
    """A verdict of what `dataclasses.asdict` made of it."""
    reasons, evidence = (
        tuple(record(**own) for own in row[name]) for name, record in (("reasons", Reason), ("evidence", Evidence))
    )
    return Verdict(**(dict(row) | {"reasons": reasons, "evidence": evidence}))
