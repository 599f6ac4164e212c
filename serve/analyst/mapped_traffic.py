"""Mapped traffic: where prompts fall in capability space, and how widely each session and account covers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.bundle.bundle import Bundle
from serve.capability import coverage
from serve.capability.coverage import CellCounts
from serve.embedding.encoders import encode_unique
from serve.io.discovery import InputError
from serve.io.reading import read_paths
from serve.io.validation import SCHEMA
from serve.sessions.normalization import canonical_sessions
from serve.sessions.records import Sessions
from serve.sessions.sampling import sampled
from serve.sessions.sessionizing import Timeline

_CHUNK_PROMPTS = 20_000


@dataclass(frozen=True)
class MappedTraffic:
    """Traffic on a bundle's map.

    `skills` (n_skills,) and `cells` (n_cells,) count prompts, `n_none` those that are none of these; `n_read` are the
    usable rows, drawn or not; `sessions` and `accounts` say how each covers the map.
    """

    n_read: int
    n_prompts: int
    n_rejected: int
    n_none: int
    skills: NDArray[np.int64]
    cells: NDArray[np.int64]
    confidence: float
    sessions: Units
    accounts: Units


@dataclass(frozen=True)
class Units:
    """Sessions or accounts as columns (n_units,).

    `n_placed` prompts are in a cell, of `reached` different cells; `systematicness` and its `position` among benign
    ones are as in `serve.capability.breadth`, NaN where unknown; `area` is the index of the main area, -1 for none.
    """

    ids: tuple[str, ...]
    n_placed: NDArray[np.int64]
    reached: NDArray[np.int64]
    systematicness: NDArray[np.float64]
    position: NDArray[np.float64]
    area: NDArray[np.int64]

    @classmethod
    def of(cls, ids: tuple[str, ...], counts: CellCounts, bundle: Bundle) -> Units:
        """How each unit of these counts covers the bundle's map."""
        capabilities, n = bundle.capabilities, coverage.size(counts).astype(np.int64)
        value = np.full(len(ids), np.nan)
        position = value
        if bundle.benign is not None:
            null = bundle.benign.coverage
            value = null.of(counts, capabilities.cell_areas, len(capabilities.areas))
            position = null.position(value, n)
        areas = counts.recoded(capabilities.cell_areas.astype(np.int64))
        reached = coverage.richness(counts).astype(np.int64)
        return cls(ids, n, reached, value, position, coverage.main_cell(areas))

    def __len__(self) -> int:
        return len(self.ids)


def check_share(share: float) -> None:
    """Refuse what is no share of accounts.

    Raises:
        ValueError: when `share` isn't above 0 and at most 1.
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"sample is {share}, expected a share above 0 and at most 1")


def map_traffic(paths: Sequence[Path], bundle: Bundle, *, share: float = 1.0) -> MappedTraffic:
    """Place the prompts of these files, of a share of the accounts drawn by the hash of their name.

    Raises:
        InputError: when they can't be read or hold no usable row.
        ValueError: when `share` isn't above 0 and at most 1.
    """
    check_share(share)
    table, n_read, n_rejected = _table(paths, share)
    if not len(table):
        raise InputError(f"{', '.join(map(str, paths))}: 0 usable rows, expected exchanges")
    timeline, capabilities = Timeline.of(table), bundle.capabilities
    skills, none, confidence = np.zeros(len(capabilities.skills), np.int64), 0, 0.0
    parts: list[NDArray[np.int64]] = []
    session_ids: list[str] = []
    account_ids: list[str] = []
    for sessions in timeline.chunks(_CHUNK_PROMPTS):
        placed = capabilities.assign(_vectors(sessions, bundle))
        skills += np.bincount(placed.skill[placed.skill >= 0].astype(np.int64), minlength=len(skills))
        none += int((placed.area < 0).sum())
        confidence += float(placed.confidence.sum())
        owner = np.repeat(np.arange(len(sessions)), sessions.n_exchanges) + len(session_ids)
        parts.append(np.stack([owner, placed.cell.astype(np.int64)]))
        session_ids += sessions.session_ids
        account_ids += sessions.account_ids
    owner, cell = np.concatenate(parts, axis=1)
    counts = CellCounts.of(owner, cell, len(session_ids))
    names, account_of = np.unique(np.array(account_ids, dtype=object), return_inverse=True)
    return MappedTraffic(
        n_read, len(cell), n_rejected, none, skills, np.bincount(cell[cell >= 0], minlength=len(capabilities.cells)),
        confidence / max(len(cell) - none, 1), Units.of(tuple(session_ids), counts, bundle),
        Units.of(tuple(names.tolist()), counts.regrouped(account_of, len(names)), bundle),
    )  # fmt: skip


def _vectors(sessions: Sessions, bundle: Bundle) -> NDArray[np.int8]:
    return encode_unique(bundle.encoder, canonical_sessions(sessions.prompts, sessions.offsets))


def _table(paths: Sequence[Path], share: float) -> tuple[pa.Table, int, int]:
    tables, n_read, n_rejected = [SCHEMA.empty_table()], 0, 0
    for batch in read_paths(paths):
        n_read += len(batch.table)
        n_rejected += len(batch.rejects)
        tables.append(sampled(batch.table, share))
    return pa.concat_tables(tables), n_read, n_rejected
