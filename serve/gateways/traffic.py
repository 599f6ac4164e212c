"""Traffic: requests that gateways and tracers report, added to live sessions of their accounts, each prompt once."""

from __future__ import annotations

import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from serve.io.log_files.files import Log
from serve.io.log_files.json_records import Record
from serve.io.logs.requests import Outcome, Rejected, Request, Skipped, Turn
from serve.io.logs.threads import Ask, Threads, text_hash
from serve.live.growing_sessions import Observation
from serve.sessions.records import Exchange

MAX_TURNS = 500_000
"""Turns that are remembered, of all accounts together; a turn takes some 300 bytes."""

MAX_ID_CHARS = 256
UNNAMED = "requests that name no account"
LONG_ID = f"requests with an id of more than {MAX_ID_CHARS} characters"


class ReceivedLog(Log):
    """A log that was received, not read: its rows are values in memory."""

    def __init__(self, rows: Iterable[object]) -> None:
        """Rows in order; a `Record` among them stands for itself."""
        super().__init__("received")
        self._rows = rows

    def records(self) -> Iterator[Record]:
        """Every row."""
        for line, row in enumerate(self._rows, 1):
            yield row if isinstance(row, Record) else Record(line, row)


class Extend(Protocol):
    """Adds exchanges to a live session; without an id, to the account's own, which pauses cut."""

    def __call__(self, account_id: str, exchanges: tuple[Exchange, ...], session_id: str | None, /) -> Observation:
        """The verdict after them."""
        ...


class KnownTurns:
    """Which turns of each account are known, as hashes; safe between threads.

    The accounts that were heard of least recently are forgotten first, and one that alone takes a quarter of the room:
    the history of their conversations counts again then. A request without a new turn counts as one, since its id is
    remembered, too.
    """

    def __init__(self, max_turns: int = MAX_TURNS) -> None:
        """Know nothing yet."""
        self._max_turns = max_turns
        self._accounts: OrderedDict[str, tuple[Threads, int]] = OrderedDict()
        self._n_turns = 0
        self._lock = threading.Lock()

    @property
    def n_turns(self) -> int:
        """How many are remembered."""
        return self._n_turns

    def new(self, account_id: str, request: Request) -> tuple[Turn, ...]:
        """The turns of a request that are new, which are known from now on."""
        talk = request.talk
        ask = Ask(
            tuple(text_hash(turn.text) for turn in talk.turns), tuple(turn.after_summary for turn in talk.turns),
            request.at, request.session_id, request.branch, request.key, _short(request.request_id),
            _short(request.follows), request.is_stateful, talk.has_answers,
        )  # fmt: skip
        with self._lock:
            threads, n = self._accounts.pop(account_id, (Threads(), 0))
            places = threads.add(ask).new
            n_more = max(len(places), 1)
            self._n_turns += n_more
            if n + n_more > self._max_turns // 4:
                self._n_turns -= n + n_more
            else:
                self._accounts[account_id] = threads, n + n_more
            while self._n_turns > self._max_turns:
                self._n_turns -= self._accounts.popitem(last=False)[1][1]
        return tuple(talk.turns[place] for place in places)


@dataclass(slots=True)
class Taken:
    """What became of a report: requests and new prompts, what was left out by reason, and the verdicts after it."""

    n_requests: int = 0
    n_prompts: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    observations: list[Observation] = field(default_factory=list)


class Traffic:
    """What is reported, on its way into live sessions; safe between threads."""

    def __init__(self, extend: Extend, known: KnownTurns | None = None) -> None:
        """Add to live sessions with `extend`."""
        self._extend = extend
        self._known = known or KnownTurns()

    def take(self, outcomes: Iterable[Outcome], now: float) -> Taken:
        """Add the new prompts of requests, in order of time; those without a time are of `now`, seconds since 1970.

        Raises:
            whatever `extend` raises: what was added before it stays.
        """
        taken, requests = Taken(), list[Request]()
        for outcome in outcomes:
            if isinstance(outcome, Rejected):
                taken.rejected[outcome.reason] += 1
            elif isinstance(outcome, Skipped):
                taken.skipped[outcome.reason] += 1
            else:
                requests.append(outcome)
        requests.sort(key=lambda request: _time(request.at, now))
        taken.n_requests = len(requests)
        for (account_id, session_id), exchanges in self._new(requests, now, taken).items():
            taken.n_prompts += len(exchanges)
            taken.observations.append(self._extend(account_id, tuple(exchanges), session_id))
        return taken

    def _new(self, requests: list[Request], now: float, taken: Taken) -> dict[tuple[str, str | None], list[Exchange]]:
        """The new exchanges of each session."""
        found: dict[tuple[str, str | None], list[Exchange]] = {}
        for request in requests:
            account_id, session_id = request.account_id, request.session_id
            if account_id is None:
                taken.rejected[UNNAMED] += 1
            elif max(len(account_id), len(session_id or "")) > MAX_ID_CHARS:
                taken.rejected[LONG_ID] += 1
            else:
                at = _time(request.at, now)
                for turn in self._known.new(account_id, request):
                    own = found.setdefault((account_id, session_id), [])
                    own.append(Exchange(turn.text, _time(turn.at, at)))
        return found


def _short(request_id: str | None) -> str | None:
    """What an id is known by: it may be as long as a body."""
    return None if request_id is None else f"{text_hash(request_id):016x}"


def _time(at: float, otherwise: float) -> float:
    return otherwise if math.isnan(at) else at
