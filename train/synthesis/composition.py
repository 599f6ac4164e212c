"""Compositions: composed sessions and accounts as columns of indices into a pool; texts are made at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.sessions.records import Sessions
from train.corpora.pool import Pool
from train.synthesis.channel import Channel


@dataclass(frozen=True)
class Composition:
    """Sessions as columns: session i owns `rows[offsets[i]:offsets[i + 1]]`, indices into a pool."""

    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]
    kind: NDArray[np.str_]
    campaign: NDArray[np.str_]
    dilution: NDArray[np.float64]
    channel: tuple[Channel, ...]
    at: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def is_harvesting(self) -> NDArray[np.bool_]:
        """Whether each session is of a campaign."""
        return np.asarray(self.kind == "harvest")

    def texts(self, pool: Pool) -> tuple[str, ...]:
        """What was sent, after each session's surface channel."""
        texts: list[str] = []
        bounds = self.offsets.tolist()
        for channel, start, stop in zip(self.channel, bounds[:-1], bounds[1:], strict=True):
            own = (pool.texts[row] for row in self.rows[start:stop].tolist())
            texts.extend(own if channel.is_plain else map(channel.apply, own))
        return tuple(texts)

    def sessions(self, pool: Pool, prefix: str = "s") -> Sessions:
        """The sessions in the public format, each an account of its own."""
        names = tuple(f"{prefix}{index:06d}" for index in range(len(self)))
        return Sessions(names, names, self.offsets, self.texts(pool), self.at)

    def part(self, start: int, stop: int) -> Composition:
        """Sessions `start` to `stop` (exclusive)."""
        low, high = int(self.offsets[start]), int(self.offsets[stop])
        return Composition(
            self.rows[low:high], self.offsets[start : stop + 1] - low, self.kind[start:stop],
            self.campaign[start:stop], self.dilution[start:stop], self.channel[start:stop], self.at[low:high],
        )  # fmt: skip

    @staticmethod
    def joined(parts: Sequence[Composition]) -> Composition:
        """All sessions of these compositions, in order."""
        sizes = np.concatenate([np.diff(part.offsets) for part in parts])
        return Composition(
            np.concatenate([part.rows for part in parts]),
            np.concatenate([[0], np.cumsum(sizes)]),
            np.concatenate([part.kind for part in parts]),
            np.concatenate([part.campaign for part in parts]),
            np.concatenate([part.dilution for part in parts]),
            tuple(channel for part in parts for channel in part.channel),
            np.concatenate([part.at for part in parts]),
        )


@dataclass(frozen=True)
class AccountComposition:
    """Sessions of whole accounts: `account` (n_sessions,) says whose each is, 0, 1, 2 and so on."""

    sessions: Composition
    account: NDArray[np.int64]

    def first(self) -> NDArray[np.int64]:
        """The first session of each account, (n_accounts,)."""
        return np.unique(self.account, return_index=True)[1]


@dataclass(frozen=True, slots=True)
class Drawn:
    """One session before its surface channel: rows of the pool in the order sent."""

    kind: str
    campaign: str
    dilution: float
    rows: NDArray[np.int64]
