"""Features: the fixed, named row that the classifier reads, for many sessions at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve import coverage, geometry
from serve.capabilities import Assignment, CapabilityMap
from serve.encoder import Encoder, encode_unique
from serve.evidence import Evidence, EvidenceInputs
from serve.session import Sessions
from serve.surface import Form, canonical_sessions, form

N_DRAWN = 8
"""Prompts to which coverage is rarefied, so that sessions of any size compare."""

_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Evidenced:
    """Everything that is known of every prompt of some sessions, as columns, and of each session's bounds."""

    offsets: NDArray[np.int64]
    vectors: NDArray[np.int8]
    assigned: Assignment
    evidence: NDArray[np.float64]
    form: Form

    @property
    def session_of(self) -> NDArray[np.int64]:
        """Index of the session that owns each prompt."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def observe(sessions: Sessions, encoder: Encoder, capabilities: CapabilityMap, evidence: Evidence) -> Evidenced:
    """Read, encode, place and weigh every prompt of these sessions."""
    texts = canonical_sessions(sessions.prompts, sessions.offsets)
    vectors = encode_unique(encoder, texts)
    assigned = capabilities.assign(vectors)
    inputs = EvidenceInputs.of(vectors, assigned.cell_cosines, texts, evidence.vocabulary)
    return Evidenced(sessions.offsets, vectors, assigned, evidence.of(inputs), form(texts))


def feature_names(areas: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the columns of `feature_rows`, `family.measure`, in order."""
    return (
        *_SIZE, *_EVIDENCE, *_SUBSET, *_GEOMETRY, *_COVERAGE, *_SURFACE, *(f"area.{area}" for area in (*areas, "none")),
    )  # fmt: skip


def n_judged(areas: tuple[str, ...]) -> int:
    """How many of the features, the first ones, a classifier reads: shares of areas are for people, since what a campaign
    is about says nothing of the next one's."""
    return len(feature_names(areas)) - len(areas) - 1


def feature_rows(prompts: Evidenced, capabilities: CapabilityMap) -> NDArray[np.float64]:
    """One row a session, shape (n_sessions, n_features), always finite; row i depends on session i alone."""
    n_sessions = len(prompts.offsets) - 1
    blocked = np.zeros((n_sessions, len(_EVIDENCE) + len(_SUBSET) + len(_GEOMETRY)))
    for block in geometry.blocks(prompts.offsets):
        products = geometry.gram(prompts.vectors[block.rows])
        weights = prompts.evidence[block.rows]
        columns = [*_evidence(weights), *_subset(products, weights[:, :, 0]), *_geometry(products)]
        blocked[block.session] = np.stack(columns, axis=1)
    parts = [
        np.log(np.diff(prompts.offsets))[:, None], blocked, _coverage(prompts, capabilities), _surface(prompts),
        _areas(prompts, len(capabilities.areas)),
    ]  # fmt: skip
    return np.concatenate(parts, axis=1)


_SIZE = ("size.log_exchanges",)

_EVIDENCE = (
    *(
        f"evidence.{head}_{measure}"
        for head in ("harvest", "person", "product")
        for measure in ("mean", "q10", "q25", "q50", "q75", "q90")
    ),
    "evidence.harvest_max", "evidence.harvest_share", "evidence.harvest_strong_share", "evidence.harvest_run",
)  # fmt: skip


def _evidence(weights: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Columns from evidence (n_sessions, n, n_heads) of one block."""
    columns: list[NDArray[np.float64]] = []
    for head in range(weights.shape[2]):
        own = np.ascontiguousarray(weights[:, :, head])
        columns += [_mean(own), *geometry.quantiles(own, _QUANTILES).T]
    harvest = np.ascontiguousarray(weights[:, :, 0])
    return [
        *columns, harvest.max(axis=1), (harvest > 0).mean(axis=1), (harvest > 0.5).mean(axis=1),
        _best_run(harvest),
    ]  # fmt: skip


def _best_run(values: NDArray[np.float64], n_run: int = 8) -> NDArray[np.float64]:
    """Highest mean of a run of `n_run` consecutive prompts (a scan statistic); the session's where it is shorter."""
    n = values.shape[1]
    if n <= n_run:
        return _mean(values)
    sums = np.cumsum(np.concatenate([np.zeros((len(values), 1)), values], axis=1), axis=1)
    return np.asarray((sums[:, n_run:] - sums[:, :-n_run]).max(axis=1) / n_run)


_SUBSET = (
    *(
        f"subset.{part}_{measure}"
        for part in ("half", "quarter", "tenth")
        for measure in ("evidence", "cosine", "nearest", "distance")
    ),
    "subset.rest_cosine",
)  # fmt: skip


def _subset(products: NDArray[np.float32], harvest: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The most suspicious half, quarter and tenth of each session: how suspicious, how alike, how far from the rest."""
    n = products.shape[1]
    order = np.argsort(-harvest, axis=1, kind="stable")
    ordered = geometry.reordered(products, order)
    ranked = np.take_along_axis(harvest, order, axis=1)
    columns: list[NDArray[np.float64]] = []
    for share in (2, 4, 10):
        k = max(1, n // share)
        top = np.ascontiguousarray(ordered[:, :k, :k])
        columns += [
            _mean(np.ascontiguousarray(ranked[:, :k])),
            geometry.pair_mean(top),
            geometry.quantiles(geometry.nearest(top), (0.5,))[:, 0] / geometry.UNIT,
            geometry.split_distance(ordered, k),
        ]
    k = max(1, n // 2)
    return [*columns, geometry.pair_mean(np.ascontiguousarray(ordered[:, k:, k:]))]


_GEOMETRY = (
    "geometry.pair_mean", "geometry.pair_q10", "geometry.pair_q50", "geometry.pair_q90", "geometry.pair_q99",
    "geometry.nearest_q10", "geometry.nearest_q50", "geometry.nearest_q90", "geometry.duplicate_share",
    "geometry.consecutive_gain", "geometry.effective_rank",
)  # fmt: skip


def _geometry(products: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    nearest = geometry.nearest(products)
    mean = geometry.pair_mean(products)
    return [
        mean,
        *geometry.pair_quantiles(products, (0.1, 0.5, 0.9, 0.99)).T,
        *(geometry.quantiles(nearest, (0.1, 0.5, 0.9)) / geometry.UNIT).T,
        (nearest > 0.95 * geometry.UNIT).mean(axis=1),
        geometry.consecutive_mean(products) - mean,
        geometry.effective_rank(products),
    ]


_COVERAGE = (
    "coverage.rarefied", "coverage.evenness", "coverage.unseen_mass", "coverage.simpson_share", "coverage.main_share",
    "coverage.main_rarefied", "coverage.main_evenness", "coverage.main_unseen_mass", "coverage.areas_shannon",
    "coverage.confidence", "coverage.cosine",
)  # fmt: skip


def _coverage(prompts: Evidenced, capabilities: CapabilityMap) -> NDArray[np.float64]:
    n_sessions, owner = len(prompts.offsets) - 1, prompts.session_of
    cell, area = prompts.assigned.cell.astype(np.int64), prompts.assigned.area.astype(np.int64)
    cells = coverage.CellCounts.of(owner, cell, n_sessions)
    areas = coverage.CellCounts.of(owner, area, n_sessions)
    main = _main_area(areas)
    within = coverage.CellCounts.of(owner, np.where(area == main[owner], cell, -1), n_sessions)
    n = np.maximum(coverage.size(cells), 1.0)
    return np.stack([
        coverage.rarefied(cells, N_DRAWN), coverage.evenness(cells), coverage.unseen_mass(cells),
        coverage.simpson(cells) / n, coverage.size(within) / np.diff(prompts.offsets),
        coverage.rarefied(within, N_DRAWN), coverage.evenness(within), coverage.unseen_mass(within),
        coverage.shannon(areas), _session_mean(prompts.assigned.confidence, prompts),
        _session_mean(prompts.assigned.cosine, prompts),
    ], axis=1)  # fmt: skip


def _main_area(areas: coverage.CellCounts) -> NDArray[np.int64]:
    """The area that most prompts of a unit are in (the first of equals), -2 where there is none."""
    main = np.full(areas.n_units, -2, dtype=np.int64)
    order = np.lexsort((-areas.cell, areas.count, areas.unit))
    main[areas.unit[order]] = areas.cell[order]  # the last write of a unit, its largest count, stands
    return main


_SURFACE = (
    "surface.words_mean", "surface.words_q10", "surface.words_q50", "surface.words_q90", "surface.words_spread",
    "surface.short_share", "surface.opening_shared", "surface.text_repeated",
)  # fmt: skip


def _surface(prompts: Evidenced) -> NDArray[np.float64]:
    words = np.log1p(prompts.form.n_words)
    rows = np.zeros((len(prompts.offsets) - 1, len(_SURFACE)))
    for block in geometry.blocks(prompts.offsets):
        own = words[block.rows]
        q10, q50, q90 = geometry.quantiles(own, (0.1, 0.5, 0.9)).T
        rows[block.session, :5] = np.stack([_mean(own), q10, q50, q90, q90 - q10], axis=1)
    rows[:, 5] = _session_mean((prompts.form.n_words < 5).astype(np.float64), prompts)
    rows[:, 6] = _session_mean(_shared(prompts.form.opening, prompts), prompts)
    rows[:, 7] = _session_mean(_shared(prompts.form.text, prompts), prompts)
    return rows


def _shared(keys: NDArray[np.int64], prompts: Evidenced) -> NDArray[np.float64]:
    """1 where another prompt of the same session has the same key."""
    pairs = np.stack([prompts.session_of, keys], axis=1)
    _, inverse, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    return (counts[inverse.reshape(-1)] > 1).astype(np.float64)


def _areas(prompts: Evidenced, n_areas: int) -> NDArray[np.float64]:
    """Share of each area, and of *none of these*, among a session's prompts."""
    area = prompts.assigned.area.astype(np.int64)
    keys = prompts.session_of * (n_areas + 1) + np.where(area < 0, n_areas, area)
    counts = np.bincount(keys, minlength=(len(prompts.offsets) - 1) * (n_areas + 1)).reshape(-1, n_areas + 1)
    return np.asarray(counts / np.diff(prompts.offsets)[:, None])


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a session, in an order of summation that is the same for every block."""
    return np.asarray(np.cumsum(values, axis=1)[:, -1] / values.shape[1])


def _session_mean(values: NDArray[np.float64], prompts: Evidenced) -> NDArray[np.float64]:
    sums = np.bincount(prompts.session_of, weights=values, minlength=len(prompts.offsets) - 1)
    return np.asarray(sums / np.diff(prompts.offsets))
