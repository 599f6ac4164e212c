"""Inbox: verdicts on their way to the review queue, so that judging never waits for its store."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable

from serve.analyst.review.cases import QueueDownError
from serve.analyst.review.queue import ReviewQueue
from serve.scoring.verdict import Verdict, Verdicts

MAX_PENDING = 4096
"""Verdicts that wait at most; beyond that the oldest are lost."""


class Inbox:
    """The last verdict on each session since the queue was reached last. Safe between threads."""

    def __init__(self, queue: ReviewQueue) -> None:
        """Begin empty."""
        self._queue = queue
        self._pending: OrderedDict[tuple[str, str], Verdict] = OrderedDict()
        self._lock, self._flushing = threading.Lock(), threading.Lock()
        self._is_down = False

    def add(self, verdicts: Verdicts) -> None:
        """Take what was judged, in place of what is waiting of the same sessions."""
        self._take(verdicts)

    def flush(self) -> None:
        """Bring everything that waits to the queue.

        Raises:
            QueueDownError: when it can't be reached; what waits goes on waiting.
        """
        with self._flushing:
            with self._lock:
                taken, self._pending = self._pending, OrderedDict()
            if not taken:
                return
            try:
                self._queue.put(tuple(taken.values()))
            except QueueDownError:
                with self._lock:
                    later, self._pending = self._pending, taken
                    self._put(later.values())
                raise

    def flush_if_up(self) -> None:
        """As `flush`, but a queue that can't be reached is logged, once, and tried again the next time."""
        try:
            self.flush()
        except QueueDownError as fault:
            if not self._is_down:
                logging.getLogger("stillwatch").warning("%s; verdicts are judged all the same", fault)
            self._is_down = True
        else:
            self._is_down = False

    def _take(self, verdicts: Iterable[Verdict]) -> None:
        with self._lock:
            self._put(verdicts)

    def _put(self, verdicts: Iterable[Verdict]) -> None:
        for verdict in verdicts:
            key = (verdict.account_id, verdict.session_id)
            self._pending.pop(key, None)
            self._pending[key] = verdict
        while len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)
