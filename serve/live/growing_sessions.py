"""Growing sessions: sessions that grow, exchange by exchange, with a verdict after each; no text is kept.

After k exchanges the verdict is the batch verdict on those k exchanges, in the order in which they came. A session is
what carries one id of one account; without an id, an account's exchanges are cut as in batches: where it pauses for
more than half an hour, and at 200 exchanges.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from serve.features.score_counts import N_COUNTS
from serve.live.sealing import Seal
from serve.live.session_state import SessionState, reading_id
from serve.live.stores import ProcessStore, Store, StoreBusyError, StoreDownError, StoredState
from serve.scoring.accounts import Tally, roll_up
from serve.scoring.scorer import Scorer
from serve.scoring.verdict import Verdict, Verdicts
from serve.sessions.records import Exchange, Session
from serve.sessions.sessionizing import GAP_SECONDS, MAX_EXCHANGES, MAX_GIVEN_EXCHANGES

_N_LOCKS = 256
_MAX_TRIES = 64


@dataclass(frozen=True, slots=True)
class Observation:
    """A verdict on a session so far.

    `is_partial` says that earlier exchanges of it aren't in the verdict: they were evicted, read by a bundle that reads
    prompts otherwise, or are in a store that can't be reached (`is_shared` is False then).
    """

    verdict: Verdict
    is_partial: bool
    is_shared: bool = True


class LiveSessions:
    """Sessions that grow; safe to share between threads, and between processes where the store is."""

    def __init__(self, scorer: Scorer, *, store: Store | None = None, seal: Seal | None = None) -> None:
        """Keep sessions in this process, or in `store`, whose replicas all need a `seal` of one secret."""
        self.scorer = scorer
        self.seal = seal or Seal.fresh()
        self.store: Store = store or ProcessStore()
        self._aside = ProcessStore(max_bytes=1 << 28)  # what was observed while the store could not be reached
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
        seen: Callable[[Verdicts, Scorer, int], None] | None = None,
    ) -> Observation:
        """The verdict on a session after more exchanges of it: all of them are added, or none; `seen` is shown it too.

        Raises:
            ValueError: when an id is not a text that is not empty, or there is no exchange.
            StoreBusyError: when too many others change the same session.
        """
        Session("-" if session_id is None else session_id, account_id, exchanges)  # the door
        key, scorer = self._key(account_id, session_id), self.scorer
        with self._locks[key[0]]:
            for _ in range(_MAX_TRIES):
                try:
                    held, is_shared = self.store.get(key), True
                except StoreDownError:
                    held, is_shared = StoredState(self._aside.get(key).state or self.store.copy(key)), False
                held = self._restored(key, held) if is_shared else held
                state = self._grown(held, account_id, session_id, exchanges, scorer)
                if self._kept(key, state, held, is_shared=is_shared):
                    break
            else:
                raise StoreBusyError(f"{_MAX_TRIES} tries to change a session failed: others changed it meanwhile")
            verdicts = scorer.judge_rows(*state.judged(scorer.bundle))
            observation = Observation(verdicts.verdict(0), state.is_partial, is_shared)
            self._summarise(account_id, state, observation, is_new=state.n <= len(exchanges))
        if seen is not None:
            seen(verdicts, scorer, len(exchanges))
        return observation

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
            state = self.store.get(key).state
            if state is None or state.reading != reading_id(self.scorer.bundle):
                return None
            verdict = self.scorer.judge_rows(*state.judged(self.scorer.bundle)).verdict(0)
            return Observation(verdict, state.is_partial)

    def account(self, account_id: str) -> dict[str, Any] | None:
        """The account's row as `accounts.roll_up` makes it of its sessions (the last 256), None where none is known.

        Raises:
            StoreDownError: when the store can't be reached.
        """
        found = [json.loads(summary) for summary in self.store.summaries(self.seal.digest(account_id))]
        areas = self.scorer.bundle.capabilities.areas
        rows = [row for row in found if len(row["area_share"]) == len(areas) and len(row["score_counts"]) == N_COUNTS]
        if not rows:
            return None
        names = ("from", "to", "score", "p_value", "area_share")
        columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}
        tally = Tally(
            np.array([account_id] * len(rows), dtype=object),
            np.array([row["n"] for row in rows], dtype=np.int64),
            columns["from"],
            columns["to"],
            columns["score"],
            columns["p_value"],
            np.array([row["label"] for row in rows]),
            columns["area_share"],
            np.array([row["score_counts"] for row in rows], dtype=np.int64),
        )
        bundle = self.scorer.bundle
        table = roll_up(tally, areas, fpr=self.scorer.fpr, bundle=bundle.bundle_id, model=bundle.accounts)
        row: dict[str, Any] = table.to_pylist(maps_as_pydicts="strict")[0]
        return row | {"is_partial": any(own["is_partial"] for own in rows)}

    def _key(self, account_id: str, session_id: str | None) -> bytes:
        """Told apart without doubt: the account's length comes first."""
        return self.seal.digest(f"{len(account_id)}:{account_id}{'' if session_id is None else ':' + session_id}")

    def _restored(self, key: bytes, held: StoredState) -> StoredState:
        """What is held, or, where the store lost it or didn't get it all, what was observed beside it."""
        aside = self._aside.get(key).state
        if aside is None:
            return held
        self._aside.drop(key)
        if held.state is None:
            return StoredState(aside, held.stamp)
        longer, n = max(held.state, aside, key=lambda state: state.n), min(held.state.n, aside.n)
        if not np.array_equal(held.state.texts[:n], aside.texts[:n]):
            longer.is_partial = True  # both went on, each with its own exchanges
        return StoredState(longer, held.stamp)

    def _grown(
        self,
        held: StoredState,
        account_id: str,
        session_id: str | None,
        exchanges: tuple[Exchange, ...],
        scorer: Scorer,
    ) -> SessionState:
        state = held.state
        if state is None or state.reading != reading_id(scorer.bundle):
            lost_at = held.lost_at if state is None else state.previous_at
            is_partial = lost_at is not None and not (session_id is None and _is_pause(lost_at, exchanges[0].at))
            state = SessionState.begun(
                account_id, session_id or _named(account_id, exchanges[0].at), scorer.bundle, is_partial=is_partial
            )
        run: list[Exchange] = []  # exchanges of one session, which are read together
        for exchange in exchanges:
            previous_at = run[-1].at if run else state.previous_at
            if _is_over(state.n + len(run), previous_at, session_id, exchange):
                if run:
                    state.extend(run, scorer.bundle, self.seal)
                run, state = [], self._following(state, session_id, exchange, scorer)
            run.append(exchange)
        state.extend(run, scorer.bundle, self.seal)
        return state

    @staticmethod
    def _following(state: SessionState, session_id: str | None, exchange: Exchange, scorer: Scorer) -> SessionState:
        """The session that follows the one there is, and begins with this exchange."""
        base = session_id or _named(state.account_id, exchange.at)
        nth = state.nth + 1 if base == state.base_id else 1
        return SessionState.begun(state.account_id, base, scorer.bundle, nth=nth)

    def _kept(self, key: bytes, state: SessionState, held: StoredState, *, is_shared: bool) -> bool:
        if is_shared:
            try:
                return self.store.put(key, state, held.stamp)
            except StoreDownError:
                pass  # it can't be told whether it was put; the copy aside decides when the store is back
        return self._aside.put(key, state)

    def _summarise(self, account_id: str, state: SessionState, observation: Observation, *, is_new: bool) -> None:
        verdict, areas = observation.verdict, self.scorer.bundle.capabilities.areas
        summary = {
            "n": verdict.n_exchanges, "from": verdict.started_at, "to": verdict.ended_at, "score": verdict.score,
            "p_value": verdict.p_value, "label": verdict.label, "is_partial": observation.is_partial,
            "area_share": [verdict.area_share.get(area, 0.0) for area in areas],
            "score_counts": state.score_counts.tolist(),
        }  # fmt: skip
        store = self.store if observation.is_shared else self._aside
        try:
            session = self.seal.digest(state.session_id)
            store.summarise(self.seal.digest(account_id), session, json.dumps(summary).encode())
            if is_new:
                store.name(self.seal.digest(state.base_id), account_id)
        except StoreDownError:
            return


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
