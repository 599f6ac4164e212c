"""Map drawing: the capability map laid flat for a page, in percent of its sides: a dot a cell, a number an area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serve.analyst.map_counts import MapCounts, cell_skills
from serve.analyst.map_projection import MapProjection

_APART = 7.0  # between numbers of areas, about the width of two digits
_N_PUSHES = 200
_LARGEST = 2.6


@dataclass(frozen=True, slots=True)
class Dot:
    """A cell that any prompt reached: its place, its radius (the area goes with the count), and what lies there."""

    x: float
    y: float
    radius: float
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class AreaNumber:
    """The number of an area, counted from 1, near the middle of its skills."""

    x: float
    y: float
    number: int


@dataclass(frozen=True)
class MapDrawing:
    """Two pictures of one map, for prompts of flagged sessions and of all others."""

    flagged: tuple[Dot, ...]
    others: tuple[Dot, ...]
    tags: tuple[AreaNumber, ...]

    @classmethod
    def of(cls, drawn: MapCounts) -> Self:
        """Lay out the prompts of an drawn."""
        layout = MapProjection.of(drawn.capabilities)
        skills = [drawn.capabilities.skills[skill].title for skill in cell_skills(drawn.capabilities).tolist()]
        places = 4.0 + 92.0 * layout.cells
        middles = spread(4.0 + 92.0 * layout.areas)
        tags = tuple(AreaNumber(round(x, 1), round(y, 1), index) for index, (x, y) in enumerate(middles.tolist(), 1))
        return cls(_dots(places, drawn.flagged, skills), _dots(places, drawn.others, skills), tags)


def spread(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places (n, 2) pushed apart until each two are far enough from each other to be read, and kept inside 0 to 100."""
    moved = np.clip(places, 4.0, 96.0)
    angle = np.arange(len(places))
    jitter = 1e-3 * np.stack([np.cos(angle), np.sin(angle)], axis=1)  # so that no two stay on one point
    for _ in range(_N_PUSHES):
        apart = (moved + jitter)[:, None] - (moved + jitter)[None]
        distance = np.linalg.norm(apart, axis=2) + 1e9 * np.eye(len(moved))
        if (distance >= _APART).all():
            break
        push = np.maximum(_APART - distance, 0.0)[:, :, None] * apart / np.maximum(distance, 1e-9)[:, :, None]
        moved = np.clip(moved + 0.55 * push.sum(axis=1), 4.0, 96.0)
    return np.asarray(moved)


def _dots(places: NDArray[np.float64], counts: NDArray[np.int64], names: list[str]) -> tuple[Dot, ...]:
    radius = _LARGEST * np.sqrt(counts / max(int(counts.max(initial=0)), 1))
    return tuple(
        Dot(round(x, 1), round(y, 1), max(round(r, 2), 0.4), name, count)
        for (x, y), r, name, count in zip(places.tolist(), radius.tolist(), names, counts.tolist(), strict=True)
        if count
    )
