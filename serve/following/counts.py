"""Counts: what a follower did since it started, as a record and as a line for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from serve.jobs.summary import MAX_REJECTED_SHARE
from serve.sessions.wording import counted


@dataclass(slots=True)
class Counts:
    """Rows read, sessions judged, those flagged, exchanges that wait, and rejected rows by reason."""

    n_rows: int = 0
    n_sessions: int = 0
    n_flagged: int = 0
    n_waiting: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def is_clean(self) -> bool:
        """Whether no more than `MAX_REJECTED_SHARE` of the rows were rejected."""
        return self.reasons.total() <= MAX_REJECTED_SHARE * self.n_rows

    def record(self) -> dict[str, Any]:
        """As plain values for JSON."""
        names = ("n_rows", "n_sessions", "n_flagged", "n_waiting")
        return {name: getattr(self, name) for name in names} | {
            "n_rejected": self.reasons.total(), "reasons": dict(self.reasons.most_common()), "is_clean": self.is_clean,
        }  # fmt: skip

    def text(self) -> str:
        """As one line."""
        rejected = f" ({self.reasons.total():,} rejected)" if self.reasons else ""
        read, judged = counted(self.n_rows, "row"), counted(self.n_sessions, "session")
        waiting = f"{counted(self.n_waiting, 'exchange')} {'waits' if self.n_waiting == 1 else 'wait'}"
        return f"{read} read{rejected}, {judged} judged, {self.n_flagged:,} flagged; {waiting}"
