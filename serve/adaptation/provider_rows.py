"""Provider rows: feature rows of a provider's own sessions, each scored by a scorer that never saw its account."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve.bundle.bundle import Bundle
from serve.capability.coverage import CellCounts
from serve.features.session_features import Totals, assembled, compared, observe
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

DILUTIONS = (0.5, 0.75, 0.9)
"""Shares of benign traffic in which confirmed campaigns are hidden again."""

_SIDE = np.uint64(1 << 20)  # a low bit of the hash, since a sample of accounts is drawn by its high ones
_PART = np.uint64(1 << 21)  # of the accounts that are learned from, whose prompts score those of the others


@dataclass(frozen=True)
class Rows:
    """Feature rows of some sessions with their sizes, accounts (hashes), share of cover traffic and cells; `is_whole`
    where nothing was cut."""

    X: NDArray[np.float64]
    n_exchanges: NDArray[np.int64]
    account: NDArray[np.uint64]
    dilution: NDArray[np.float64]
    is_whole: NDArray[np.bool_]
    cells: CellCounts

    def __len__(self) -> int:
        return len(self.X)

    def where(self, chosen: NDArray[np.bool_]) -> Rows:
        """The rows that are chosen."""
        position = np.cumsum(chosen) - 1
        own = chosen[self.cells.unit]
        cells = CellCounts(
            position[self.cells.unit[own]], self.cells.cell[own], self.cells.count[own], int(chosen.sum())
        )  # fmt: skip
        return Rows(
            self.X[chosen], self.n_exchanges[chosen], self.account[chosen], self.dilution[chosen],
            self.is_whole[chosen], cells,
        )  # fmt: skip

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """The rows of all parts, in order."""
        firsts = np.cumsum([0, *(part.cells.n_units for part in parts)])
        cells = CellCounts(
            np.concatenate([part.cells.unit + first for part, first in zip(parts, firsts, strict=False)]),
            np.concatenate([part.cells.cell for part in parts]),
            np.concatenate([part.cells.count for part in parts]),
            int(firsts[-1]),
        )
        return cls(
            np.concatenate([part.X for part in parts]), np.concatenate([part.n_exchanges for part in parts]),
            np.concatenate([part.account for part in parts]), np.concatenate([part.dilution for part in parts]),
            np.concatenate([part.is_whole for part in parts]), cells,
        )  # fmt: skip


@dataclass(frozen=True)
class AccountRows:
    """Feature rows of whole accounts, `X` (n_accounts, n_features), and how many exchanges each has."""

    X: NDArray[np.float64]
    n_exchanges: NDArray[np.int64]


@dataclass(frozen=True)
class CrossBundles:
    """The bundle with a prompt scorer that knows the provider's prompts (`served`), and for each half of the accounts
    that are learned from a bundle whose scorer knows only the other half's."""

    served: Bundle
    crossed: tuple[Bundle, Bundle]

    def of(self, account: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.bool_], Bundle]]:
        """Which of these accounts each bundle scores."""
        learned, first = is_learned(account), is_first_part(account)
        yield ~learned, self.served
        yield learned & first, self.crossed[0]
        yield learned & ~first, self.crossed[1]


def is_learned(account: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each account (its hash) is learned from, with all its sessions; the others are calibrated on."""
    return np.asarray((account & _SIDE) > 0)


def is_first_part(account: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which half of the accounts that are learned from each one is in."""
    return np.asarray((account & _PART) > 0)


def are_learned(account_ids: Sequence[str]) -> NDArray[np.bool_]:
    """`is_learned` of accounts by name."""
    return is_learned(text_hashes(pa.array(account_ids, pa.string())))


def account_hashes(sessions: Sessions) -> NDArray[np.uint64]:
    """Hash of each session's account."""
    return text_hashes(pa.array(sessions.account_ids, pa.string()))


def rows_of(sessions: Sessions, bundle: Bundle, *, is_whole: bool = True, dilution: float = 0.0) -> Rows:
    """Feature rows of these sessions by this bundle's encoder, map and prompt scorer."""
    prompts = observe(sessions, bundle.encoder, bundle.capabilities, bundle.prompt_scorer)
    totals = Totals.of(prompts)
    X = assembled(totals, compared(prompts), bundle.capabilities)
    return Rows(
        X, sessions.n_exchanges, account_hashes(sessions), np.full(len(sessions), dilution),
        np.full(len(sessions), is_whole), totals.cells,
    )  # fmt: skip


def account_rows(timeline: Timeline, bundle: Bundle) -> AccountRows:
    """Rows of whole accounts that nothing is learned from, at most `MAX_ACCOUNTS`."""
    hashes = text_hashes(timeline.account_ids)
    aside = np.unique(hashes[~is_learned(hashes)])[:MAX_ACCOUNTS]
    chosen = np.isin(hashes, aside)
    owner = np.unique(timeline.owners()[chosen], return_inverse=True)[1]
    whole = WholeAccounts(owner, np.diff(timeline.offsets)[chosen], bundle.capabilities)
    start = 0
    for sessions in timeline.chunks(CHUNK_PROMPTS):
        own = np.flatnonzero(chosen[start : start + len(sessions)]).tolist()
        start += len(sessions)
        if own:
            kept = cut(sessions, [(index, int(sessions.n_exchanges[index])) for index in own])
            whole.add(observe(kept, bundle.encoder, bundle.capabilities, bundle.prompt_scorer))
    return AccountRows(whole.rows(), whole.n_exchanges)


def benign_rows(timeline: Timeline, bundles: CrossBundles) -> Rows:
    """Feature rows of sessions, at most `MAX_OF_ACCOUNT` of an account and size class, and of beginnings of longer ones
    for each size class, one a session and class."""
    sizes, hashes = np.diff(timeline.offsets), _session_hashes(timeline)
    kept = _capped(timeline, sizes, hashes)
    wanted: dict[int, list[int]] = {}
    for low, high in zip(SIZE_EDGES, UPPER, strict=True):
        longer = np.flatnonzero((sizes > high) & kept)
        longer = longer[np.argsort(hashes[longer], kind="stable")][: 2 * MAX_CUT]
        for index in longer.tolist():
            wanted.setdefault(index, []).append(low + int(hashes[index] >> np.uint64(32)) % (high - low + 1))
    parts, start = [], 0
    for sessions in timeline.chunks(CHUNK_PROMPTS):
        for chosen, bundle in bundles.of(account_hashes(sessions)):
            own = np.flatnonzero(chosen & kept[start : start + len(sessions)]).tolist()
            whole = [(index, int(sessions.n_exchanges[index])) for index in own]
            if whole:
                parts.append(rows_of(cut(sessions, whole), bundle))
            cuts = [(index, n) for index in own for n in wanted.get(start + index, ())]
            parts += [rows_of(cut(sessions, group), bundle, is_whole=False) for group in _grouped(cuts)]
        start += len(sessions)
    return Rows.joined(parts)


def harvesting_rows(harvesting: Sessions, benign: Sessions, bundles: CrossBundles) -> Rows:
    """Feature rows of confirmed campaigns' sessions, each plain and hidden in benign sessions of accounts that are
    learned from, scored by the bundle that knows neither's prompts."""
    first, cover_first = is_first_part(account_hashes(harvesting)), is_first_part(account_hashes(benign))
    learned = is_learned(account_hashes(benign))
    parts = []
    for is_first, bundle in zip((True, False), bundles.crossed, strict=True):
        own = np.flatnonzero(first == is_first).tolist()
        if not own:
            continue
        plain = cut(harvesting, [(index, int(harvesting.n_exchanges[index])) for index in own])
        parts.append(rows_of(plain, bundle))
        cover = np.flatnonzero(learned & (cover_first == is_first)).tolist()
        if cover:
            hidden = cut(benign, [(index, int(benign.n_exchanges[index])) for index in cover])
            parts += [rows_of(diluted(plain, hidden, share), bundle, dilution=share) for share in DILUTIONS]
    return Rows.joined(parts)


def diluted(sessions: Sessions, cover: Sessions, share: float) -> Sessions:
    """Each session's first exchanges, at random places among as much cover traffic as makes a share `share`; it keeps
    its size."""
    rng = np.random.default_rng(0)
    prompts: list[str] = []
    position = 0
    for start, stop in zip(sessions.offsets[:-1].tolist(), sessions.offsets[1:].tolist(), strict=True):
        n = stop - start
        n_own = max(1, round(n * (1.0 - share)))
        own = list(sessions.prompts[start : start + n_own])
        others = [cover.prompts[(position + index) % len(cover.prompts)] for index in range(n - n_own)]
        position += n - n_own
        places = set(rng.choice(n, size=n_own, replace=False).tolist())
        prompts += [own.pop(0) if place in places else others.pop(0) for place in range(n)]
    return Sessions(
        sessions.session_ids, sessions.account_ids, sessions.offsets, tuple(prompts), np.full(len(prompts), np.nan)
    )


def cut(sessions: Sessions, cuts: list[tuple[int, int]]) -> Sessions:
    """The first n exchanges of session i for each (i, n)."""
    places = [np.arange(sessions.offsets[index], sessions.offsets[index] + n) for index, n in cuts]
    rows = np.concatenate(places)
    return Sessions(
        tuple(sessions.session_ids[index] for index, _ in cuts),
        tuple(sessions.account_ids[index] for index, _ in cuts),
        np.concatenate([[0], np.cumsum([n for _, n in cuts])]).astype(np.int64),
        tuple(sessions.prompts[row] for row in rows.tolist()),
        sessions.at[rows],
    )


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
