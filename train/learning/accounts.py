"""Whole accounts that were composed, as feature rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.features.session_features import feature_rows
from serve.features.whole_accounts import WholeAccounts
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.learning.evidence import CrossEvidence
from train.learning.table import observed_parts
from train.synthesis.composition import AccountComposition


@dataclass(frozen=True)
class AccountTable:
    """Feature rows of accounts, (n_accounts, n_features), and of their sessions, with the sizes of both."""

    rows: NDArray[np.float64]
    n_exchanges: NDArray[np.int64]
    session_rows: NDArray[np.float64]
    session_sizes: NDArray[np.int64]


def account_table(
    composed: AccountComposition, pool: Pool, cache: PromptCache, evidence: CrossEvidence
) -> AccountTable:
    """Rows of composed accounts and of their sessions, in their order."""
    sizes = np.diff(composed.sessions.offsets)
    whole = WholeAccounts(composed.account, sizes, cache.capabilities)
    sessions = list(_session_rows(composed, pool, cache, evidence, whole))
    return AccountTable(whole.rows(), whole.n_exchanges, np.concatenate(sessions), sizes)


def _session_rows(
    composed: AccountComposition, pool: Pool, cache: PromptCache, evidence: CrossEvidence, whole: WholeAccounts
) -> Iterator[NDArray[np.float64]]:
    for _, prompts in observed_parts(composed.sessions, pool, cache, evidence):
        rows = feature_rows(prompts, cache.capabilities)
        whole.add(prompts, rows)
        yield rows
