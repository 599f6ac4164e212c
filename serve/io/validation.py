"""Validation: exchanges as columns, checked row by row; a row that can't be used is a counted reject, never quoted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve.io.logs.values import text_id
from serve.sessions.prompt_text import MAX_PROMPT_CHARS, prompt_text
from serve.sessions.records import text_fault

SCHEMA = pa.schema([
    ("account_id", pa.large_string()), ("session_id", pa.large_string()), ("at", pa.float64()),
    ("prompt", pa.large_string()),
])  # fmt: skip
"""Columns of checked exchanges: `at` in seconds since 1970, NaN where unknown; `session_id` null where none."""

MISSING = {name: f"{name} is missing" for name in ("account_id", "prompt")}
"""Reasons that reject a row without a required column."""

CUT = f"prompts cut to {MAX_PROMPT_CHARS:,} characters"
REPLACED = "prompts with NULs or lone surrogates, replaced"
"""What is noted of rows that are used."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some consecutive rows of a slice.

    `table` (of `SCHEMA`) holds the usable ones in order; `rejects` maps the line (in Parquet: row) of each other one,
    counted from 1 where the slice begins, to the reason. `n_lines` also counts blank lines, which are no rows;
    `lines` (of each row of `table`) are counted like those of rejects. `notes`
    counts what was made of rows that are used, by a plural noun.
    """

    table: pa.Table
    rejects: Mapping[int, str]
    n_rows: int
    n_lines: int
    lines: NDArray[np.int64]
    notes: Counter[str]


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of the rows at `lines`, not yet checked; `faults` has the first reason found against a row.

    `notes` counts what was made of rows so far.
    """

    lines: NDArray[np.int64]
    account_id: pa.Array
    session_id: pa.Array
    at: NDArray[np.float64]
    prompt: pa.Array
    faults: dict[int, str]
    notes: Counter[str]

    def checked(self, rejects: dict[int, str], n_lines: int) -> Batch:
        """The usable rows, and the others added to the `rejects` that there are."""
        n_rows = len(self.lines) + len(rejects)
        self._check()
        prompts = self._storable_prompts()
        keep = np.ones(len(self.lines), dtype=bool)
        keep[list(self.faults)] = False
        lines = self.lines.tolist()
        rejects |= {lines[row]: reason for row, reason in self.faults.items()}
        columns = [self.account_id, self.session_id, pa.array(self.at), prompts]
        table = pa.Table.from_arrays(columns, schema=SCHEMA)
        table = table if keep.all() else table.filter(pa.array(keep))
        return Batch(table, rejects, n_rows, n_lines, self.lines[keep], self.notes)

    def _check(self) -> None:
        for name, column in (("account_id", self.account_id), ("prompt", self.prompt)):
            self._blame(pc.is_null(column), MISSING[name])
        visible = pc.match_substring_regex(self.prompt, "[!-~]")
        for row in np.flatnonzero(_bools(pc.invert(visible))).tolist():
            if fault := text_fault(self.prompt[row].as_py()):
                self.faults.setdefault(row, fault)

    def _storable_prompts(self) -> pa.Array:
        long = pc.greater(pc.binary_length(self.prompt), MAX_PROMPT_CHARS)
        suspects = np.flatnonzero(_bools(pc.or_(long, pc.match_substring(self.prompt, "\0")))).tolist()
        if not suspects:
            return self.prompt
        texts = self.prompt.to_pylist()
        for row in suspects:
            text = texts[row]
            texts[row] = prompt_text(text)
            self.notes[REPLACED] += "\0" in text
            self.notes[CUT] += len(text) > MAX_PROMPT_CHARS
        return pa.array(texts, self.prompt.type)

    def _blame(self, rows: pa.Array, reason: str) -> None:
        for row in np.flatnonzero(_bools(rows)).tolist():
            self.faults.setdefault(row, reason)


def _bools(column: pa.Array) -> NDArray[np.bool_]:
    """False where null."""
    return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)


def filled(column: pa.Array, value: str | None) -> pa.Array:
    """The column with `value`, where there is one, in place of nulls."""
    return column if value is None else column.fill_null(value)


def ids(column: pa.Array) -> pa.Array:
    """Texts as ids: trimmed, in NFC, and null where blank."""
    coded = column.dictionary_encode()
    return pa.array(map(text_id, coded.dictionary.to_pylist()), column.type).take(coded.indices)
