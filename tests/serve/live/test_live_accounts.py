"""An account that is being watched has the row of a batch, to the last bit, or says that it is of its sessions."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.features.similarity import MAX_PROMPTS
from serve.io.validation import SCHEMA
from serve.live.growing_sessions import LiveSessions
from serve.live.process_store import ProcessStore
from serve.live.state_bytes import from_bytes, to_bytes
from serve.scoring.accounts import judge_account
from serve.scoring.scorer import Scorer
from serve.sessions.records import Exchange
from serve.sessions.sessionizing import Timeline
from tests.conftest import WORDS

_HOUR = 3600.0

Sent = tuple[Exchange, str | None]


def watched(scorer: Scorer, sent: list[Sent], live: LiveSessions | None = None) -> dict[str, Any]:
    live = live or LiveSessions(scorer)
    for exchange, session_id in sent:
        live.observe("a", exchange, session_id)
    row = live.account("a")
    assert row is not None
    return row


def batch(scorer: Scorer, sent: list[Sent]) -> dict[str, Any]:
    columns = (
        ["a"] * len(sent), [session_id for _, session_id in sent], [own.prompt for own, _ in sent],
        [np.nan if own.at is None else own.at for own, _ in sent],
    )  # fmt: skip
    by_name = dict(zip(("account_id", "session_id", "prompt", "at"), columns, strict=True))
    timeline = Timeline.of(pa.table({name: by_name[name] for name in SCHEMA.names}, schema=SCHEMA))
    return judge_account(timeline.sessions(0, len(timeline)), scorer).row


def same(row: dict[str, Any], expected: dict[str, Any]) -> bool:
    """But for what rests on the order in which sessions began, and shares that are rolled up from sums."""
    names = ("n_sessions", "n_exchanges", "score", "p_value", "label", "judged_by", "max_score", "simes_p_value")
    return all(row[name] == expected[name] for name in names)


@st.composite
def lives(draw: st.DrawFn) -> list[Sent]:
    """What an account sends: wrapped and bare texts, some in sessions with ids, pauses between some of the others."""
    pool = draw(
        st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join), min_size=1, max_size=6)
    )
    wrap = draw(st.sampled_from(("{}", "please answer: {}", "{} thanks a lot")))
    turns = st.tuples(st.sampled_from(pool), st.sampled_from((None, None, None, "s1", "s2")), st.integers(0, 9))
    sent, at = [], 1e9
    for text, session_id, luck in draw(st.lists(turns, min_size=5, max_size=40)):
        at += _HOUR if luck == 0 else 60.0
        sent.append((Exchange(wrap.format(text) if luck % 2 else text, at), session_id))
    return sent


@settings(max_examples=30)
@given(lives())
def test_its_row_is_that_of_a_batch_to_the_last_bit(account_scorer: Scorer, sent: list[Sent]) -> None:
    row, expected = watched(account_scorer, sent), batch(account_scorer, sent)
    assert row["judged_by"] == "account"
    assert same(row, expected)


def talk(n: int, *, at: float = 1e9, session_id: str | None = None) -> list[Sent]:
    rng = np.random.default_rng(n)
    return [(Exchange(" ".join(rng.choice(WORDS, 5)), at + 60.0 * turn), session_id) for turn in range(n)]


def test_more_sessions_than_prompts_are_compared_are_judged_as_one(account_scorer: Scorer) -> None:
    sent = [own for day in range(4) for own in talk(150, at=1e9 + 24 * _HOUR * day)]
    assert len(sent) > 2 * MAX_PROMPTS
    row = watched(account_scorer, sent)
    assert row["judged_by"] == "account"
    assert same(row, batch(account_scorer, sent))


def test_a_request_that_ends_sessions_leaves_their_last_exchanges_in_the_account(account_scorer: Scorer) -> None:
    sent = [*talk(6), *talk(7, at=2e9), *talk(8, at=3e9)]
    live = LiveSessions(account_scorer)
    live.extend("a", tuple(exchange for exchange, _ in sent))
    row = live.account("a")
    assert row is not None
    assert (row["n_sessions"], row["n_exchanges"]) == (3, 21)
    assert same(row, batch(account_scorer, sent))


@pytest.mark.parametrize("fault", ["too long", "evicted", "earlier state", "no benign accounts"])
def test_where_something_is_missing_its_sessions_decide(account_scorer: Scorer, fault: str) -> None:
    sent = [*talk(MAX_PROMPTS + 1, session_id="s")] if fault == "too long" else [*talk(6), *talk(6, at=2e9)]
    if fault == "no benign accounts":
        account_scorer = Scorer(dataclasses.replace(account_scorer.bundle, accounts=None))
    store = ProcessStore()
    live = LiveSessions(account_scorer, store=store)
    watched(account_scorer, sent, live)
    if fault == "evicted":
        store.drop(live._account_key("a"))
    if fault == "earlier state":  # as releases kept it that did not know accounts as a whole
        key = live._key("a", None)
        state = store.get(key).state
        assert state is not None
        state = from_bytes(to_bytes(state))
        state.placed[:] = np.nan
        store.put(key, state)
    row = live.account("a")
    assert row is not None
    assert row["judged_by"] == "sessions"
    assert row["p_value"] == row["simes_p_value"]
    assert row["n_exchanges"] == len(sent)


def test_nothing_that_is_kept_of_an_account_holds_text(account_scorer: Scorer) -> None:
    live = LiveSessions(account_scorer)
    watched(account_scorer, [(Exchange("my canary sings", 1e9 + _HOUR * turn), None) for turn in range(9)], live)
    state = live.store.get(live._account_key("a")).state
    assert state is not None
    assert state.n == 8
    assert b"canary" not in to_bytes(state)
