"""Recently flagged: the last sessions that this process flagged, for people to look at; bounded, without prompts."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from serve.scoring.verdict import Verdicts

MAX_FLAGGED = 200


@dataclass(frozen=True, slots=True)
class FlaggedSession:
    """One flagged session as it was judged last."""

    account_id: str
    session_id: str
    n_exchanges: int
    score: float
    p_value: float


class RecentlyFlagged:
    """The last `MAX_FLAGGED` flagged sessions; one that isn't flagged any more leaves it. Safe between threads."""

    def __init__(self) -> None:
        """Begin without any."""
        self._cases: OrderedDict[tuple[str, str], FlaggedSession] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, verdicts: Verdicts) -> None:
        """Note what was judged."""
        with self._lock:
            for row in range(len(verdicts)):
                key = (verdicts.account_ids[row], verdicts.session_ids[row])
                self._cases.pop(key, None)
                if verdicts.label[row] == "harvesting":
                    score, p_value = float(verdicts.score[row]), float(verdicts.p_value[row])
                    self._cases[key] = FlaggedSession(*key, int(verdicts.n_exchanges[row]), score, p_value)
            while len(self._cases) > MAX_FLAGGED:
                self._cases.popitem(last=False)

    def cases(self) -> tuple[FlaggedSession, ...]:
        """Flagged sessions, the last judged first."""
        with self._lock:
            return tuple(reversed(self._cases.values()))
