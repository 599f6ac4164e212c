"""Account life: what the queue knows of an account: its sessions in order of time, rolled up, and what it covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serve.analyst.review.cases import STATES, Case
from serve.scoring.accounts import Tally, roll_up


@dataclass(frozen=True, slots=True)
class AccountLife:
    """One account: `sessions` in order of time; `row` as in an accounts file (see `accounts.SCHEMA`), None where
    nothing is known; `areas`, the share of its exchanges in each area, largest first; how many sessions of each state.
    """

    account_id: str
    sessions: tuple[Case, ...]
    row: Mapping[str, Any] | None
    areas: tuple[tuple[str, float], ...]
    counts: Mapping[str, int]

    @classmethod
    def of(
        cls, account_id: str, sessions: tuple[Case, ...], row: Mapping[str, Any] | None, areas: Sequence[str],
        fpr: float,
    ) -> AccountLife:  # fmt: skip
        """From the cases of the queue and, where it is known better, a `row`."""
        counts = {state: sum(own.state == state for own in sessions) for state in STATES}
        known = [own for own in sessions if own.n_exchanges]
        return cls(account_id, sessions, row or _rolled(known, areas, fpr), _mixed(known), counts)

    @property
    def is_flagged(self) -> bool:
        """Whether there is anything to decide of."""
        return any(self.counts.values())


def _rolled(sessions: Sequence[Case], areas: Sequence[str], fpr: float) -> Mapping[str, Any] | None:
    """The row of an accounts file, by these sessions alone."""
    if not sessions:
        return None

    def column(name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        values = [getattr(own, name) for own in sessions]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    tally = Tally(
        np.array([sessions[0].account_id] * len(sessions), dtype=object), column("n_exchanges").astype(np.int64),
        column("started_at"), column("ended_at"), column("score"), column("p_value"),
        np.array([own.label for own in sessions]),
        np.array([[own.areas.get(area, 0.0) for area in areas] for own in sessions], dtype=np.float64),
    )  # fmt: skip
    row: dict[str, Any] = roll_up(tally, areas, fpr=fpr, bundle=sessions[-1].bundle).to_pylist()[0]
    times = {name: None if row[name] is None else row[name].timestamp() for name in ("started_at", "ended_at")}
    return row | times


def _mixed(sessions: Sequence[Case]) -> tuple[tuple[str, float], ...]:
    n_exchanges = sum(own.n_exchanges for own in sessions)
    shares: dict[str, float] = {}
    for own in sessions:
        for area, share in own.areas.items():
            shares[area] = shares.get(area, 0.0) + share * own.n_exchanges / n_exchanges
    return tuple(sorted(shares.items(), key=lambda item: (-item[1], item[0])))
