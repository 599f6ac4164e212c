"""What is observed while the store can't be reached is put back, and costs no more the longer that lasts."""

from __future__ import annotations

from serve.live.bridged_store import BridgedStore
from serve.live.growing_sessions import LiveSessions
from serve.live.process_store import ProcessStore
from serve.live.session_state import SessionState
from serve.live.stores import StoreDownError, StoredState
from serve.scoring.scorer import Scorer
from serve.sessions.records import Exchange

KEY = b"k" * 16


class Down(ProcessStore):
    """A store that answers only while `is_up`."""

    is_up = True

    def get(self, key: bytes) -> StoredState:
        if not self.is_up:
            raise StoreDownError("down")
        return super().get(key)

    def copy(self, key: bytes) -> StoredState:
        return StoredState(None)

    def put(self, key: bytes, state: SessionState, stamp: bytes = b"", new_stamp: bytes = b"") -> bool:
        if not self.is_up:
            raise StoreDownError("down")
        return super().put(key, state, stamp, new_stamp)


def test_a_long_outage_notes_no_more_than_a_short_one(tiny_scorer: Scorer) -> None:
    store = Down()
    store.is_up = False
    states = BridgedStore(store)
    for _ in range(50):
        held, is_shared = states.held(KEY)
        state = held.state or SessionState.begun("a", "s", tiny_scorer.bundle)
        assert states.put(KEY, state, held, is_shared=is_shared) is False
    assert len(states._bases[KEY]) == 2
    held = StoredState(state, b"read")
    assert states.put(KEY, state, held, is_shared=True) is False  # it was sent, and nobody knows whether it came
    assert b"read" in states._bases[KEY]
    store.is_up = True
    assert states.put(KEY, state, states.held(KEY)[0], is_shared=True)
    assert not states._bases


def test_what_an_outage_saw_is_put_back(tiny_scorer: Scorer) -> None:
    store = Down()
    live = LiveSessions(tiny_scorer, store=store)
    live.observe("a", Exchange("sort a list"), "s")
    store.is_up = False
    away = live.extend("a", (Exchange("sum a list"),) * 3, "s")
    assert (away.is_shared, away.verdict.n_exchanges) == (False, 3)
    store.is_up = True
    back = live.extend("a", (Exchange("sort a list"),), "s")
    assert (back.is_shared, back.is_partial, back.verdict.n_exchanges) == (True, True, 4)
