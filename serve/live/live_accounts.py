"""Live accounts: the row of an account that is being watched, from what is kept of its sessions.

An account is judged as a whole, as in batches and to the same bit, while everything is there that this takes: all its
sessions from their first exchange on, none of which is so long that only some of its prompts are kept. Otherwise its
row is of its sessions' verdicts, and says so in `judged_by`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.features.whole_accounts import MAX_ACCOUNT_PROMPTS
from serve.live.session_state import SessionState, reading_id
from serve.live.stores import MAX_SUMMARIES
from serve.scoring.accounts import Tally, WholeVerdicts, roll_up
from serve.scoring.scorer import Scorer
from serve.scoring.verdict import Verdict
from serve.sessions.records import TIMES

Summary = Mapping[str, Any]


def summary_bytes(
    state: SessionState, verdict: Verdict, areas: Sequence[str], key: bytes, *, is_given: bool, is_ended: bool
) -> bytes:
    """What a store keeps of a session beside its account's others: its verdict, the `key` of its state while it grows
    and of its account's when it has ended (see `absorbed`), and whether it has an id (`is_given`)."""
    summary = {
        "n": verdict.n_exchanges, "from": verdict.started_at, "to": verdict.ended_at, "score": verdict.score,
        "p_value": verdict.p_value, "label": verdict.label, "is_partial": state.is_partial,
        "area_share": [verdict.area_share.get(area, 0.0) for area in areas],
        "n_altered": state.n_altered, "key": key.hex(), "is_given": is_given, "is_ended": is_ended,
    }  # fmt: skip
    return json.dumps(summary).encode()


def absorbed(account: SessionState | None, session: SessionState, scorer: Scorer) -> SessionState:
    """The state of all that an account has sent in sessions that have ended, with one more of them."""
    if account is None or account.reading != reading_id(scorer.bundle):
        account = SessionState.begun(session.account_id, session.account_id, scorer.bundle)
    if session.is_complete and account.n + session.n <= MAX_ACCOUNT_PROMPTS:
        account.absorb(session)
    return account


def rolled_up(
    account_id: str, summaries: Sequence[bytes], copy_of: Callable[[bytes], SessionState | None], scorer: Scorer
) -> dict[str, Any] | None:
    """The account's row as `accounts.roll_up` makes it, None where no session is known; `copy_of` gives a copy of the
    state under a key. Times are in seconds since 1970."""
    areas = scorer.bundle.capabilities.areas
    found = [json.loads(summary) for summary in summaries]
    rows = [row for row in found if len(row["area_share"]) == len(areas)]
    if not rows:
        return None
    names = ("from", "to", "score", "p_value", "area_share")
    columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}
    tally = Tally(
        np.array([account_id] * len(rows), dtype=object), np.array([row["n"] for row in rows], dtype=np.int64),
        columns["from"], columns["to"], columns["score"], columns["p_value"],
        np.array([row["label"] for row in rows]), columns["area_share"],
    )  # fmt: skip
    n_altered = np.array([row.get("n_altered", 0) for row in rows], dtype=np.int64)
    table = roll_up(
        tally, areas, fpr=scorer.fpr, bundle=scorer.bundle.bundle_id, n_altered=n_altered,
        whole=_judged_whole(rows, copy_of, scorer),
    )  # fmt: skip
    row: dict[str, Any] = table.drop(["started_at", "ended_at"]).to_pylist(maps_as_pydicts="strict")[0]
    times = {"started_at": _first(columns["from"], np.fmin), "ended_at": _first(columns["to"], np.fmax)}
    return row | times | {"is_partial": any(own["is_partial"] for own in rows)}


def _judged_whole(
    rows: Sequence[Summary], copy_of: Callable[[bytes], SessionState | None], scorer: Scorer
) -> WholeVerdicts | None:
    """The verdict on all prompts together, None where not all are there."""
    n_exchanges = sum(row["n"] for row in rows)
    is_all = len(rows) < MAX_SUMMARIES and not any(row["is_partial"] or "key" not in row for row in rows)
    if scorer.bundle.accounts is None or not is_all or n_exchanges > MAX_ACCOUNT_PROMPTS:
        return None
    together, reading = SessionState.begun("-", "-", scorer.bundle), reading_id(scorer.bundle)
    growing: list[tuple[tuple[bool, str, int], SessionState]] = []
    ended = [row for row in rows if row["is_ended"]]
    if ended:
        found = copy_of(bytes.fromhex(ended[0]["key"]))
        if found is None or found.n != sum(row["n"] for row in ended) or found.is_partial or found.reading != reading:
            return None
        together = found
    for row in (row for row in rows if not row["is_ended"]):
        state = copy_of(bytes.fromhex(row["key"]))
        if state is None or state.n != row["n"] or not state.is_complete or state.reading != reading:
            return None
        growing.append((_place(state, is_given=row["is_given"]), state))
    for _, state in sorted(growing, key=lambda own: own[0]):
        together.absorb(state)
    _, columns = together.judged(scorer.bundle)
    return WholeVerdicts.of(columns, np.array([n_exchanges]), scorer.bundle, scorer.fpr)


def _place(state: SessionState, *, is_given: bool) -> tuple[bool, str, int]:
    """Where batches have a session among those of its account that grow: the one without an id comes first."""
    return (is_given, state.base_id if is_given else "", state.nth)


def _first(seconds: NDArray[np.float64], least: np.ufunc) -> float | None:
    """The least of times that are known, in seconds since 1970 rounded as in an accounts file."""
    found = float(least.reduce(seconds))
    return None if math.isnan(found) else min(round(found * 1000.0) / 1000.0, TIMES[1] - 0.001)
