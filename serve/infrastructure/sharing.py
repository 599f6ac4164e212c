"""Sharing: how firmly what accounts are used from ties some of them, against everybody else.

A value speaks for a tie by how much more frequent it is among the accounts than outside: an office's address, most of
whose accounts ask something else, or a popular user agent says little. Nothing that an account does not share counts
against it, and what all of it can say is bounded, so that customers of one product behind one address stay what their
prompts say they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from serve.infrastructure.account_metadata import KINDS, AccountMetadata

MAX_TIE = 4.0
"""Nats that shared values may add to what ties an account to others."""

MIN_TIE = 1.0
"""Nats from which shared values alone keep an account in a campaign that prompts alone don't tell from others."""

MAX_LOG_ODDS = 2.0
"""Log-odds that shared values may add to those of a campaign: they are at most exp(2), some 7 times, as frequent in one
as among customers of a product."""

_WEAK_TIE = 1.0
_WEAK = ("asn", "user_agent", "country")
_SHRINKAGE = 2.0
_N_DRAWS = 99
_MAX_P = 0.02
_LEAST_TIE = 0.2
_N_SHOWN = 8


@dataclass(frozen=True, slots=True)
class SharedValue:
    """A value that several of some accounts have: its kind, how many of them, and how many others."""

    kind: str
    n_accounts: int
    n_outside: int


@dataclass(frozen=True)
class SharedInfrastructure:
    """What some accounts share: `ties` (n_accounts,) in nats, 0 to `MAX_TIE`, what that adds to the log-odds of a
    campaign, 0 to `MAX_LOG_ODDS`, the share of random sets of accounts that share as much, and the values that most
    have, without naming any."""

    ties: NDArray[np.float64]
    log_odds: float
    p_value: float
    values: tuple[SharedValue, ...]

    @classmethod
    def nothing(cls, n_accounts: int) -> Self:
        """Of accounts that share nothing."""
        return cls(np.zeros(n_accounts), 0.0, 1.0, ())


class Sharing:
    """Which accounts of a population have which values."""

    def __init__(self, metadata: AccountMetadata, account_ids: tuple[str, ...]) -> None:
        """Keep the values that at least two of these accounts have."""
        owner, self._n = metadata.owned_by(account_ids), len(account_ids)
        known = owner >= 0
        owner, kind = owner[known], metadata.kind[known]
        _, value, count = np.unique(metadata.value[known], return_inverse=True, return_counts=True)
        several = count[value] > 1
        owner, kind = owner[several], kind[several]
        names, value = np.unique(value[several], return_inverse=True)
        self._kind = np.zeros(len(names), np.int64)
        self._kind[value] = kind
        ones = np.ones(len(owner), np.float64)
        self._has = scipy.sparse.csr_array((ones, (owner, value)), shape=(self._n, len(names)))
        self._n_accounts = np.bincount(value, minlength=len(names))
        self._most = np.where(np.isin(self._kind, [KINDS.index(name) for name in _WEAK]), _WEAK_TIE, MAX_TIE)

    @property
    def is_empty(self) -> bool:
        """Whether no two accounts share anything."""
        return not len(self._kind)

    def ties(self, accounts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Nats by which what every account (n_accounts,) has ties it to these, 0 to `MAX_TIE`."""
        return self._ties(accounts, np.arange(self._n))

    def evidence(self, accounts: NDArray[np.int64]) -> SharedInfrastructure:
        """What these accounts share, against random sets of as many."""
        ties = self._ties(accounts, accounts)
        observed = float(ties.mean()) if len(ties) else 0.0
        if observed < _LEAST_TIE:
            return SharedInfrastructure(ties, 0.0, 1.0, ())
        rng = np.random.default_rng(len(accounts))
        drawn = [rng.choice(self._n, len(accounts), replace=False) for _ in range(_N_DRAWS)]
        by_chance = np.array([self._ties(own, own).mean() for own in drawn])
        p_value = float((1 + np.sum(by_chance >= observed)) / (1 + _N_DRAWS))
        above = (observed - float(by_chance.mean())) / MAX_TIE
        log_odds = MAX_LOG_ODDS * max(above, 0.0) if p_value <= _MAX_P else 0.0
        return SharedInfrastructure(ties, log_odds, p_value, self._shown(accounts))

    def _ties(self, accounts: NDArray[np.int64], asked: NDArray[np.int64]) -> NDArray[np.float64]:
        """How much likelier the likeliest value of each kind is among these accounts than outside, for those asked,
        times the share of its accounts that are of these; an account doesn't speak for itself."""
        total = np.zeros(len(asked))
        if self.is_empty or len(accounts) < 2:
            return total
        inside = np.asarray(self._has[accounts].sum(axis=0)).ravel()
        rows = self._has[asked]
        place, value = np.repeat(np.arange(len(asked)), np.diff(rows.indptr)), rows.indices
        member = np.isin(asked, accounts)[place]
        others = inside[value] - member
        among = others / (len(accounts) - member + _SHRINKAGE)
        outside = (self._n_accounts[value] - inside[value] - ~member + 1.0) / (self._n - len(accounts) + 1.0)
        ratio = np.log(np.maximum(among, 1e-12) / np.maximum(outside, 1e-12))
        exclusive = others / np.maximum(self._n_accounts[value] - 1, 1)
        tie = np.where(others > 0, np.clip(ratio, 0.0, self._most[value]) * exclusive, 0.0)
        best = np.zeros((len(asked), len(KINDS)))
        np.maximum.at(best, (place, self._kind[value]), tie)
        return np.asarray(np.minimum(best.sum(axis=1), MAX_TIE))

    def _shown(self, accounts: NDArray[np.int64]) -> tuple[SharedValue, ...]:
        """The values that tie most accounts, those more frequent among them than outside."""
        inside = np.asarray(self._has[accounts].sum(axis=0)).ravel().astype(np.int64)
        outside = self._n_accounts - inside
        frequent = inside / len(accounts) > outside / max(self._n - len(accounts), 1)
        several = np.flatnonzero((inside > 1) & frequent)
        order = several[np.lexsort((outside[several], self._kind[several], -inside[several]))][:_N_SHOWN]
        return tuple(SharedValue(KINDS[self._kind[row]], int(inside[row]), int(outside[row])) for row in order.tolist())
