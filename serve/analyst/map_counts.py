"""Map counts: where in capability space the prompts of flagged sessions fall, beside those of all others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve.bundle.bundle import Bundle
from serve.capability.capability_map import CapabilityMap
from serve.embedding.encoders import encode_unique
from serve.io.discovery import InputError
from serve.io.reading import read_paths
from serve.io.validation import SCHEMA
from serve.scoring.verdict import Verdicts
from serve.sessions.normalization import canonical_sessions
from serve.sessions.records import Sessions
from serve.sessions.sampling import sampled
from serve.sessions.sessionizing import Timeline

N_PROMPTS = 30_000
"""Prompts of accounts drawn at random that are placed on the map, about."""

N_OWN_PROMPTS = 1_000
"""Prompts of an account that is looked at by itself, at most."""

_CHUNK_PROMPTS = 20_000


@dataclass(frozen=True)
class MapCounts:
    """Counts of prompts: `flagged` and `others` (n_cells,) by cell of the map, `usual` (n_skills,) of sessions that
    aren't flagged by skill, and `skills` (n_skills,) of each account that was asked for."""

    capabilities: CapabilityMap
    flagged: NDArray[np.int64]
    others: NDArray[np.int64]
    usual: NDArray[np.int64]
    skills: Mapping[str, NDArray[np.int64]]
    share: float


def count_map(paths: Sequence[Path], verdicts: Verdicts, accounts: Collection[str], bundle: Bundle) -> MapCounts:
    """Place prompts of these `accounts`, and of others drawn by the hash of their name, on the bundle's map.

    Raises:
        InputError: when the exchanges can't be read, or are not those that were judged.
    """
    share = min(1.0, N_PROMPTS / max(int(verdicts.n_exchanges.sum()), 1))
    timeline = Timeline.of(_table(paths, accounts, share))
    label_of = dict(zip(zip(verdicts.account_ids, verdicts.session_ids, strict=True), verdicts.label, strict=True))
    capabilities = bundle.capabilities
    counts = _Counts(len(capabilities.cells), len(capabilities.skills), accounts)
    n_known = 0
    for sessions in timeline.chunks(_CHUNK_PROMPTS):
        keys = zip(sessions.account_ids, sessions.session_ids, strict=True)
        labels = [label_of.get(key) for key in keys]
        n_known += len(labels) - labels.count(None)
        counts.add(sessions, np.array([label == "harvesting" for label in labels]), bundle)
    if len(verdicts) and not n_known:
        raise InputError(f"{', '.join(map(str, paths))}: none of the sessions there has a verdict")
    return MapCounts(capabilities, counts.flagged, counts.others, counts.usual, counts.skills, share)


class _Counts:
    """Sums over chunks of sessions."""

    def __init__(self, n_cells: int, n_skills: int, accounts: Collection[str]) -> None:
        self.flagged, self.others = np.zeros(n_cells, np.int64), np.zeros(n_cells, np.int64)
        self.usual = np.zeros(n_skills, np.int64)
        self.skills = {account: np.zeros(n_skills, np.int64) for account in accounts}

    def add(self, sessions: Sessions, flagged: NDArray[np.bool_], bundle: Bundle) -> None:
        texts = canonical_sessions(sessions.prompts, sessions.offsets)
        placed = bundle.capabilities.assign(encode_unique(bundle.encoder, texts))
        is_flagged = np.repeat(flagged, sessions.n_exchanges)
        self.flagged += _counted(placed.cell[is_flagged], len(self.flagged))
        self.others += _counted(placed.cell[~is_flagged], len(self.others))
        self.usual += _counted(placed.skill[~is_flagged], len(self.usual))
        for index, account in enumerate(sessions.account_ids):
            if account in self.skills:
                own = slice(int(sessions.offsets[index]), int(sessions.offsets[index + 1]))
                self.skills[account] += _counted(placed.skill[own], len(self.usual))


def cell_order(capabilities: CapabilityMap) -> NDArray[np.int64]:
    """Cells by area, and within an area by the direction in which they differ most, so that like ones are near."""
    parts = []
    for area in range(len(capabilities.areas)):
        own = np.flatnonzero(capabilities.cell_areas == area)
        rows = capabilities.cells[own].astype(np.float64)
        _, _, directions = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
        place = rows @ directions[0]
        parts.append(own[np.argsort(place if place[0] <= place[-1] else -place, kind="stable")])
    return np.concatenate(parts)


def cell_skills(capabilities: CapabilityMap) -> NDArray[np.int64]:
    """The skill of the example that lies nearest to each cell's centre, among those of its area; shape (n_cells,)."""
    cosines = capabilities.cells.astype(np.float32) @ capabilities.anchors.T.astype(np.float32)
    cosines[capabilities.cell_areas[:, None] != capabilities.anchor_areas[None]] = -np.inf
    return np.asarray(capabilities.anchor_skills[cosines.argmax(axis=1)], dtype=np.int64)


def _counted(index: NDArray[np.int16], n: int) -> NDArray[np.int64]:
    return np.asarray(np.bincount(index[index >= 0].astype(np.int64), minlength=n))


def _table(paths: Sequence[Path], accounts: Collection[str], share: float) -> pa.Table:
    """Rows of the accounts asked for, and of a share of all; an account's rows are all there, or none, or the first."""
    wanted = pa.array(sorted(accounts), pa.large_string())
    n_read: dict[str, int] = dict.fromkeys(accounts, 0)
    tables = [SCHEMA.empty_table()]
    for table in (batch.table for batch in read_paths(paths)):
        own = pc.is_in(table.column("account_id"), wanted)
        tables.append(sampled(table.filter(pc.invert(own)), share))
        tables.append(_first(table.filter(own), n_read))
    return pa.concat_tables(tables)


def _first(table: pa.Table, n_read: dict[str, int]) -> pa.Table:
    """Rows until `N_OWN_PROMPTS` of each account were read."""
    keep = []
    for account in table.column("account_id").to_pylist():
        n_read[account] += 1
        keep.append(n_read[account] <= N_OWN_PROMPTS)
    return table.filter(pa.array(keep, pa.bool_()))
