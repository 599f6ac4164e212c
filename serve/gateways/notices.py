"""Notices: sessions that turn to harvesting, on their way to a receiver, so that judging never waits for it."""

from __future__ import annotations

import hashlib
import heapq
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Protocol, Self

from serve.scoring.verdict import Verdict, Verdicts
from serve.sessions.records import full_name

MAX_WAITING = 1024
"""Notices that wait at most; beyond that the newest are dropped."""

RETRY_S = (1.0, 5.0, 25.0, 125.0, 625.0)
"""How long after each failure a notice is sent again, in seconds; after the last it has failed."""

MAX_SENT = 65_536
"""Sessions that are remembered, so that each is sent once."""

OUTCOMES = ("sent", "failed", "dropped")


@dataclass(frozen=True, slots=True)
class Notice:
    """What is sent of a session: ids and numbers, no text of a prompt. `judged_at` is in seconds since 1970."""

    session_id: str
    account_id: str
    n_exchanges: int
    score: float
    p_value: float
    threshold: float
    bundle: str
    judged_at: float

    @classmethod
    def of(cls, verdict: Verdict, judged_at: float) -> Self:
        """The notice of a verdict."""
        return cls(
            verdict.session_id, verdict.account_id, verdict.n_exchanges, verdict.score, verdict.p_value,
            verdict.threshold, verdict.bundle, judged_at,
        )  # fmt: skip

    @property
    def notice_id(self) -> str:
        """The same for each notice of a session, from every replica and after a restart; no two sessions share it."""
        name = full_name(self.account_id, self.session_id)
        return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class Receiver(Protocol):
    """Takes notices."""

    @property
    def name(self) -> str:
        """What it is called in logs and metrics."""

    def send(self, notice: Notice) -> int:
        """The HTTP status that a notice is answered with.

        Raises:
            OSError: when there is no answer.
            HTTPException: when what answers is no HTTP.
        """


@dataclass(frozen=True, slots=True, order=True)
class _Waiting:
    due_at: float
    n_tries: int
    notice: Notice = field(compare=False)


class Notices:
    """A bounded queue to a receiver, worked off by one thread, which begins with the first notice."""

    def __init__(
        self,
        receiver: Receiver,
        count: Callable[[str], None],
        *,
        max_waiting: int = MAX_WAITING,
        retry_s: tuple[float, ...] = RETRY_S,
    ) -> None:
        """Begin empty; `count` is called with the outcome of each notice, one of `OUTCOMES`."""
        self._receiver, self._count = receiver, count
        self._max_waiting, self._retry_s = max_waiting, retry_s
        self._waiting: list[_Waiting] = []
        self._sent: OrderedDict[str, None] = OrderedDict()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closing = self._is_down = False

    def add(self, verdicts: Verdicts) -> None:
        """Send each session that is flagged, once; returns at once.

        One that was dropped, or failed, is sent when it is judged again.
        """
        for index in verdicts.is_flagged.nonzero()[0].tolist():
            notice = Notice.of(verdicts.verdict(index), time.time())
            with self._changed:
                self._take(notice)

    def _take(self, notice: Notice) -> None:
        if notice.notice_id in self._sent:
            self._sent.move_to_end(notice.notice_id)
            return
        if self._is_closing or len(self._waiting) >= self._max_waiting:
            self._count("dropped")
            return
        self._sent[notice.notice_id] = None
        if len(self._sent) > MAX_SENT:
            self._sent.popitem(last=False)
        heapq.heappush(self._waiting, _Waiting(time.monotonic(), 0, notice))
        if self._thread is None:
            name = f"stillwatch-{self._receiver.name}"
            self._thread = threading.Thread(target=self._work_off, name=name, daemon=True)
            self._thread.start()
        self._changed.notify()

    def close(self, seconds: float) -> None:
        """Try once more what waits, for at most so long; what is left then is dropped."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(seconds)
        with self._changed:
            left, self._waiting = self._waiting, []
            for own in left:
                self._sent.pop(own.notice.notice_id, None)
                self._count("dropped")

    def _work_off(self) -> None:
        while (waiting := self._next()) is not None:
            self._settle(waiting, self._fault(waiting.notice))

    def _next(self) -> _Waiting | None:
        """What is due, waited for; while closing everything is, and None ends the thread."""
        with self._changed:
            while not self._is_closing:
                wait_s = self._waiting[0].due_at - time.monotonic() if self._waiting else None
                if wait_s is not None and wait_s <= 0:
                    break
                self._changed.wait(wait_s)
            return heapq.heappop(self._waiting) if self._waiting else None

    def _fault(self, notice: Notice) -> str | None:
        """Why a notice was not taken, None where it was."""
        try:
            status = self._receiver.send(notice)
        except (OSError, HTTPException, UnicodeError) as fault:  # the last: a host that is no name
            return type(fault).__name__
        return None if 200 <= status < 300 else f"status {status}"

    def _settle(self, waiting: _Waiting, fault: str | None) -> None:
        if fault is not None and not self._is_down:
            logging.getLogger("stillwatch").warning("%s: %s; verdicts go on", self._receiver.name, fault)
        self._is_down = fault is not None
        if fault is None:
            self._count("sent")
            return
        with self._changed:
            if not self._is_closing and waiting.n_tries < len(self._retry_s):
                due_at = time.monotonic() + self._retry_s[waiting.n_tries]
                heapq.heappush(self._waiting, _Waiting(due_at, waiting.n_tries + 1, waiting.notice))
                return
            self._sent.pop(waiting.notice.notice_id, None)
        self._count("failed")
