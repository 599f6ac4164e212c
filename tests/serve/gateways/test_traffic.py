"""Traffic counts each prompt once, in the order of its time, within bounds."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from serve.gateways.traffic import LONG_ID, UNNAMED, KnownTurns, Traffic
from serve.io.logs.requests import Rejected, Request, Skipped
from serve.io.logs.talks import talk_of
from serve.sessions.records import Exchange


class Sessions:
    """Stands for live sessions: keeps what was added to each."""

    def __init__(self) -> None:
        self.added: dict[tuple[str, str | None], list[Exchange]] = {}

    def __call__(self, account_id: str, exchanges: tuple[Exchange, ...], session_id: str | None) -> Any:
        self.added.setdefault((account_id, session_id), []).extend(exchanges)
        return SimpleNamespace(verdict=SimpleNamespace(label="organic"))

    def prompts(self, account_id: str, session_id: str | None = None) -> list[str]:
        return [exchange.prompt for exchange in self.added.get((account_id, session_id), [])]


def conversation(*prompts: str, account: str | None = "a", at: float = math.nan, session: str | None = None) -> Request:
    """A request that repeats all prompts before its last, with answers between them."""
    answered = [row for text in prompts[:-1] for row in ({"role": "user", "content": text}, {"role": "assistant"})]
    return Request(1, account, talk_of([*answered, {"role": "user", "content": prompts[-1]}]), at, session)


def test_a_history_that_is_repeated_counts_once() -> None:
    sessions = Sessions()
    traffic = Traffic(sessions)
    for n in range(1, 5):
        taken = traffic.take([conversation(*"wxyz"[:n])], 5.0)
        assert (taken.n_requests, taken.n_prompts) == (1, 1)
    assert traffic.take([conversation(*"wxyz")], 6.0).n_prompts == 0  # a retry
    assert sessions.prompts("a") == list("wxyz")
    assert traffic.take([conversation(*"wxyz", account="b")], 6.0).n_prompts == 4


def test_requests_of_a_report_are_ordered_by_time_and_grouped_by_session() -> None:
    sessions = Sessions()
    late, early = conversation("x", "y", at=20.0, session="s"), conversation("x", at=10.0, session="s")
    other = conversation("z", session="t")
    taken = Traffic(sessions).take([late, other, early], 30.0)
    assert len(taken.observations) == 2
    assert sessions.added["a", "s"] == [Exchange("x", 10.0), Exchange("y", 20.0)]
    assert sessions.added["a", "t"] == [Exchange("z", 30.0)]


def test_what_is_left_out_is_counted_by_reason() -> None:
    sessions = Sessions()
    given = [
        conversation("x", account=None), conversation("x", account="y" * 257), conversation("x", session="y" * 257),
        Rejected(1, "bad"), Skipped(2, "embeddings"), Skipped(3, "embeddings"),
    ]  # fmt: skip
    taken = Traffic(sessions).take(given, 0.0)
    assert taken.rejected == {UNNAMED: 1, LONG_ID: 2, "bad": 1}
    assert taken.skipped == {"embeddings": 2}
    assert sessions.added == {}


def test_what_is_known_is_bounded() -> None:
    known = KnownTurns(max_turns=8)
    for account in "abcdefghijkl":
        assert len(known.new(account, conversation("x", "y"))) == 2
        assert known.n_turns <= 8
    assert known.new("l", conversation("x", "y")) == ()
    assert len(known.new("a", conversation("x", "y"))) == 2  # forgotten, so it counts again
    known.new("big", conversation("x", "y", "z"))  # more than a quarter of the room
    assert known.n_turns <= 8
    assert len(known.new("big", conversation("x", "y", "z"))) == 3


def test_requests_without_a_new_prompt_are_bounded_too() -> None:
    """Each was remembered by its id, for good and at full length, and counted as nothing."""
    known, asked = KnownTurns(max_turns=80), conversation("x", "y")
    tracemalloc.start()
    for n in range(200):
        known.new("a", replace(asked, request_id=f"{n}{'i' * 100_000}"))
        known.new(f"silent-{n}", Request(1, f"silent-{n}", talk_of([])))
    n_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert known.n_turns <= 80
    assert n_bytes < 1_000_000  # 20 MB before
    assert len(known.new("silent-0", conversation("x"))) == 1
