"""Whole accounts: the feature row of all prompts of an account together, as if it had been one long session.

A harvest that is spread thin over hundreds of exchanges shows here where no session alone does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serve.capability.capability_map import CapabilityMap
from serve.features import similarity
from serve.features.session_features import Evidenced, feature_names, feature_rows

MAX_ACCOUNT_PROMPTS = 16_384
"""Prompts of an account that are looked at; of a larger one every second one, or every fourth and so on."""


class WholeAccounts:
    """Gathers feature rows of accounts from their sessions, which come account by account and a part at a time.

    No more than one part and the account that it ends in are held.
    """

    def __init__(self, owner: NDArray[np.int64], session_sizes: NDArray[np.int64], capabilities: CapabilityMap) -> None:
        """For all sessions that will come: the account of each, (n_sessions,) rising from 0 without gaps, and how many
        exchanges each has."""
        self.n_exchanges = np.bincount(owner, weights=session_sizes).astype(np.int64)
        self._owner, self._capabilities = owner, capabilities
        self._ends = np.cumsum(self.n_exchanges)
        self._steps = similarity.stride(self.n_exchanges, MAX_ACCOUNT_PROMPTS) if len(owner) else self.n_exchanges
        self._is_alone = (np.bincount(owner) == 1) & (self._steps == 1)
        self._n_sessions = self._n_prompts = 0
        self._held: list[tuple[NDArray[np.int64], Evidenced]] = []
        n_features = len(feature_names(capabilities.areas))
        self._rows = np.zeros((len(self.n_exchanges), n_features))

    def add(self, prompts: Evidenced, rows: NDArray[np.float64] | None = None) -> None:
        """The next sessions: their prompts and, where they are known, the sessions' own rows (n_sessions, n_features),
        which are those of accounts of one session."""
        sizes = np.diff(prompts.offsets)
        own = self._owner[self._n_sessions : self._n_sessions + len(sizes)]
        alone = np.zeros(len(own), np.bool_)
        if rows is not None:
            alone = self._is_alone[own]
            self._rows[own[alone]] = rows[alone]
        account = np.repeat(own, sizes)
        place = self._n_prompts + np.arange(len(account)) - (self._ends - self.n_exchanges)[account]
        kept = np.flatnonzero((place % self._steps[account] == 0) & ~np.repeat(alone, sizes))
        self._held.append((account[kept], prompts.taken(kept)))
        self._n_sessions += len(sizes)
        self._n_prompts += len(account)
        self._finish()

    def rows(self) -> NDArray[np.float64]:
        """Feature rows of all accounts, (n_accounts, n_features), when all sessions have come."""
        return self._rows

    def _finish(self) -> None:
        """Compute the rows of accounts that are complete, and keep the prompts of the one that isn't."""
        account = np.concatenate([own for own, _ in self._held])
        n_complete = int(np.searchsorted(account, np.searchsorted(self._ends, self._n_prompts, side="right")))
        if not n_complete:
            return
        prompts = Evidenced.joined([part for _, part in self._held])
        ended, sizes = np.unique(account[:n_complete], return_counts=True)
        whole = prompts.taken(np.arange(n_complete), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
        self._rows[ended] = feature_rows(whole, self._capabilities)
        rest = np.arange(n_complete, len(account))
        self._held = [(account[rest], prompts.taken(rest))]
