"""Map projection: capability space in two dimensions; similar skills and skills of one area lie together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from serve.capability.capability_map import CapabilityMap

_WITHIN = 0.55  # how much nearer skills of one area are drawn than they are, so that areas hold together
_N_STEPS = 200
_SOFTNESS = 0.05  # cosine units: how much a cell leans towards the skill it is nearest to


@dataclass(frozen=True)
class MapProjection:
    """Places between 0 and 1: `skills` (n_skills, 2), `cells` (n_cells, 2), `areas` (n_areas, 2) for the areas' names.

    `outlines` are the corners around each area's skills, none where it has fewer than three.
    """

    skills: NDArray[np.float64]
    cells: NDArray[np.float64]
    areas: NDArray[np.float64]
    outlines: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(cls, capabilities: CapabilityMap) -> Self:
        """Lay out a map; the same map always lies the same way.

        Skills are placed by metric multidimensional scaling of the distances between their examples' means (Kruskal
        1964), by stress majorisation (de Leeuw 1977) from principal components; a cell lies among its area's skills.
        """
        area_of = np.array([skill.area for skill in capabilities.skills])
        means = _unit(_means(capabilities.anchors, capabilities.anchor_skills.astype(np.int64), len(area_of)))
        distances = np.sqrt(np.maximum(2.0 - 2.0 * means @ means.T, 0.0))
        distances = np.where(area_of[:, None] == area_of[None], _WITHIN * distances, distances)
        skills = _scaled_to_unit(_majorised(distances, means))
        cosines = _unit(capabilities.cells.astype(np.float64)) @ means.T
        cosines[capabilities.cell_areas[:, None] != area_of[None]] = -np.inf
        pull = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / _SOFTNESS)
        cells = (pull / pull.sum(axis=1, keepdims=True)) @ skills
        n_areas = len(capabilities.areas)
        areas = _means(skills, area_of, n_areas)
        return cls(skills, cells, areas, tuple(_outline(skills[area_of == area]) for area in range(n_areas)))


def _means(rows: NDArray[np.generic], owners: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    sums = np.zeros((n, rows.shape[1]))
    np.add.at(sums, owners, rows.astype(np.float64))
    return np.asarray(sums / np.maximum(np.bincount(owners, minlength=n), 1)[:, None])


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0))


def _majorised(distances: NDArray[np.float64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places (n, 2) whose distances come near to these."""
    n = len(distances)
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1))  # SVD's signs are free
    places = centred @ axes.T
    places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
    places[:, 1] += np.linspace(0.0, 1e-3, n)  # so that no two lie on one point
    for _ in range(_N_STEPS):
        found = np.linalg.norm(places[:, None] - places[None], axis=2)
        ratio = np.divide(distances, found, out=np.zeros_like(found), where=found > 1e-12)
        places = (places * ratio.sum(axis=1)[:, None] - ratio @ places) / n
    return np.asarray(places, dtype=np.float64)


def _scaled_to_unit(places: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = places.min(axis=0), places.max(axis=0)
    return np.asarray((places - low) / np.maximum(high - low, 1e-12))


def _outline(places: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(places) < 3:
        return np.zeros((0, 2))
    try:
        return np.asarray(places[ConvexHull(places).vertices])
    except QhullError:  # all on one line
        return np.zeros((0, 2))
