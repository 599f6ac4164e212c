"""Breadth: how widely and evenly a unit covers capability space, against benign use of the same area mix.

The number means the same at 25 exchanges and at 10,000: it rests on the expected distinct cells among few prompts drawn
from a unit, whose estimates have no bias from the unit's size, and on one scale for all sizes. What sizes differ in is
how far benign units scatter, so the band that they keep to is stored by size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serve.capability import coverage
from serve.capability.coverage import CellCounts
from serve.capability.special_functions import expit
from serve.sessions.size_classes import SIZE_EDGES, size_class

DRAWN = (2, 4, 8)
"""Prompts drawn from a unit, whose distinct cells are compared."""

LEVELS = np.linspace(0.0, 1.0, 41)
"""Shares of benign units at which the band is stored."""

_MIN_FITTED = 20  # exchanges of a unit that the expectation is learned from; smaller ones scatter too much
_MIN_BAND = 20  # units that a size class needs for a band of its own
_RIDGE = 1.0


@dataclass(frozen=True)
class CoverageNull:
    """What benign use of an area mix covers.

    `weights` (n_inputs, len(DRAWN)) are linear in the mix, `spread` (len(DRAWN),) is how far benign units scatter
    around that; `band` (n_size_classes, len(LEVELS)) holds quantiles of benign systematicness by size.
    """

    weights: NDArray[np.float64]
    spread: NDArray[np.float64]
    band: NDArray[np.float64]

    @classmethod
    def fit(cls, counts: CellCounts, cell_areas: NDArray[np.int16], n_areas: int) -> Self:
        """Learn from the cells that benign units reached, of every size."""
        n = coverage.size(counts)
        inputs, grown = _inputs(counts, cell_areas, n_areas)
        rows = n >= _MIN_FITTED
        if not rows.any():
            rows = n >= DRAWN[-1]
        squares = inputs[rows].T @ inputs[rows] + _RIDGE * np.eye(inputs.shape[1])
        weights = np.asarray(np.linalg.solve(squares, inputs[rows].T @ grown[rows]), dtype=np.float64)
        spread = np.maximum((grown[rows] - inputs[rows] @ weights).std(axis=0), 1e-3) if rows.any() else np.ones(3)
        null = cls(weights, spread, np.zeros((len(SIZE_EDGES), len(LEVELS))))
        return cls(weights, spread, _bands(null.of(counts, cell_areas, n_areas), n.astype(np.int64)))

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[np.float64]]) -> Self:
        """Read from a bundle's arrays."""
        return cls(arrays["coverage_weights"], arrays["coverage_spread"], arrays["coverage_band"])

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """What `of_arrays` reads."""
        return {"coverage_weights": self.weights, "coverage_spread": self.spread, "coverage_band": self.band}

    def check(self, n_areas: int) -> None:
        """Refuse arrays of another map.

        Raises:
            ValueError: naming the shape.
        """
        expected = {
            "weights": (n_areas + 2, len(DRAWN)),
            "spread": (len(DRAWN),),
            "band": (len(SIZE_EDGES), len(LEVELS)),
        }
        for name, shape in expected.items():
            if (found := getattr(self, name)).shape != shape:
                raise ValueError(f"coverage {name} has shape {found.shape}, expected {shape}")

    def of(self, counts: CellCounts, cell_areas: NDArray[np.int16], n_areas: int) -> NDArray[np.float64]:
        """Systematicness of each unit, -1 to 1: above 0 wider and evener than benign use of the same area mix, below 0
        narrower; NaN for fewer exchanges than are drawn.

        The mean over `DRAWN` of the distance from what is expected (Hurlbert 1971), in benign spreads, squashed by
        tanh(x / 2).
        """
        inputs, grown = _inputs(counts, cell_areas, n_areas)
        # Summed one by one: a matrix product would depend on how many units there are, in the last bit.
        expected = np.cumsum(inputs[:, :, None] * self.weights[None], axis=1)[:, -1]
        distance = np.cumsum((grown - expected) / self.spread, axis=1)[:, -1] / len(DRAWN)
        return np.where(coverage.size(counts) >= DRAWN[-1], 2.0 * expit(distance) - 1.0, np.nan)

    def position(self, systematicness: NDArray[np.float64], n_exchanges: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of benign units of like size that lie below, 0-1; both ends are far from benign. NaN stays NaN."""
        found = np.full(len(systematicness), np.nan)
        classes = size_class(np.maximum(n_exchanges, 1))
        for index in np.unique(classes).tolist():
            rows = (classes == index) & ~np.isnan(systematicness)
            found[rows] = np.interp(systematicness[rows], self.band[index], LEVELS)
        return found


def _inputs(
    counts: CellCounts, cell_areas: NDArray[np.int16], n_areas: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the expectation rests on (a constant, the expected areas among the most drawn prompts, each area's share),
    and how cells grow, which it is compared with."""
    areas = counts.recoded(cell_areas.astype(np.int64))
    grown = coverage.growth(counts.beside(areas), DRAWN)
    shares = np.zeros((counts.n_units, n_areas))
    shares[areas.unit, areas.cell] = areas.count / coverage.size(areas)[areas.unit]
    inputs = np.concatenate([np.ones((counts.n_units, 1)), grown[counts.n_units :, -1:], shares], axis=1)
    return inputs, grown[: counts.n_units]


def _bands(values: NDArray[np.float64], n: NDArray[np.int64]) -> NDArray[np.float64]:
    """Quantiles by size class; one that is too thin has those of all."""
    known = ~np.isnan(values)
    everything = np.quantile(values[known], LEVELS) if known.any() else np.linspace(-1.0, 1.0, len(LEVELS))
    classes = size_class(np.maximum(n, 1))
    bands = []
    for index in range(len(SIZE_EDGES)):
        own = values[known & (classes == index)]
        bands.append(np.quantile(own, LEVELS) if len(own) >= _MIN_BAND else everything)
    return np.stack(bands)
