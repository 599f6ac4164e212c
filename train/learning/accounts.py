"""Learn the account model: whole accounts of campaigns, thinly hidden ones among them, against benign ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from serve.capability.capability_map import CapabilityMap
from serve.features.session_features import Evidenced, Totals, assembled, compared
from serve.model.account_model import AccountRows
from serve.model.calibration import Calibration
from serve.scoring.accounts import Tally, account_rows
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.learning.evidence import CrossEvidence
from train.learning.table import observed_parts
from train.synthesis.composition import AccountComposition

Margins = Callable[[NDArray[np.float64], NDArray[np.str_]], NDArray[np.float64]]
"""Margins of feature rows (n_sessions, n_features) of these campaigns or sources, which the classifier never saw."""


def composed_rows(
    composed: AccountComposition, pool: Pool, cache: PromptCache, evidence: CrossEvidence, margins: Margins,
    calibration: Calibration,
) -> AccountRows:  # fmt: skip
    """What the account model reads of composed accounts, in their order."""
    tallies = []
    for part, prompts in observed_parts(composed.sessions, pool, cache, evidence):
        tallies.append(_tally(prompts, part.campaign, cache.capabilities, margins, calibration))
    tally = Tally.joined(tallies)
    return account_rows(replace(tally, account_ids=composed.account.astype(object)))


def _tally(
    prompts: Evidenced, campaign: NDArray[np.str_], capabilities: CapabilityMap, margins: Margins,
    calibration: Calibration,
) -> Tally:  # fmt: skip
    totals = Totals.of(prompts)
    rows = assembled(totals, compared(prompts), capabilities)
    n, unknown = len(rows), np.full(len(rows), np.nan)
    p_value = calibration.p_value(margins(rows, campaign), totals.n_exchanges)
    n_areas = len(capabilities.areas)
    return Tally(
        np.array([""] * n, dtype=object), totals.n_exchanges, unknown, unknown, np.zeros(n), p_value,
        np.array(["organic"] * n), rows[:, -(n_areas + 1) : -1], totals.score_counts,
    )  # fmt: skip
