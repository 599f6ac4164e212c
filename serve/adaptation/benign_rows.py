"""Benign rows: feature rows of a provider's benign sessions and accounts, whose prompts are read once for both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve.adaptation.provider_rows import CrossBundles, Rows, account_hashes, cut, is_learned, rows_from, rows_of
from serve.features.session_features import observe
from serve.features.whole_accounts import WholeAccounts
from serve.scoring.scorer import CHUNK_PROMPTS
from serve.sessions.records import Sessions
from serve.sessions.sessionizing import Timeline, text_hashes
from serve.sessions.size_classes import SIZE_EDGES

UPPER = (*(edge - 1 for edge in SIZE_EDGES[1:]), SIZE_EDGES[-1] * 2)
"""Largest size of sessions that are cut from longer ones for each size class."""

MAX_CUT = 1500
"""Sessions of a size class, of either half of the accounts, that are made of longer ones."""

MAX_OF_ACCOUNT = 20
"""Sessions of one account and size class that are looked at, so that no account decides alone."""

MAX_ACCOUNTS = 2_000
"""Whole accounts that are calibrated on."""


@dataclass(frozen=True)
class AccountRows:
    """Feature rows of whole accounts, `X` (n_accounts, n_features), and how many exchanges each has."""

    X: NDArray[np.float64]
    n_exchanges: NDArray[np.int64]


@dataclass(frozen=True)
class BenignRows:
    """Rows of sessions, and of accounts that are calibrated on."""

    sessions: Rows
    accounts: AccountRows


def benign_rows(timeline: Timeline, bundles: CrossBundles) -> BenignRows:
    """Feature rows of sessions, at most `MAX_OF_ACCOUNT` of an account and size class, and of beginnings of longer ones
    for each size class, one a session and class; and of whole accounts, at most `MAX_ACCOUNTS`."""
    sizes, hashes = np.diff(timeline.offsets), _session_hashes(timeline)
    kept, in_account = _capped(timeline, sizes, hashes), _in_whole_accounts(timeline)
    beginnings = _beginnings(sizes, hashes, kept)
    owner = np.unique(timeline.owners()[in_account], return_inverse=True)[1]
    accounts = WholeAccounts(owner, sizes[in_account], bundles.served.capabilities)
    parts, start = [], 0
    for sessions in timeline.chunks(CHUNK_PROMPTS):
        here = slice(start, start + len(sessions))
        for chosen, bundle in bundles.of(account_hashes(sessions)):
            read = np.flatnonzero(chosen & (kept[here] | in_account[here]))
            if not len(read):
                continue
            is_kept, is_in_account = kept[here][read], in_account[here][read]
            prompts = observe(_whole(sessions, read), bundle.encoder, bundle.capabilities, bundle.prompt_scorer)
            if is_in_account.any():
                accounts.add(prompts.of_sessions(is_in_account))
            own = read[is_kept]
            if len(own):
                parts.append(rows_from(prompts.of_sessions(is_kept), _whole(sessions, own), bundle))
            cuts = [(index, n) for index in own.tolist() for n in beginnings.get(start + index, ())]
            parts += [rows_of(cut(sessions, group), bundle, is_whole=False) for group in _grouped(cuts)]
        start += len(sessions)
    return BenignRows(Rows.joined(parts), AccountRows(accounts.rows(), accounts.n_exchanges))


def _beginnings(sizes: NDArray[np.int64], hashes: NDArray[np.uint64], kept: NDArray[np.bool_]) -> dict[int, list[int]]:
    """How many of its first exchanges are a row of their own, for each session that is cut."""
    wanted: dict[int, list[int]] = {}
    for low, high in zip(SIZE_EDGES, UPPER, strict=True):
        longer = np.flatnonzero((sizes > high) & kept)
        longer = longer[np.argsort(hashes[longer], kind="stable")][: 2 * MAX_CUT]
        for index in longer.tolist():
            wanted.setdefault(index, []).append(low + int(hashes[index] >> np.uint64(32)) % (high - low + 1))
    return wanted


def _in_whole_accounts(timeline: Timeline) -> NDArray[np.bool_]:
    """Whether each session is of an account that is calibrated on as a whole: nothing is learned from it."""
    hashes = text_hashes(timeline.account_ids)
    return np.isin(hashes, np.unique(hashes[~is_learned(hashes)])[:MAX_ACCOUNTS])


def _whole(sessions: Sessions, chosen: NDArray[np.int64]) -> Sessions:
    return cut(sessions, [(index, int(sessions.n_exchanges[index])) for index in chosen.tolist()])


def _capped(timeline: Timeline, sizes: NDArray[np.int64], hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """The sessions with the lowest hashes of each account and size class, at most `MAX_OF_ACCOUNT`."""
    account = text_hashes(timeline.account_ids)
    classes = np.searchsorted(SIZE_EDGES, sizes, side="right")
    order = np.lexsort((hashes, classes, account))
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(account[order]) != 0) | (np.diff(classes[order]) != 0)
    first = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    kept = np.zeros(len(order), np.bool_)
    kept[order] = np.arange(len(order)) - first < MAX_OF_ACCOUNT
    return kept


def _grouped(cuts: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    n_group = 4000
    return (cuts[start : start + n_group] for start in range(0, len(cuts), n_group))


def _session_hashes(timeline: Timeline) -> NDArray[np.uint64]:
    return text_hashes(
        pc.binary_join_element_wise(timeline.account_ids, timeline.session_ids, pa.scalar("\n", pa.large_string()))
    )
