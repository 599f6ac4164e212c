"""Session features: the fixed, named row that the classifier reads, for many sessions at once."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serve.capability import coverage
from serve.capability.capability_map import Assignment, CapabilityMap
from serve.embedding.encoders import Encoder, read_unique
from serve.features import similarity as geometry
from serve.features.evidence_features import EVIDENCE, evidence_columns
from serve.features.prompt_scorer import PromptInputs, PromptScorer
from serve.sessions.normalization import Form, canonical_sessions, form
from serve.sessions.records import Sessions

N_DRAWN = 8
"""Prompts to which coverage is rarefied, so that sessions of any size compare."""


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

    def taken(self, rows: NDArray[np.int64], offsets: NDArray[np.int64] | None = None) -> Evidenced:
        """The prompts at `rows`, cut into sessions at `offsets`, or as one."""
        bounds = np.array([0, len(rows)]) if offsets is None else offsets
        return Evidenced(
            bounds, self.vectors[rows], self.assigned.rows(rows), self.evidence[rows], self.form.rows(rows)
        )

    def of_sessions(self, chosen: NDArray[np.bool_]) -> Evidenced:
        """The sessions that are `chosen`, (n_sessions,)."""
        offsets = np.concatenate([[0], np.cumsum(np.diff(self.offsets)[chosen])]).astype(np.int64)
        return self.taken(np.flatnonzero(chosen[self.session_of]), offsets)

    @classmethod
    def joined(cls, parts: Sequence[Evidenced]) -> Evidenced:
        """All prompts of these parts, as one session."""
        vectors = np.concatenate([part.vectors for part in parts])
        return cls(
            np.array([0, len(vectors)]), vectors, Assignment.joined([part.assigned for part in parts]),
            np.concatenate([part.evidence for part in parts]), Form.joined([part.form for part in parts]),
        )  # fmt: skip


def observe(sessions: Sessions, encoder: Encoder, capabilities: CapabilityMap, scorer: PromptScorer) -> Evidenced:
    """Read, encode, place and score every prompt of these sessions; each distinct text once."""
    texts = canonical_sessions(sessions.prompts, sessions.offsets)
    encoded, rows = read_unique(encoder, texts)
    assigned = capabilities.assign(encoded.vectors).rows(rows)
    scores = scorer.of(PromptInputs.of(encoded))
    return Evidenced(sessions.offsets, encoded.vectors[rows], assigned, scores[rows], form(texts))


SHOWN_ONLY = ("area.", "size.", "evidence.person", "evidence.product", "surface.words", "surface.short_share")
"""Beginnings of the names of features that are for people: what a campaign is about, how many and how long its
prompts are and whether they look like a person's or a product's says little of the next campaign's (see
train/RESEARCH.md)."""


def feature_names(areas: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the columns of `feature_rows`, `family.measure`, in order: first those that a classifier reads."""
    names = _measured_names(areas)
    return tuple(names[column] for column in _order(areas))


def n_judged(areas: tuple[str, ...]) -> int:
    """How many of the features, the first ones, a classifier reads."""
    return len(judged_names(feature_names(areas)))


def judged_names(names: Sequence[str]) -> tuple[str, ...]:
    """The features that a classifier reads."""
    return tuple(name for name in names if not name.startswith(SHOWN_ONLY))


def _measured_names(areas: tuple[str, ...]) -> tuple[str, ...]:
    """Names in the order in which the columns are measured."""
    return (
        *_SIZE, *EVIDENCE, *_SUBSET, *_GEOMETRY, *_COVERAGE, *_SURFACE, *(f"area.{area}" for area in (*areas, "none")),
    )  # fmt: skip


@functools.cache
def _order(areas: tuple[str, ...]) -> tuple[int, ...]:
    """The column of each feature among those measured."""
    names = _measured_names(areas)
    return tuple(sorted(range(len(names)), key=lambda column: names[column].startswith(SHOWN_ONLY)))


@dataclass(frozen=True)
class Totals:
    """What a row needs of all prompts of a session, added up in their order: columns (n_sessions,) beside `cells`."""

    n_exchanges: NDArray[np.int64]
    cells: coverage.CellCounts
    confidence: NDArray[np.float64]
    cosine: NDArray[np.float64]
    n_short: NDArray[np.float64]
    n_same_opening: NDArray[np.float64]
    n_same_text: NDArray[np.float64]

    @classmethod
    def of(cls, prompts: Evidenced) -> Self:
        """Totals of each session."""
        n_sessions, owner, form = len(prompts.offsets) - 1, prompts.session_of, prompts.form
        columns = (
            prompts.assigned.confidence, prompts.assigned.cosine, (form.n_words < SHORT_WORDS).astype(np.float64),
            _shared(form.opening, owner), _shared(form.text, owner),
        )  # fmt: skip
        confidence, cosine, n_short, n_same_opening, n_same_text = (
            np.bincount(owner, weights=column, minlength=n_sessions).astype(np.float64) for column in columns
        )
        cells = coverage.CellCounts.of(owner, prompts.assigned.cell.astype(np.int64), n_sessions)
        return cls(np.diff(prompts.offsets), cells, confidence, cosine, n_short, n_same_opening, n_same_text)


def feature_rows(prompts: Evidenced, capabilities: CapabilityMap) -> NDArray[np.float64]:
    """One row a session, shape (n_sessions, n_features), always finite; row i depends on session i alone."""
    return assembled(Totals.of(prompts), compared(prompts), capabilities)


def compared(prompts: Evidenced) -> NDArray[np.float64]:
    """Columns from prompts that are compared pair by pair, shape (n_sessions, N_COMPARED)."""
    rows = np.zeros((len(prompts.offsets) - 1, N_COMPARED))
    words = np.log1p(prompts.form.n_words)
    for block in geometry.blocks(prompts.offsets, geometry.MAX_SCORED):
        rows[block.session, : len(EVIDENCE)] = np.stack(evidence_columns(prompts.evidence[block.rows]), axis=1)
    for block in geometry.blocks(prompts.offsets):
        products = geometry.gram(prompts.vectors[block.rows])
        harvest = np.ascontiguousarray(prompts.evidence[block.rows, 0])
        columns = [*_subset(products, harvest), *_geometry(products), *word_columns(words[block.rows])]
        rows[block.session, len(EVIDENCE) :] = np.stack(columns, axis=1)
    return rows


def assembled(totals: Totals, columns: NDArray[np.float64], capabilities: CapabilityMap) -> NDArray[np.float64]:
    """Feature rows from totals and what `compared` gives."""
    n = totals.n_exchanges
    parts = [
        np.log(n)[:, None], columns[:, :-N_WORD_COLUMNS], _coverage(totals, capabilities),
        columns[:, -N_WORD_COLUMNS:], (totals.n_short / n)[:, None], (totals.n_same_opening / n)[:, None],
        (totals.n_same_text / n)[:, None], _areas(totals, capabilities),
    ]  # fmt: skip
    return np.ascontiguousarray(np.concatenate(parts, axis=1)[:, list(_order(capabilities.areas))])


_SIZE = ("size.log_exchanges",)

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
            geometry.mean(np.ascontiguousarray(ranked[:, :k])),
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


def _coverage(totals: Totals, capabilities: CapabilityMap) -> NDArray[np.float64]:
    cells, cell_areas = totals.cells, capabilities.cell_areas.astype(np.int64)
    areas = cells.recoded(cell_areas)
    own = cell_areas[cells.cell] == coverage.main_cell(areas)[cells.unit]
    within = coverage.CellCounts(cells.unit[own], cells.cell[own], cells.count[own], cells.n_units)
    n = np.maximum(coverage.size(cells), 1.0)
    both = cells.beside(within)
    rarefied, evenness, unseen = (
        measured.reshape(2, cells.n_units)
        for measured in (coverage.rarefied(both, N_DRAWN), coverage.evenness(both), coverage.unseen_mass(both))
    )
    return np.stack([
        rarefied[0], evenness[0], unseen[0],
        coverage.simpson(cells) / n, coverage.size(within) / totals.n_exchanges,
        rarefied[1], evenness[1], unseen[1],
        coverage.shannon(areas), totals.confidence / totals.n_exchanges, totals.cosine / totals.n_exchanges,
    ], axis=1)  # fmt: skip


_SURFACE = (
    "surface.words_mean", "surface.words_q10", "surface.words_q50", "surface.words_q90", "surface.words_spread",
    "surface.short_share", "surface.opening_shared", "surface.text_repeated",
)  # fmt: skip


N_WORD_COLUMNS = 5
N_COMPARED = len(EVIDENCE) + len(_SUBSET) + len(_GEOMETRY) + N_WORD_COLUMNS
"""Columns from prompts that are compared pair by pair."""

SHORT_WORDS = 5
"""A prompt of fewer words is short."""


def word_columns(words: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Columns from the log lengths (n_sessions, n) of one block."""
    q10, q50, q90 = geometry.quantiles(words, (0.1, 0.5, 0.9)).T
    return [geometry.mean(words), q10, q50, q90, q90 - q10]


def _shared(keys: NDArray[np.int64], owner: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 where another prompt of the same session has the same key."""
    order = np.lexsort((keys, owner))
    own, key = owner[order], keys[order]
    is_same = (own[1:] == own[:-1]) & (key[1:] == key[:-1])
    shared = np.zeros(len(keys))
    shared[order[1:][is_same]] = shared[order[:-1][is_same]] = 1.0
    return shared


def _areas(totals: Totals, capabilities: CapabilityMap) -> NDArray[np.float64]:
    """Share of each area, and of *none of these*, among a session's prompts."""
    cells, n_areas = totals.cells, len(capabilities.areas)
    keys = cells.unit * n_areas + capabilities.cell_areas[cells.cell]
    placed = np.bincount(keys, weights=cells.count, minlength=cells.n_units * n_areas).reshape(-1, n_areas)
    none = totals.n_exchanges - placed.sum(axis=1)
    return np.asarray(np.concatenate([placed, none[:, None]], axis=1) / totals.n_exchanges[:, None])
