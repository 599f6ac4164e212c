"""Accounts: the verdicts on an account's sessions, rolled up to one row an account.

An account is judged as a whole: all its prompts as one long session, against benign accounts of like size. Beside it
stands Simes' combination of its sessions' p-values, the smallest of n p(k) / k over the sorted p-values p(1) to p(n),
which decides where only sessions are known or there are too few benign accounts of that size. It is valid where
p-values depend positively, as conformal ones that share a calibration set do (Simes 1986; Benjamini & Yekutieli 2001;
Bates et al. 2023). Fisher's rule isn't: an unusual but benign person is unusual in every session, and Fisher would
count that as new evidence each time.

Both are for one look. For a look after every session, `e_value` and `alarm_after` follow `sequential_test`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.bundle.bundle import Bundle
from serve.features.session_features import Totals, observe
from serve.features.whole_accounts import WholeAccounts
from serve.model.calibration import MIN_DECIDABLE
from serve.scoring.evidence import PromptScores
from serve.scoring.scorer import Judged, Scorer
from serve.scoring.sequential_test import alarms, capital, raised
from serve.scoring.verdict import Verdict, Verdicts, times
from serve.sessions.normalization import altered_counts
from serve.sessions.records import Sessions

SCHEMA = pa.schema([
    ("account_id", pa.string()), ("n_sessions", pa.int64()), ("n_exchanges", pa.int64()),
    ("started_at", pa.timestamp("ms", tz="UTC")), ("ended_at", pa.timestamp("ms", tz="UTC")),
    ("max_score", pa.float64()), ("min_p_value", pa.float64()), ("p_value", pa.float64()),
    ("flagged_share", pa.float64()), ("label", pa.string()), ("top_areas", pa.map_(pa.string(), pa.float64())),
    ("bundle", pa.string()), ("e_value", pa.float64()), ("alarm_after", pa.int64()), ("score", pa.float64()),
    ("simes_p_value", pa.float64()), ("altered_prompts", pa.int64()), ("judged_by", pa.string()),
])  # fmt: skip
"""Columns of an accounts file. `judged_by` is "account" where `score`, `p_value` and `label` are of all prompts as a
whole and "sessions" where they combine its sessions' (`simes_p_value` and the highest score); `flagged_share` is the
share of sessions flagged. `altered_prompts` counts prompts with hidden characters or look-alikes
(`canonical_text.is_altered`); many are a sign by themselves, and no score knows of them.

`e_value` is an account's capital against benign use after its last session (its mean over benign accounts is at most
1), and `alarm_after` the number of exchanges after which it first reached 1 / FPR, null where it never did.
"""

N_TOP_AREAS = 3


@dataclass(frozen=True)
class Tally:
    """What the roll-up reads of session verdicts, as columns (n_sessions,); an account's sessions lie together."""

    account_ids: NDArray[np.object_]
    n_exchanges: NDArray[np.int64]
    started_at: NDArray[np.float64]
    ended_at: NDArray[np.float64]
    score: NDArray[np.float64]
    p_value: NDArray[np.float64]
    label: NDArray[np.str_]
    area_share: NDArray[np.float64]

    @classmethod
    def of(cls, verdicts: Verdicts) -> Self:
        """The columns of these verdicts; `area_share` without *none*."""
        return cls(
            np.array(verdicts.account_ids, dtype=object), verdicts.n_exchanges, verdicts.started_at, verdicts.ended_at,
            verdicts.score, verdicts.p_value, verdicts.label, verdicts.area_share[:, :-1],
        )  # fmt: skip

    @classmethod
    def joined(cls, tallies: Sequence[Tally]) -> Self:
        """One tally of several, in their order."""
        columns = (
            "account_ids", "n_exchanges", "started_at", "ended_at", "score", "p_value", "label", "area_share",
        )  # fmt: skip
        return cls(*(np.concatenate([getattr(tally, name) for tally in tallies]) for name in columns))


@dataclass(frozen=True)
class WholeVerdicts:
    """Accounts judged as a whole, as columns (n_accounts,); `is_judged` where there are benign accounts enough of that
    size to do so."""

    score: NDArray[np.float64]
    p_value: NDArray[np.float64]
    is_judged: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: NDArray[np.float64], n_exchanges: NDArray[np.int64], bundle: Bundle, fpr: float) -> Self:
        """From the feature rows of whole accounts (see `features.whole_accounts`)."""
        if bundle.accounts is None or not len(rows):
            return cls(np.zeros(len(rows)), np.ones(len(rows)), np.zeros(len(rows), np.bool_))
        margins = bundle.classifier.margins(rows)
        is_judged = bundle.accounts.is_decidable(n_exchanges, fpr) & (n_exchanges >= MIN_DECIDABLE)
        return cls(bundle.accounts.score(margins), bundle.accounts.p_value(margins, n_exchanges), is_judged)


@dataclass(frozen=True)
class JudgedAccount:
    """One account: its `row` of `SCHEMA`, the verdict on all its prompts as one long session with its reasons (`whole`,
    None where it can't be judged as one), and those on its sessions, without reasons."""

    row: dict[str, Any]
    whole: Verdict | None
    sessions: Verdicts


def judge_account(sessions: Sessions, scorer: Scorer) -> JudgedAccount:
    """Judge one account by all its sessions."""
    bundle = scorer.bundle
    prompts = observe(sessions, bundle.encoder, bundle.capabilities, bundle.prompt_scorer)
    verdicts = scorer.judge_observed(sessions, prompts)
    gathered = WholeAccounts(np.zeros(len(sessions), np.int64), sessions.n_exchanges, bundle.capabilities)
    gathered.add(prompts, verdicts.features)
    whole = WholeVerdicts.of(gathered.rows(), gathered.n_exchanges, bundle, scorer.fpr)
    table = roll_up(
        Tally.of(verdicts), verdicts.areas, fpr=scorer.fpr, bundle=bundle.bundle_id, n_altered=altered_counts(sessions),
        whole=whole,
    )  # fmt: skip
    row = table.to_pylist(maps_as_pydicts="strict")[0]
    if row["judged_by"] != "account" or bundle.accounts is None:
        return JudgedAccount(row, None, verdicts)
    together = prompts.taken(np.arange(len(prompts.vectors)))
    judged = Judged(
        (sessions.account_ids[0],), (sessions.account_ids[0],), np.fmin.reduce(verdicts.started_at, keepdims=True),
        np.fmax.reduce(verdicts.ended_at, keepdims=True),
        PromptScores.of(together.evidence[:, 0], together.offsets), Totals.of(together),
    )  # fmt: skip
    found = scorer.judge_rows(judged, gathered.rows(), explain_all=True).verdict(0)
    threshold = float(bundle.accounts.threshold(gathered.n_exchanges, scorer.fpr)[0])
    found = replace(found, label=row["label"], p_value=row["p_value"], score=row["score"], threshold=threshold)
    return JudgedAccount(row, found, verdicts)


def _bounds(tally: Tally) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each account's sessions begin, and how many there are."""
    begins = np.flatnonzero(np.append(True, tally.account_ids[1:] != tally.account_ids[:-1]))
    return begins, np.diff(np.append(begins, len(tally.account_ids)))


def roll_up(
    tally: Tally, areas: Sequence[str], *, fpr: float, bundle: str, whole: WholeVerdicts | None = None,
    n_altered: NDArray[np.int64] | None = None,
) -> pa.Table:  # fmt: skip
    """One row an account, of `SCHEMA`, with `n_altered` prompts of each session (n_sessions,), null where not given.

    An account is flagged where its p-value is at most `fpr`: that of the whole account, or, where it isn't judged as
    one, Simes' combination of its sessions'.
    """
    if not len(tally.account_ids):
        return SCHEMA.empty_table()
    begins, n_sessions = _bounds(tally)
    n_exchanges = np.add.reduceat(tally.n_exchanges, begins)
    combined = simes(tally.p_value, begins)
    score, p_value = np.maximum.reduceat(tally.score, begins), combined
    decided = np.maximum.reduceat((tally.label != "undecided").astype(np.int64), begins) > 0
    is_whole = np.zeros(len(begins), np.bool_) if whole is None else whole.is_judged
    otherwise = np.where(decided | is_whole, "organic", "undecided")
    if whole is not None:
        score, p_value = np.where(is_whole, whole.score, score), np.where(is_whole, whole.p_value, p_value)
    prompts = np.add.reduceat(tally.area_share * tally.n_exchanges[:, None], begins, axis=0)
    columns = {
        "account_id": pa.array(tally.account_ids[begins], pa.string()),
        "n_sessions": pa.array(n_sessions),
        "n_exchanges": pa.array(n_exchanges),
        "started_at": times(np.fmin.reduceat(tally.started_at, begins)),
        "ended_at": times(np.fmax.reduceat(tally.ended_at, begins)),
        "max_score": pa.array(np.maximum.reduceat(tally.score, begins)),
        "min_p_value": pa.array(np.minimum.reduceat(tally.p_value, begins)),
        "p_value": pa.array(p_value),
        "score": pa.array(score),
        "simes_p_value": pa.array(combined),
        "judged_by": pa.array(np.where(is_whole, "account", "sessions").tolist()),
        "flagged_share": pa.array(
            np.add.reduceat((tally.label == "harvesting").astype(np.float64), begins) / n_sessions
        ),
        "label": pa.array(np.where(p_value <= fpr, "harvesting", otherwise).tolist()),
        "top_areas": _top(areas, prompts / n_exchanges[:, None]),
        "altered_prompts": pa.nulls(len(begins), pa.int64())
        if n_altered is None
        else pa.array(np.add.reduceat(n_altered, begins)),
        "bundle": pa.array([bundle] * len(begins), pa.string()),
        **_over_life(tally, begins, n_sessions, fpr),
    }
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def _over_life(
    tally: Tally, begins: NDArray[np.int64], n_sessions: NDArray[np.int64], fpr: float
) -> dict[str, pa.Array]:
    """Capital of each account over its sessions in order of time, those of unknown time last."""
    if not len(begins):
        return {"e_value": pa.array([], pa.float64()), "alarm_after": pa.array([], pa.int64())}
    order = np.lexsort((tally.started_at, np.repeat(np.arange(len(begins)), n_sessions)))
    held = capital(raised(tally.p_value[order]), begins)
    first = alarms(held, begins, fpr)
    sent = np.cumsum(tally.n_exchanges[order])
    before = np.where(begins > 0, sent[begins - 1], 0)
    return {
        "e_value": pa.array(held[begins + n_sessions - 1]),
        "alarm_after": pa.array(sent[first] - before, pa.int64(), mask=first < 0),
    }


def simes(p_values: NDArray[np.float64], begins: NDArray[np.int64]) -> NDArray[np.float64]:
    """Simes' combination of the p-values of each run that begins at `begins`, in (0, 1]."""
    n = np.diff(np.append(begins, len(p_values)))
    run = np.repeat(np.arange(len(begins)), n)
    ordered = p_values[np.lexsort((p_values, run))]
    rank = np.arange(1, len(p_values) + 1) - begins[run]
    return np.minimum(np.minimum.reduceat(n[run] * ordered / rank, begins), 1.0)


def _top(areas: Sequence[str], shares: NDArray[np.float64]) -> pa.Array:
    """The areas with the largest shares of each row, largest first."""
    order = np.argsort(-shares, axis=1, kind="stable")[:, :N_TOP_AREAS]
    top = np.take_along_axis(shares, order, axis=1)
    rows, ranks = np.nonzero(top > 0)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(shares)))]).astype(np.int32)
    keys = pa.array(np.array(areas, dtype=object)[order[rows, ranks]], pa.string())
    return pa.MapArray.from_arrays(pa.array(offsets), keys, pa.array(top[rows, ranks]))


def suspects(accounts: pa.Table, n: int) -> pa.Table:
    """Accounts that are flagged or have a flagged session, clearest first, at most `n`."""
    label, share = (np.array(accounts.column(name).to_pylist()) for name in ("label", "flagged_share"))
    chosen = accounts.filter(pa.array((label == "harvesting") | (share > 0))) if len(accounts) else accounts
    order = [("p_value", "ascending"), ("max_score", "descending"), ("account_id", "ascending")]
    return chosen.sort_by(order).slice(0, n)
