"""Bridged store: a store, and beside it what was observed while it could not be reached."""

from __future__ import annotations

import math
import os
from collections import OrderedDict

from serve.live.process_store import ProcessStore
from serve.live.session_state import SessionState
from serve.live.state_bytes import copied
from serve.live.stores import MAX_LOST, Store, StoreDownError, StoredState


class BridgedStore:
    """States of sessions in a store that may be down for a while."""

    def __init__(self, store: Store) -> None:
        """Begin with nothing beside `store`."""
        self.store = store
        self._aside = ProcessStore(max_bytes=1 << 28)
        self._bases: OrderedDict[bytes, frozenset[bytes]] = OrderedDict()  # stamps that states aside go on from

    def of(self, *, is_shared: bool) -> Store:
        """The store, or what is beside it."""
        return self.store if is_shared else self._aside

    def held(self, key: bytes) -> tuple[StoredState, bool]:
        """What there is of a session, and whether the shared store was reached."""
        try:
            return self.stored(key), True
        except StoreDownError:
            aside = self._aside.get(key)
            return (aside if aside.state is not None else self.store.copy(key)), False

    def stored(self, key: bytes) -> StoredState:
        """What the store has of a session, with what was observed beside it.

        Raises:
            StoreDownError: when the store can't be reached.
        """
        return self._restored(key, self.store.get(key))

    def _restored(self, key: bytes, held: StoredState) -> StoredState:
        """What is held, or what was observed beside it while the store could not be reached."""
        found = self._aside.get(key)
        if found.state is None:
            return held if found.lost_at is None else as_partial(held)
        aside, bases = copied(found.state), self._bases.get(key, frozenset())
        if held.state is None:
            is_lost = held.lost_at is not None or bool(bases - {b""})
            return StoredState(aside, held.stamp) if not is_lost else as_partial(StoredState(aside, held.stamp))
        if held.stamp in bases:
            return StoredState(aside, held.stamp)  # nobody else added to it
        return as_partial(StoredState(max(held.state, aside, key=lambda state: state.n), held.stamp))

    def put(self, key: bytes, state: SessionState, held: StoredState, *, is_shared: bool) -> bool | None:
        """Keep a state: True where all replicas see it, False where only this does, None where others were first."""
        new = os.urandom(8)
        if is_shared:
            try:
                if not self.store.put(key, state, held.stamp, new):
                    return None
                self._aside.drop(key)
                self._bases.pop(key, None)
                return True
            except StoreDownError:
                pass  # nobody knows whether it was put: its stamp is one of those that this state goes on from
        self._aside.put(key, state)
        bases = self._bases.get(key, frozenset())
        if is_shared or not bases:  # else nothing was sent to the store since, however often this is called
            self._bases[key] = bases | {held.stamp, new}
        if len(self._bases) > MAX_LOST:
            self._bases.popitem(last=False)
        return False


def as_partial(held: StoredState) -> StoredState:
    """The same, known to lack exchanges."""
    if held.state is None:
        return StoredState(None, held.stamp, math.nan if held.lost_at is None else held.lost_at)
    held.state.is_partial = True
    return held
