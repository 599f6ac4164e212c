"""CapabilityMap: which area, skill and cell of capability space each prompt falls in."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from serve.capability.area_classifier import AreaClassifier
from serve.capability.vector_index import build_index, is_exact, kmeans
from serve.embedding.encoders import SCALE
from serve.embedding.int8_products import Products

if TYPE_CHECKING:
    import faiss

NONE = -1
"""Index of *none of these*, as area, skill and cell."""
N_NEIGHBOURS = 16
_N_FETCHED = 24  # more than are used, so that a tie at the edge of the search can't change who is used
_FEW = 64
_UNHEARD = 0.03  # share of the votes that an area without any is taken to have
_SAY = 0.5  # weight of the discriminant's log-odds beside the log of the votes


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
    anchor.
    """

    area: NDArray[np.int16]
    skill: NDArray[np.int16]
    cell: NDArray[np.int16]
    confidence: NDArray[np.float64]
    cosine: NDArray[np.float64]

    def rows(self, chosen: NDArray[np.int64]) -> Assignment:
        """Where the prompts at these indices fall."""
        return Assignment(
            self.area[chosen], self.skill[chosen], self.cell[chosen], self.confidence[chosen], self.cosine[chosen]
        )

    @staticmethod
    def joined(parts: Sequence[Assignment]) -> Assignment:
        """Where the prompts of all parts fall, in order."""
        names = ("area", "skill", "cell", "confidence", "cosine")
        return Assignment(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


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
        is_few = is_exact(len(self.anchors))
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
        if not (1e-4 <= self.temperature <= 100 and -100 <= self.floor <= 100 and 0 <= self.sharpness <= 1000):
            raise ValueError(
                f"temperature {self.temperature}, floor {self.floor} and sharpness {self.sharpness}: expected 0.0001"
                " to 100, -100 to 100 and 0 to 1000"
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
        cell = self._cell(vectors, area)
        return Assignment(area, skill, cell, confidence, cosines[:, 0].astype(np.float64))

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

    def _cell(self, vectors: NDArray[np.int8], area: NDArray[np.int16]) -> NDArray[np.int16]:
        cell = np.full(len(area), NONE, dtype=np.int16)
        if len(area) < _FEW:  # a look at all cells costs less than a look for the prompts of each area
            own = np.where(self.cell_areas == area[:, None], self._cells.of(vectors), np.iinfo(np.int32).min)
            return np.where(area == NONE, cell, own.argmax(axis=1).astype(np.int16))
        floats = self.cells.astype(np.float32).T
        bounds = np.searchsorted(self.cell_areas, np.arange(len(self.areas) + 1)).tolist()
        for index, (low, high) in enumerate(itertools.pairwise(bounds)):
            rows = np.flatnonzero(area == index)
            products = vectors[rows].astype(np.float32) @ floats[:, low:high]  # of at most 1,024 bytes, so exact
            cell[rows] = low + products.argmax(axis=1)
        return cell


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
