"""Growing sessions: sessions that grow, exchange by exchange, with a verdict after each; no text is kept.

After k exchanges the verdict is the batch verdict on those k exchanges, in the order in which they came. A session is
what carries one id of one account; without an id, an account's exchanges are cut as in batches: where it pauses for
more than half an hour, and at 200 exchanges.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from serve.live.bridged_store import BridgedStore, as_partial
from serve.live.live_accounts import absorbed, rolled_up, summary_bytes
from serve.live.process_store import ProcessStore
from serve.live.sealing import Seal
from serve.live.seen_sessions import SeenSessions
from serve.live.session_state import SessionState, reading_id
from serve.live.state_bytes import copied
from serve.live.stores import Store, StoreBusyError, StoreDownError, StoredState
from serve.scoring.scorer import Scorer
from serve.scoring.verdict import Verdict, Verdicts
from serve.sessions.records import Exchange, Session, full_name
from serve.sessions.sessionizing import GAP_SECONDS, MAX_EXCHANGES, MAX_GIVEN_EXCHANGES

_N_LOCKS = 256
_MAX_TRIES = 64


@dataclass(frozen=True, slots=True)
class Observation:
    """A verdict on a session so far.

    `is_partial` says that earlier exchanges of it aren't in the verdict: they were evicted, read by a bundle that reads
    prompts otherwise, or are in a store that can't be reached (`is_shared` is False then). `is_repeat` says that the
    request had been counted before, and nothing was added.
    """

    verdict: Verdict
    is_partial: bool
    is_shared: bool = True
    is_repeat: bool = False


class RepeatError(ValueError):
    """A request has the name of an earlier one but other exchanges."""


class LiveSessions:
    """Sessions that grow; safe to share between threads, and between processes where the store is."""

    def __init__(
        self,
        scorer: Scorer,
        *,
        store: Store | None = None,
        seal: Seal | None = None,
        seen_sessions: SeenSessions | None = None,
    ) -> None:
        """Keep sessions in this process, or in `store`, whose replicas all need a `seal` of one secret.

        `seen_sessions` tells those that an earlier process had, which a store of this process knows nothing of.
        """
        self._seen_sessions = seen_sessions
        self.scorer = scorer
        self.seal = seal or Seal.fresh()
        self.store: Store = store or ProcessStore()
        self._states = BridgedStore(self.store)
        self._locks = tuple(threading.Lock() for _ in range(_N_LOCKS))

    def observe(self, account_id: str, exchange: Exchange, session_id: str | None = None) -> Verdict:
        """The verdict on a session after one more exchange of it.

        Raises:
            ValueError: when an id is not a text that is not empty.
            StoreBusyError: when too many others change the same session.
        """
        return self.extend(account_id, (exchange,), session_id).verdict

    def extend(
        self,
        account_id: str,
        exchanges: tuple[Exchange, ...],
        session_id: str | None = None,
        *,
        request: str | None = None,
        seen: Callable[[Verdicts, Scorer, int], None] | None = None,
    ) -> Observation:
        """The verdict on a session after more exchanges of it: all of them are added, or none; `seen` is shown it too.

        A `request` of the same name as one of the session's last ones adds nothing: it is that one, sent again.

        Raises:
            ValueError: when an id is not a text that is not empty, or there is no exchange.
            RepeatError: when a request of that name had other exchanges.
            StoreBusyError: when too many others change the same session.
        """
        Session("-" if session_id is None else session_id, account_id, exchanges)  # the door
        key, scorer = self._key(account_id, session_id), self.scorer
        name = None if request is None else self._request(request, exchanges)
        with self._locks[key[0]]:
            for _ in range(_MAX_TRIES):
                held, is_shared = self._states.held(key)
                held = self._with_earlier(held, account_id, session_id)
                if name is not None and held.state is not None and _was_counted(name, held.state.recent):
                    return self._repeated(held.state, scorer, is_shared=is_shared)
                try:
                    state, ended = self._grown(held, account_id, session_id, exchanges, scorer)
                    verdicts = scorer.judge_rows(*state.judged(scorer.bundle))
                except BaseException:
                    self._states.of(is_shared=is_shared).discard(key)  # it may be half changed
                    raise
                if name is not None:
                    state.remember(name)
                put = self._states.put(key, state, held, is_shared=is_shared)
                if put is not None:
                    break
            else:
                raise StoreBusyError(f"{_MAX_TRIES} tries to change a session failed: others changed it meanwhile")
            observation = Observation(verdicts.verdict(0), state.is_partial, put)
            self._summarise(state, observation.verdict, key, session_id, is_shared=put)
        for own in ended:
            self._absorb(own, session_id, scorer)
        if seen is not None:
            seen(verdicts, scorer, len(exchanges))
        return observation

    def _request(self, name: str, exchanges: tuple[Exchange, ...]) -> str:
        """A keyed digest of a request's name, and one of what it has."""
        content = repr([(own.prompt, own.at, own.system) for own in exchanges])  # no two lists have the same
        return self.seal.digest(name, 8).hex() + self.seal.digest(content, 8).hex()

    def _repeated(self, state: SessionState, scorer: Scorer, *, is_shared: bool) -> Observation:
        verdict = scorer.judge_rows(*state.judged(scorer.bundle)).verdict(0)
        return Observation(verdict, state.is_partial, is_shared, is_repeat=True)

    def verdict(self, account_id: str | None, session_id: str) -> Observation | None:
        """The verdict on a session with an id as it is, None where nothing is known of it; of the account that used the
        id last where none is given.

        Raises:
            StoreDownError: when the store can't be reached.
        """
        account_id = account_id or self.store.account_of(self.seal.digest(session_id))
        if account_id is None:
            return None
        key = self._key(account_id, session_id)
        with self._locks[key[0]]:
            state = self._states.stored(key).state
            if state is None or state.reading != reading_id(self.scorer.bundle):
                return None
            verdict = self.scorer.judge_rows(*state.judged(self.scorer.bundle)).verdict(0)
            return Observation(verdict, state.is_partial)

    def account(self, account_id: str) -> dict[str, Any] | None:
        """The account's row as batches have it, of its last 256 sessions; None where none is known.

        It is judged as a whole where all its prompts are still there (see `live_accounts`). Times are in seconds since
        1970.

        Raises:
            StoreDownError: when the store can't be reached.
        """
        summaries = self.store.summaries(self.seal.digest(account_id))
        return rolled_up(account_id, summaries, self._copy_of, self.scorer)

    def _copy_of(self, key: bytes) -> SessionState | None:
        """The state under a key, for nobody else to change."""
        with self._locks[key[0]]:
            state = self._states.stored(key).state
            return None if state is None else copied(state)

    def _key(self, account_id: str, session_id: str | None) -> bytes:
        return self.seal.digest(full_name(account_id, session_id))

    def _account_key(self, account_id: str) -> bytes:
        return self.seal.digest(full_name(account_id) + "\n")  # no name of a session goes on like this

    def _with_earlier(self, held: StoredState, account_id: str, session_id: str | None) -> StoredState:
        """What is held, known to be partial where an earlier process had more of it."""
        seen, name = self._seen_sessions, full_name(account_id, session_id)
        if seen is None or held.state is not None:
            return held
        seen.add(name)
        return as_partial(held) if seen.was_before(name) else held

    def _grown(
        self,
        held: StoredState,
        account_id: str,
        session_id: str | None,
        exchanges: tuple[Exchange, ...],
        scorer: Scorer,
    ) -> tuple[SessionState, list[SessionState]]:
        """The session with the exchanges, or the one that the last of them is of; and those that ended on the way."""
        state, ended = held.state, []
        if state is None or state.reading != reading_id(scorer.bundle):
            lost_at = held.lost_at if state is None else state.previous_at
            is_partial = lost_at is not None and not (session_id is None and _is_pause(lost_at, exchanges[0].at))
            recent = () if state is None else state.recent
            state = SessionState.begun(
                account_id, session_id or _named(account_id, exchanges[0].at), scorer.bundle, is_partial=is_partial
            )
            state.recent = recent
        run: list[Exchange] = []  # exchanges of one session, which are read together
        for exchange in exchanges:
            previous_at = run[-1].at if run else state.previous_at
            if _is_over(state.n + len(run), previous_at, session_id, exchange):
                if run:
                    state.extend(run, scorer.bundle, self.seal)
                ended.append(state)
                run, state = [], self._following(state, session_id, exchange, scorer)
            run.append(exchange)
        state.extend(run, scorer.bundle, self.seal)
        return state, ended

    @staticmethod
    def _following(state: SessionState, session_id: str | None, exchange: Exchange, scorer: Scorer) -> SessionState:
        """The session that follows the one there is, and begins with this exchange."""
        base = session_id or _named(state.account_id, exchange.at)
        nth = state.nth + 1 if base == state.base_id else 1
        following = SessionState.begun(state.account_id, base, scorer.bundle, nth=nth)
        following.recent = state.recent
        return following

    def _absorb(self, session: SessionState, session_id: str | None, scorer: Scorer) -> None:
        """Add a session that has ended to what its account has sent."""
        key = self._account_key(session.account_id)
        with self._locks[key[0]]:
            for _ in range(_MAX_TRIES):
                held, is_shared = self._states.held(key)
                put = self._states.put(key, absorbed(held.state, session, scorer), held, is_shared=is_shared)
                if put is not None:
                    break
            else:
                return  # its account is judged by its sessions, since this one is missing
        verdict = scorer.judge_rows(*session.judged(scorer.bundle)).verdict(0)
        self._summarise(session, verdict, key, session_id, is_shared=put, is_ended=True)

    def _summarise(
        self, state: SessionState, verdict: Verdict, key: bytes, session_id: str | None, *, is_shared: bool,
        is_ended: bool = False,
    ) -> None:  # fmt: skip
        areas = self.scorer.bundle.capabilities.areas
        summary = summary_bytes(state, verdict, areas, key, is_given=session_id is not None, is_ended=is_ended)
        store = self._states.of(is_shared=is_shared)
        try:
            store.summarise(self.seal.digest(state.account_id), self.seal.digest(state.session_id), summary)
            store.name(self.seal.digest(state.base_id), state.account_id)
        except StoreDownError:
            return


def _was_counted(request: str, recent: tuple[str, ...]) -> bool:
    """Whether a request is one of the last ones.

    Raises:
        RepeatError: when its name is that of one, but what it has isn't.
    """
    if request in recent:
        return True
    half = len(request) // 2
    if any(other[:half] == request[:half] for other in recent):
        raise RepeatError("a request of this name had other exchanges")
    return False


def _is_over(n: int, previous_at: float | None, session_id: str | None, exchange: Exchange) -> bool:
    """Whether a session of n exchanges, so far, ends before this one."""
    if session_id is not None:
        return n >= MAX_GIVEN_EXCHANGES
    return n >= MAX_EXCHANGES or (n > 0 and _is_pause(previous_at, exchange.at))


def _is_pause(before: float | None, at: float | None) -> bool:
    return at is not None and before is not None and not math.isnan(before) and at - before > GAP_SECONDS


def _named(account_id: str, at: float | None) -> str:
    """The name that batches give to a session without an id that begins at this time."""
    if at is None:
        return f"{account_id}/untimed"
    begun = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=math.floor(at))
    return f"{account_id}/{begun.year:04}{begun:%m%dT%H%M%SZ}"
