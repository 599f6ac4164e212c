"""The pool ends in time, whatever its threads do."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from serve.http.problems import ProblemError
from serve.http.worker_pool import WorkerPool


def test_it_finishes_what_was_begun_or_says_that_it_has_not_ended() -> None:
    async def closed(seconds: float) -> tuple[bool, float]:
        pool, begun, goes_on = WorkerPool(1, 1), threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            goes_on.wait(0.1 if seconds > 1 else 30)

        asked = [asyncio.ensure_future(pool.run(work)) for _ in range(2)]
        await asyncio.to_thread(begun.wait)
        began_at = time.monotonic()
        found = await asyncio.to_thread(pool.close, seconds)
        waited = time.monotonic() - began_at
        goes_on.set()
        await asyncio.gather(*asked)
        return found, waited

    is_done, waited = asyncio.run(closed(0.1))
    assert not is_done
    assert 0.1 <= waited < 10
    assert asyncio.run(closed(20))[0]


def test_without_room_work_is_refused_and_what_it_held_is_let_go() -> None:
    let_go: list[str] = []

    async def refused() -> None:
        pool, goes_on = WorkerPool(1, 0), threading.Event()
        asked = asyncio.ensure_future(pool.run(goes_on.wait))
        await asyncio.sleep(0)
        with pytest.raises(ProblemError, match="too many requests are waiting"):
            await pool.run(lambda: None, lambda: let_go.append("body"))
        goes_on.set()
        assert await asked
        assert pool.close(20)

    asyncio.run(refused())
    assert let_go == ["body"]


def test_those_that_are_refused_at_once_are_not_all_told_to_come_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, waits = WorkerPool(1, 0), list[int | None]()
    pool.n_inside = 1
    monkeypatch.setattr("serve.http.worker_pool.time.monotonic", lambda: 7.5)
    for _ in range(200):
        with pytest.raises(ProblemError) as refusal:
            pool.refuse_if_full()
        waits.append(refusal.value.retry_after)
    assert waits[:33] == [1] * 16 + [2] * 16 + [3]
    assert waits[-1] == 10
    monkeypatch.setattr("serve.http.worker_pool.time.monotonic", lambda: 8.5)
    with pytest.raises(ProblemError) as refusal:
        pool.refuse_if_full()
    assert refusal.value.retry_after == 1


def test_while_some_are_refused_nobody_waits_and_who_comes_back_later_finds_the_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = WorkerPool(2, 4)

    def n_admitted(at: float) -> int:
        monkeypatch.setattr("serve.http.worker_pool.time.monotonic", lambda: at)
        for pool.n_inside in range(9):
            try:
                pool.refuse_if_full()
            except ProblemError:
                return pool.n_inside
        raise AssertionError

    assert [n_admitted(at) for at in (5.0, 5.5, 6.3, 7.3)] == [6, 2, 2, 6]
