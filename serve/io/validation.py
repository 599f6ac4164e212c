"""Validation: exchanges as columns, checked row by row; a row that can't be used is a counted reject, never quoted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve.sessions.records import MAX_PROMPT_CHARS, text_fault

SCHEMA = pa.schema([
    ("account_id", pa.large_string()), ("session_id", pa.large_string()), ("at", pa.float64()),
    ("prompt", pa.large_string()),
])  # fmt: skip
"""Columns of checked exchanges: `at` in seconds since 1970, NaN where unknown; `session_id` null where none."""

MISSING = {name: f"{name} is missing" for name in ("account_id", "prompt")}
"""Reasons that reject a row without a required column."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some consecutive rows of a slice.

    `table` (of `SCHEMA`) holds the usable ones in order; `rejects` maps the line (in Parquet: row) of each other one,
    counted from 1 where the slice begins, to the reason. `n_lines` also counts blank lines, which are no rows.
    """

    table: pa.Table
    rejects: Mapping[int, str]
    n_rows: int
    n_lines: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of the rows at `lines`, not yet checked; `faults` has the first reason found against a row."""

    lines: NDArray[np.int64]
    account_id: pa.Array
    session_id: pa.Array
    at: NDArray[np.float64]
    prompt: pa.Array
    faults: dict[int, str]

    def checked(self, rejects: dict[int, str], n_lines: int) -> Batch:
        """The usable rows, and the others added to the `rejects` that there are."""
        n_rows = len(self.lines) + len(rejects)
        self._check()
        keep = np.ones(len(self.lines), dtype=bool)
        keep[list(self.faults)] = False
        lines = self.lines.tolist()
        rejects |= {lines[row]: reason for row, reason in self.faults.items()}
        columns = [self.account_id, _none_if_empty(self.session_id), pa.array(self.at), self.prompt]
        table = pa.Table.from_arrays(columns, schema=SCHEMA)
        return Batch(table if keep.all() else table.filter(pa.array(keep)), rejects, n_rows, n_lines)

    def _check(self) -> None:
        for name, column in (("account_id", self.account_id), ("prompt", self.prompt)):
            self._blame(pc.is_null(column), MISSING[name])
        self._blame(pc.equal(pc.binary_length(self.account_id), 0), "account_id is empty")
        for row in np.flatnonzero(_suspects(self.prompt)).tolist():
            if fault := text_fault(self.prompt[row].as_py()):
                self.faults.setdefault(row, fault)

    def _blame(self, rows: pa.Array, reason: str) -> None:
        for row in np.flatnonzero(_bools(rows)).tolist():
            self.faults.setdefault(row, reason)


def _suspects(prompts: pa.Array) -> NDArray[np.bool_]:
    """Rows that `text_fault` must look at: no visible ASCII character, very long, or a NUL inside."""
    visible = pc.match_substring_regex(prompts, "[!-~]")
    long = pc.greater(pc.binary_length(prompts), MAX_PROMPT_CHARS)
    suspect = pc.or_(pc.or_(pc.invert(visible), long), pc.match_substring(prompts, "\0"))
    return _bools(suspect)


def _none_if_empty(column: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(pc.binary_length(column), 0), pa.scalar(None, column.type), column)


def _bools(column: pa.Array) -> NDArray[np.bool_]:
    """False where null."""
    return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)


def filled(column: pa.Array, value: str | None) -> pa.Array:
    """The column with `value`, where there is one, in place of nulls."""
    return column if value is None else column.fill_null(value)
