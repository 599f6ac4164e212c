"""Stores: where growing sessions are kept, in this process or in a Redis that several replicas share.

A store keeps states under keys and tells a newcomer's key from one that it has lost. Memory is bounded: what was used
least recently goes first, and what wasn't used for `ttl_s` goes too; both are counted and remembered, so that a session
that comes back is known to be partial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from serve.live.session_state import SessionState

MAX_LOST = 200_000
MAX_SUMMARIES = 256
"""Latest sessions of an account that it is rolled up from."""


class StoreDownError(RuntimeError):
    """The store can't be reached."""


class StoreBusyError(RuntimeError):
    """Too many others changed the same session meanwhile."""


@dataclass(frozen=True, slots=True)
class StoredState:
    """What a store has under a key: a state, or none; `stamp` names what was read: nobody else's change is lost.

    `lost_at` is when the last exchange was sent of a state that the store no longer has (NaN where unknown), None where
    it never had one.
    """

    state: SessionState | None
    stamp: bytes = b""
    lost_at: float | None = None


class Store(Protocol):
    """Keeps states of sessions, and summaries of an account's sessions."""

    def get(self, key: bytes) -> StoredState:
        """What is held; the state may be changed by the caller, who then puts or drops it."""
        ...

    def put(self, key: bytes, state: SessionState, stamp: bytes, new_stamp: bytes) -> bool:
        """Keep a state as `new_stamp`; False, and nothing is kept, where another one was put since `stamp`."""
        ...

    def copy(self, key: bytes) -> StoredState:
        """Take out the state that this process saw last, for when the store can't be reached."""
        ...

    def discard(self, key: bytes) -> None:
        """Forget a state that was handed out and changed, but won't be put."""
        ...

    def summarise(self, account: bytes, session: bytes, summary: bytes) -> None:
        """Keep a summary of a session beside the account's others."""
        ...

    def summaries(self, account: bytes) -> list[bytes]:
        """Summaries of an account's sessions."""
        ...

    def name(self, session: bytes, account_id: str) -> None:
        """Remember whose session of this id is the latest."""
        ...

    def account_of(self, session: bytes) -> str | None:
        """Whose session of this id is the latest."""
        ...

    def is_ready(self) -> bool:
        """Whether the store answers."""
        ...


@dataclass(slots=True)
class StoreCounts:
    """What a store holds and has lost."""

    n_sessions: int = 0
    n_bytes: int = 0
    n_evicted: int = 0
    n_expired: int = 0
