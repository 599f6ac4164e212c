"""Worker pool: threads that work off the event loop behind a short queue; when it is full, clients must come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from serve.http.problems import ProblemError

Result = TypeVar("Result")
_N_A_WAIT, _MAX_RETRY_AFTER_S = 16, 10
"""Of the requests that are refused in one second so many may come back after 1 s, as many more after 2 s, and so on."""

_CROWDED_S = 0.9
"""So long after a refusal nobody waits. While there are always more requests than room, waiting serves none of them
sooner: threads share the interpreter, so an answer takes as long as all that are inside. It is shorter than any retry
is told to wait, so that whoever comes back after the crowd finds the queue."""


def _nothing() -> None: ...


class WorkerPool:
    """`n_workers` threads, and room for `n_waiting` requests that wait for one; for none in a crowd."""

    def __init__(self, n_workers: int, n_waiting: int) -> None:
        """Open it.

        Raises:
            ValueError: when there are no workers.
        """
        if n_workers < 1 or n_waiting < 0:
            raise ValueError(f"{n_workers} workers and room for {n_waiting}, expected at least 1 and 0")
        self._pool = ThreadPoolExecutor(n_workers, thread_name_prefix="stillwatch")
        self._n_workers, self._n_waiting, self._crowded_until = n_workers, n_waiting, 0.0
        self._begun: set[Future[Any]] = set()
        self.n_inside = 0
        self._second, self._n_refused = 0, 0

    @property
    def is_full(self) -> bool:
        """Whether there is no room."""
        is_crowded = time.monotonic() < self._crowded_until
        return self.n_inside >= self._n_workers + (0 if is_crowded else self._n_waiting)

    def refuse_if_full(self) -> None:
        """Before a body is read.

        Raises:
            ProblemError: 503 when there is no room.
        """
        if self.is_full:
            raise ProblemError(503, "too many requests are waiting", retry_after=self._retry_after())

    def _retry_after(self) -> int:
        """Seconds until a retry, more the more are refused, so that not all of them come back at once."""
        now = time.monotonic()
        second, self._crowded_until = int(now), now + _CROWDED_S
        self._n_refused = self._n_refused + 1 if second == self._second else 1
        self._second = second
        return min(1 + (self._n_refused - 1) // _N_A_WAIT, _MAX_RETRY_AFTER_S)

    async def run(self, work: Callable[[], Result], after: Callable[[], None] = _nothing) -> Result:
        """The result of the work, done by a thread; it goes on even if whoever asked has left.

        `after` is called once when the work has ended, failed, or will never begin.

        Raises:
            ProblemError: 503 when there is no room.
        """
        try:
            self.refuse_if_full()
        except ProblemError:
            after()
            raise
        self.n_inside += 1
        loop = asyncio.get_running_loop()
        future = self._pool.submit(work)
        self._begun.add(future)
        future.add_done_callback(self._begun.discard)
        future.add_done_callback(lambda _: after())
        future.add_done_callback(lambda done: self._leave(loop, done))
        return await asyncio.wrap_future(future)

    def _leave(self, loop: asyncio.AbstractEventLoop, _: Future[Result]) -> None:
        def left() -> None:
            self.n_inside -= 1

        if not loop.is_closed():
            loop.call_soon_threadsafe(left)

    def close(self, seconds: float) -> bool:
        """Take no more work, and wait so long for what was begun; whether all of it has ended."""
        self._pool.shutdown(wait=False)
        return not wait(tuple(self._begun), seconds).not_done
