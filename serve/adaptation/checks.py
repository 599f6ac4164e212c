"""Checks: whether traffic is enough, benign, and separable from confirmed campaigns, before a bundle is made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve.adaptation.provider_rows import Rows, is_learned
from serve.bundle.bundle import Bundle
from serve.model.calibration import MIN_DECIDABLE
from serve.sessions.sessionizing import Timeline
from serve.sessions.wording import counted

MIN_ACCOUNTS = 40
MAX_HARVESTING_SHARE = 0.5
"""Share of accounts that score above one half, over which traffic can't be taken for benign."""

MIN_CONFIRMED_ACCOUNTS, MIN_CONFIRMED_EXCHANGES = 2, 50
"""Confirmed campaigns of fewer can't be both learned from and tested on."""

MIN_CONFIRMED_AUROC = 0.7
"""AUROC below which held-out accounts of confirmed campaigns are not separated from benign ones."""


def check_size(rows: Rows, fpr: float) -> None:
    """That there are accounts and sessions enough.

    Raises:
        ValueError: when there aren't.
    """
    n_accounts = len(np.unique(rows.account))
    if n_accounts < MIN_ACCOUNTS:
        raise ValueError(
            f"the traffic is of {counted(n_accounts, 'account')}, expected at least {MIN_ACCOUNTS}: nobody may be both "
            "learned from and calibrated on"
        )
    needed = math.ceil(1.0 / fpr - 1e-9)
    n_usable = int((~is_learned(rows.account) & (rows.n_exchanges >= MIN_DECIDABLE)).sum())
    if n_usable < needed:
        raise ValueError(
            f"the traffic is too small: {counted(n_usable, 'session')} of at least {MIN_DECIDABLE} exchanges among the "
            f"accounts to calibrate on, expected {needed}, since no p-value of fewer can be {fpr:g} or less"
        )


def check_benign(rows: Rows, bundle: Bundle) -> NDArray[np.float64]:
    """The p-value of each session, (n_sessions,) 0-1, by the bundle as it is.

    Raises:
        ValueError: when the bundle finds most accounts likelier harvesting than not.
    """
    margins = bundle.classifier.margins(rows.X)
    chosen = rows.n_exchanges >= MIN_DECIDABLE
    _, own = np.unique(rows.account[chosen], return_inverse=True)
    high = np.bincount(own, weights=bundle.calibration.score(margins)[chosen] > 0.5) / np.bincount(own) > 0.5
    if high.mean() > MAX_HARVESTING_SHARE:
        raise ValueError(
            f"the bundle {bundle.folder} finds {high.mean():.0%} of the accounts likelier harvesting than not, "
            f"expected at most {MAX_HARVESTING_SHARE:.0%}: this isn't benign traffic, or not traffic "
            "that this bundle can read"
        )
    return bundle.calibration.p_value(margins, rows.n_exchanges)


def check_confirmed(campaigns: Timeline, benign: Timeline) -> int:
    """How many accounts the confirmed campaigns have.

    Raises:
        ValueError: when they are too few, or are benign, too.
    """
    accounts = pc.unique(pa.chunked_array([campaigns.account_ids]))
    n_both = int(pc.sum(pc.is_in(accounts, value_set=pc.unique(pa.chunked_array([benign.account_ids])))).as_py() or 0)
    if n_both:
        raise ValueError(f"{counted(n_both, 'account')} in both the benign and the harvesting traffic, expected none")
    n_exchanges = len(campaigns.order)
    if len(accounts) < MIN_CONFIRMED_ACCOUNTS or n_exchanges < MIN_CONFIRMED_EXCHANGES:
        raise ValueError(
            f"the harvesting traffic is of {counted(len(accounts), 'account')} and {counted(n_exchanges, 'exchange')}, "
            f"expected at least {MIN_CONFIRMED_ACCOUNTS} and {MIN_CONFIRMED_EXCHANGES}: what is learned from some is "
            "tested on others"
        )
    return len(accounts)


def check_told_apart(names: Sequence[str], learned: Rows, confirmed: Rows) -> None:
    """That sessions of confirmed campaigns score above benign ones, by scorers that saw neither's account.

    Raises:
        ValueError: when they don't.
    """
    column = list(names).index("evidence.harvest_mean")
    benign, own = np.sort(learned.X[:, column]), confirmed.X[confirmed.dilution == 0.0, column]
    below, not_above = np.searchsorted(benign, own, "left"), np.searchsorted(benign, own, "right")
    auroc = float((below + not_above).mean() / 2.0 / len(benign))
    if auroc < MIN_CONFIRMED_AUROC:
        raise ValueError(
            f"what is given as harvesting looks like the benign traffic (AUROC {auroc:.2f} on accounts left out, "
            f"expected at least {MIN_CONFIRMED_AUROC}): are these the right files?"
        )
