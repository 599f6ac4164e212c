"""Clearest: the accounts of a job that somebody should look at first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from serve.jobs.summary import ClearAccount
from serve.scoring.accounts import SCHEMA, suspects
from serve.scoring.verdict_files import read_table

N_CLEAREST = 10
_COLUMNS = pa.schema([
    SCHEMA.field(name) for name in ("account_id", "label", "p_value", "max_score", "flagged_share", "n_exchanges")
])  # fmt: skip


def clearest(parts: Sequence[Path]) -> tuple[ClearAccount, ...]:
    """The clearest suspects of the accounts in these files, at most `N_CLEAREST`; one file is in memory at a time.

    Raises:
        InputError: when a file can't be read.
    """
    found = _COLUMNS.empty_table()
    for part in parts:
        found = suspects(pa.concat_tables([found, suspects(read_table(part, _COLUMNS), N_CLEAREST)]), N_CLEAREST)
    return tuple(
        ClearAccount(row["account_id"], row["label"], row["p_value"], row["n_exchanges"]) for row in found.to_pylist()
    )
