"""Provider rows: feature rows of a provider's own sessions, each scored by a scorer that never saw its account."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.bundle.bundle import Bundle
from serve.capability.coverage import CellCounts
from serve.features.session_features import Evidenced, Totals, assembled, compared, observe
from serve.sessions.records import Sessions
from serve.sessions.sessionizing import text_hashes

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
    return rows_from(prompts, sessions, bundle, is_whole=is_whole, dilution=dilution)


def rows_from(
    prompts: Evidenced, sessions: Sessions, bundle: Bundle, *, is_whole: bool = True, dilution: float = 0.0
) -> Rows:
    """Feature rows of sessions whose prompts were observed."""
    totals = Totals.of(prompts)
    X = assembled(totals, compared(prompts), bundle.capabilities)
    return Rows(
        X, sessions.n_exchanges, account_hashes(sessions), np.full(len(sessions), dilution),
        np.full(len(sessions), is_whole), totals.cells,
    )  # fmt: skip


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
