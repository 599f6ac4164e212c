"""CapabilityMap: which area, skill and cell of capability space each prompt falls in. The only faiss import."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import faiss
import numpy as np
from numpy.typing import NDArray

from serve.capability.area_classifier import AreaClassifier
from serve.embedding.encoders import SCALE, quantise
from serve.embedding.int8_products import Products

NONE = -1
"""Index of *none of these*, as area, skill and cell."""

N_NEIGHBOURS = 16
_N_FETCHED = 24  # more than are used, so that a tie at the edge of the search can't change who is used
_FEW = 64
_UNHEARD = 0.03  # share of the votes that an area without any is taken to have
_SAY = 0.5  # weight of the discriminant's log-odds beside the log of the votes
FLAT_LIMIT = 50_000
"""Rows above which an inverted-file index takes over from the exact one (see tests/bench/bench_map.py)."""


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill of one area: `area` is an index into the map's areas."""

    name: str
    title: str
    area: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where prompts fall, as columns of shape (n_prompts,); `NONE` where nothing is near enough.

    `confidence` is the calibrated probability (0-1) that `area` is right; `cosine` the similarity to the nearest
    anchor; `cell_cosines` (n_prompts, n_cells) the similarity to every cell.
    """

    area: NDArray[np.int16]
    skill: NDArray[np.int16]
    cell: NDArray[np.int16]
    confidence: NDArray[np.float64]
    cosine: NDArray[np.float64]
    cell_cosines: NDArray[np.float32]


@dataclass(frozen=True)
class CapabilityMap:
    """Areas, skills and cells as int8 vectors; many anchors are searched with faiss, few with exact products.

    `anchors` (n_anchors, n_dims) are example and reference prompts with the index of their skill in `anchor_skills`;
    `cells` (n_cells, n_dims) are centroids with the index of their area in `cell_areas`, sorted by area.
    `temperature` (cosine units) and `floor` (a cosine) calibrate the votes and *none of these*; `discriminant` has a
    say in which of the neighbours' areas wins, and `sharpness` calibrates the confidence in it.

    Raises:
        ValueError: naming the place, when names repeat, a skill has no anchor, shapes differ or an area has no cell.
    """

    areas: tuple[str, ...]
    titles: Mapping[str, str]
    skills: tuple[Skill, ...]
    anchors: NDArray[np.int8]
    anchor_skills: NDArray[np.int16]
    cells: NDArray[np.int8]
    cell_areas: NDArray[np.int16]
    temperature: float
    floor: float
    discriminant: AreaClassifier | None = None
    sharpness: float = 1.0
    anchor_areas: NDArray[np.int16] = field(init=False, repr=False, compare=False)
    _anchors: Products | faiss.Index = field(init=False, repr=False, compare=False)
    _cells: Products = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check()
        skill_areas = np.array([skill.area for skill in self.skills], dtype=np.int16)
        object.__setattr__(self, "anchor_areas", skill_areas[self.anchor_skills])
        is_few = len(self.anchors) <= FLAT_LIMIT
        index = Products(self.anchors) if is_few else build_index(self.anchors.astype(np.float32))
        object.__setattr__(self, "_anchors", index)
        object.__setattr__(self, "_cells", Products(self.cells))

    def _check(self) -> None:
        _refuse_duplicates("area", self.areas)
        _refuse_other_types("anchor", self.anchors)
        _refuse_other_types("cell", self.cells)
        skill_areas = np.array([skill.area for skill in self.skills])
        _refuse_strays("skill", len(self.skills), skill_areas, "area", len(self.areas))
        _refuse_strays("anchor", len(self.anchors), self.anchor_skills, "skill", len(self.skills))
        _refuse_strays("cell", len(self.cells), self.cell_areas, "area", len(self.areas))
        _refuse_duplicates("skill", [f"{self.areas[skill.area]}/{skill.name}" for skill in self.skills])
        n_anchors = np.bincount(self.anchor_skills, minlength=len(self.skills))
        for skill, count in zip(self.skills, n_anchors, strict=True):
            if not count:
                raise ValueError(f"skill {self.areas[skill.area]}/{skill.name} has 0 examples, expected at least 1")
        n_cells = np.bincount(self.cell_areas, minlength=len(self.areas))
        if not n_cells.all():
            raise ValueError(f"area {self.areas[int(np.argmin(n_cells))]} has 0 cells, expected at least 1")
        if self.anchors.shape[1] != self.cells.shape[1]:
            raise ValueError(f"cells have {self.cells.shape[1]} dimensions, expected {self.anchors.shape[1]}")
        if (np.diff(self.cell_areas) < 0).any():
            raise ValueError("cells are not sorted by area")
        if not (np.isfinite([self.temperature, self.floor, self.sharpness]).all() and self.temperature > 0):
            raise ValueError(
                f"temperature {self.temperature}, floor {self.floor} and sharpness {self.sharpness}: expected finite"
                " numbers, the first above 0"
            )
        if self.discriminant is not None:
            self.discriminant.check((len(self.areas), self.anchors.shape[1]))

    @classmethod
    def build(
        cls,
        areas: Mapping[str, str],
        skills: tuple[Skill, ...],
        anchors: NDArray[np.int8],
        anchor_skills: NDArray[np.int16],
        *,
        n_cells: int,
        temperature: float = 0.05,
        floor: float = 0.2,
        sharpness: float = 0.65,
        reference: NDArray[np.int8] | None = None,
        seed: int = 0,
    ) -> Self:
        """A map whose cells come from k-means within areas over anchors and `reference` vectors (any, unlabelled).

        `n_cells` is the number of cells an area gets (fewer where it has fewer distinct vectors).
        """
        anchor_areas = np.array([skill.area for skill in skills], dtype=np.int16)[anchor_skills]
        vectors, owners = anchors, anchor_areas
        if reference is not None and len(reference):
            index = build_index(anchors.astype(np.float32))
            _, nearest = index.search(reference.astype(np.float32), 1)
            vectors = np.concatenate([anchors, reference])
            owners = np.concatenate([anchor_areas, anchor_areas[nearest[:, 0]]])
        parts = [kmeans(vectors[owners == area], n_cells, seed=seed + area) for area in range(len(areas))]
        cell_areas = np.repeat(np.arange(len(areas), dtype=np.int16), [len(part) for part in parts])
        cells = np.concatenate(parts)
        return cls(
            tuple(areas), dict(areas), skills, anchors, anchor_skills, cells, cell_areas, temperature, floor,
            AreaClassifier.fit(anchors, anchor_areas, len(areas)), sharpness,
        )  # fmt: skip

    @property
    def n_cells(self) -> NDArray[np.int64]:
        """Cells of each area, shape (n_areas,)."""
        return np.bincount(self.cell_areas, minlength=len(self.areas))

    def assign(self, vectors: NDArray[np.int8]) -> Assignment:
        """Area, skill, cell and confidence of each vector, shape (n_prompts, n_dims); exact and independent of batch.

        Raises:
            ValueError: when the vectors' dimension isn't the map's.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.anchors.shape[1]:
            raise ValueError(f"vectors have shape {vectors.shape}, expected (n, {self.anchors.shape[1]})")
        cosines, nearest = self._neighbours(vectors)
        area, skill, confidence = self._vote(vectors.astype(np.float32), cosines, nearest)
        cell_cosines = self._cells.of(vectors).astype(np.float32) / np.float32(SCALE * SCALE)
        return Assignment(
            area, skill, self._cell(cell_cosines, area), confidence, cosines[:, 0].astype(np.float64), cell_cosines
        )

    def nearness(self, vectors: NDArray[np.int8]) -> NDArray[np.float64]:
        """The floor above which each vector, shape (n_prompts, n_dims), would be *none of these*."""
        cosines, nearest = self._neighbours(vectors)
        votes = self._votes(cosines, nearest).max(axis=1)
        return np.asarray(1.0 + self.temperature * np.log(votes), dtype=np.float64)

    def _votes(self, cosines: NDArray[np.float64], nearest: NDArray[np.int64]) -> NDArray[np.float64]:
        """Kernel-weighted votes of the neighbours for each area, shape (n_prompts, n_areas)."""
        n_areas = len(self.areas)
        keys = np.arange(len(cosines))[:, None] * n_areas + self.anchor_areas[nearest]
        votes = np.bincount(keys.ravel(), weights=self._weights(cosines).ravel(), minlength=len(cosines) * n_areas)
        return votes.astype(np.float64).reshape(-1, n_areas)

    def _weights(self, cosines: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.exp((cosines - 1.0) / self.temperature))

    def _neighbours(self, vectors: NDArray[np.int8]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        if isinstance(self._anchors, Products):
            found = self._anchors.nearest(vectors, N_NEIGHBOURS)
            return found.products / (SCALE * SCALE), found.ids
        products, ids = self._anchors.search(vectors.astype(np.float32), _N_FETCHED)
        order = np.lexsort((ids, -products), axis=1)[:, :N_NEIGHBOURS]
        cosines = np.take_along_axis(products, order, axis=1).astype(np.float64) / (SCALE * SCALE)
        return cosines, np.take_along_axis(ids, order, axis=1)

    def _vote(
        self, floats: NDArray[np.float32], cosines: NDArray[np.float64], nearest: NDArray[np.int64]
    ) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.float64]]:
        """Who wins by the neighbours' votes; *none of these* votes like one neighbour at `floor`."""
        weights = self._weights(cosines)
        none = np.exp((self.floor - 1.0) / self.temperature)
        skills = self.anchor_skills[nearest].astype(np.int64)
        areas = self.anchor_areas[nearest].astype(np.int64)
        by_area = self._votes(cosines, nearest)
        area, confidence = self._elected(floats, by_area, none)
        own = np.where(areas == area[:, None], weights, 0.0)
        by_skill = np.where(skills[:, :, None] == skills[:, None, :], own[:, None, :], 0.0).sum(axis=2)
        by_skill[areas != area[:, None]] = -1.0
        skill = np.take_along_axis(skills, by_skill.argmax(axis=1)[:, None], axis=1)[:, 0]
        lost = (by_area.max(axis=1) < none) | (cosines[:, 0] <= 0)
        area[lost], skill[lost] = NONE, NONE
        return area.astype(np.int16), skill.astype(np.int16), np.where(lost, 0.0, confidence)

    def _elected(
        self, floats: NDArray[np.float32], votes: NDArray[np.float64], none: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The area that wins and the probability that it is right; only areas with a vote can win."""
        rows = np.arange(len(votes))
        if self.discriminant is None:
            area = votes.argmax(axis=1)
            return area, votes[rows, area] / (votes.sum(axis=1) + none)
        odds = np.log(votes / votes.sum(axis=1)[:, None] + _UNHEARD) + _SAY * self.discriminant.log_odds(floats)
        area = np.where(votes > 0, odds, -np.inf).argmax(axis=1)
        relative = np.exp(self.sharpness * (odds - odds[rows, area][:, None]))
        return area, 1.0 / relative.sum(axis=1)

    def _cell(self, cell_cosines: NDArray[np.float32], area: NDArray[np.int16]) -> NDArray[np.int16]:
        cell = np.full(len(area), NONE, dtype=np.int16)
        if len(area) < _FEW:  # a look at all cells costs less than a look for the prompts of each area
            own = np.where(self.cell_areas == area[:, None], cell_cosines, -np.inf)
            return np.where(area == NONE, cell, own.argmax(axis=1).astype(np.int16))
        bounds = np.searchsorted(self.cell_areas, np.arange(len(self.areas) + 1)).tolist()
        for index, (low, high) in enumerate(itertools.pairwise(bounds)):
            rows = np.flatnonzero(area == index)
            cell[rows] = low + cell_cosines[rows, low:high].argmax(axis=1)
        return cell


def n_threads() -> int:
    """Threads that faiss uses, which OMP_NUM_THREADS caps."""
    return int(faiss.omp_get_max_threads())


def build_index(vectors: NDArray[np.float32]) -> faiss.Index:
    """A faiss inner-product index over these rows: exact up to `FLAT_LIMIT`, inverted file above."""
    n_dims = vectors.shape[1]
    index: faiss.Index = faiss.IndexFlatIP(n_dims)
    if len(vectors) > FLAT_LIMIT:
        index = faiss.IndexIVFFlat(index, n_dims, int(np.sqrt(len(vectors))), faiss.METRIC_INNER_PRODUCT)
        index.train(np.ascontiguousarray(vectors))
        index.nprobe = 16
    index.add(np.ascontiguousarray(vectors))
    return index


def clustered(
    rows: NDArray[np.float32], n_clusters: int, *, n_rounds: int, n_taught: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Spherical k-means of these rows: centroids (n_clusters, n_dims) and the cluster of each row. At most `n_taught`
    rows a cluster are learned from."""
    clustering = _clustering(rows, n_clusters, n_rounds=n_rounds, n_taught=n_taught, seed=0)
    return np.asarray(clustering.centroids), np.asarray(clustering.assign(rows)[1])


def highest_products(
    rows: NDArray[np.float32], others: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k highest inner products of each row with the others and whose they are, (n_rows, k); -1 where too few."""
    products, ids = faiss.knn(rows, others, k, metric=faiss.METRIC_INNER_PRODUCT)
    return np.asarray(products), np.asarray(ids)


def kmeans(vectors: NDArray[np.int8], n_cells: int, *, seed: int) -> NDArray[np.int8]:
    """Spherical k-means centroids of these int8 rows, quantised like them; all distinct rows when there are few."""
    distinct = np.unique(vectors, axis=0)
    if len(distinct) <= n_cells:
        return distinct
    rows = np.ascontiguousarray(vectors.astype(np.float32) / np.float32(SCALE))
    clustering = _clustering(rows, n_cells, n_rounds=20, n_taught=512, seed=seed)
    return np.unique(quantise(np.asarray(clustering.centroids)), axis=0)


def _clustering(rows: NDArray[np.float32], n_clusters: int, *, n_rounds: int, n_taught: int, seed: int) -> faiss.Kmeans:
    clustering = faiss.Kmeans(
        rows.shape[1], n_clusters, niter=n_rounds, seed=seed, spherical=True, min_points_per_centroid=1,
        max_points_per_centroid=n_taught,
    )  # fmt: skip
    clustering.train(rows)
    return clustering


def _refuse_strays(noun: str, n: int, owners: NDArray[np.integer], owner: str, n_owners: int) -> None:
    if len(owners) != n:
        raise ValueError(f"{n} {noun}s have {len(owners)} {owner}s, expected one each")
    for index in np.flatnonzero((owners < 0) | (owners >= n_owners)).tolist():
        raise ValueError(f"{noun} {index} has {owner} {owners[index]}, expected 0 to {n_owners - 1}")


def _refuse_other_types(noun: str, vectors: NDArray[np.generic]) -> None:
    if vectors.ndim != 2:
        raise ValueError(f"{noun}s have shape {vectors.shape}, expected (n_{noun}s, n_dims)")
    if np.issubdtype(vectors.dtype, np.floating):
        for index in np.flatnonzero(np.isnan(vectors).any(axis=1)).tolist():
            raise ValueError(f"{noun} {index} holds NaN, expected int8 numbers")
    if vectors.dtype != np.int8:
        raise ValueError(f"{noun}s are {vectors.dtype}, expected int8")


def _refuse_duplicates(noun: str, names: list[str] | tuple[str, ...]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{noun} {name!r} is named twice")
        seen.add(name)
