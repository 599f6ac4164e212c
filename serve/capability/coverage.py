"""Coverage: how much of capability space counts of reached cells cover, and how evenly.

Counts come as a sparse table of one row a (unit, cell): a unit is a session, an account, a campaign or one area of
those. Every measure is a sum over a unit's rows, so the coverage of a union needs only the added counts, never prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serve.capability.special_functions import log_factorial


@dataclass(frozen=True)
class CellCounts:
    """Exchanges by unit and cell, sparse: row k says that unit `unit[k]` reached cell `cell[k]` `count[k]` times.

    Rows are sorted by unit, then cell; `n_units` may exceed the units that have rows.
    """

    unit: NDArray[np.int64]
    cell: NDArray[np.int64]
    count: NDArray[np.int64]
    n_units: int

    @classmethod
    def of(cls, unit: NDArray[np.int64], cell: NDArray[np.int64], n_units: int) -> Self:
        """Count prompts given the unit and the cell of each; prompts in no cell (negative) are left out."""
        placed = cell >= 0
        return cls._summed(unit[placed], cell[placed], np.ones(int(placed.sum()), np.int64), n_units)

    @classmethod
    def _summed(cls, unit: NDArray[np.int64], cell: NDArray[np.int64], count: NDArray[np.int64], n_units: int) -> Self:
        width = int(cell.max(initial=0)) + 1
        keys, inverse = np.unique(unit * width + cell, return_inverse=True)
        counts = np.bincount(inverse, weights=count, minlength=len(keys)).astype(np.int64)
        return cls(keys // width, keys % width, counts, n_units)

    def merged(self, other: CellCounts) -> CellCounts:
        """Counts of both, unit by unit: the coverage of a union from its parts."""
        return CellCounts._summed(
            np.concatenate([self.unit, other.unit]),
            np.concatenate([self.cell, other.cell]),
            np.concatenate([self.count, other.count]),
            max(self.n_units, other.n_units),
        )

    def beside(self, other: CellCounts) -> CellCounts:
        """Both tables as one: unit u of `other` becomes unit `n_units + u`."""
        return CellCounts(
            np.concatenate([self.unit, other.unit + self.n_units]),
            np.concatenate([self.cell, other.cell]),
            np.concatenate([self.count, other.count]),
            self.n_units + other.n_units,
        )

    def regrouped(self, unit_of: NDArray[np.int64], n_units: int) -> CellCounts:
        """The same counts with unit u renamed `unit_of[u]`: sessions to accounts, accounts to campaigns."""
        return CellCounts._summed(unit_of[self.unit], self.cell, self.count, n_units)

    def recoded(self, code: NDArray[np.int64]) -> CellCounts:
        """The same counts with cell c renamed `code[c]`: cells to the areas they are in."""
        return CellCounts._summed(self.unit, code[self.cell], self.count, self.n_units)

    @cached_property
    def sizes(self) -> NDArray[np.float64]:
        """Exchanges that fell in a cell, (n_units,); kept, since most measures rest on it."""
        return self.per_unit(self.count.astype(np.float64))

    @cached_property
    def n_reached(self) -> NDArray[np.float64]:
        """Distinct cells, (n_units,)."""
        return self.per_unit(np.ones(len(self.unit)))

    @cached_property
    def n_once(self) -> NDArray[np.float64]:
        """Cells reached once, (n_units,)."""
        return self.per_unit(self.count == 1)

    def per_unit(self, values: NDArray[np.float64] | NDArray[np.bool_]) -> NDArray[np.float64]:
        """Sum of a value a row over each unit, shape (n_units,)."""
        sums = np.bincount(self.unit, weights=values.astype(np.float64), minlength=self.n_units)
        return sums.astype(np.float64)  # of no rows at all, bincount makes integers


def size(counts: CellCounts) -> NDArray[np.float64]:
    """Exchanges that fell in a cell, per unit."""
    return counts.sizes


def richness(counts: CellCounts) -> NDArray[np.float64]:
    """Hill number of order 0: distinct cells reached, per unit."""
    return counts.n_reached


def main_cell(counts: CellCounts) -> NDArray[np.int64]:
    """The cell that most exchanges of a unit fell in (the first of equals), per unit; -1 where there is none."""
    main = np.full(counts.n_units, -1, dtype=np.int64)
    order = np.lexsort((-counts.cell, counts.count, counts.unit))
    main[counts.unit[order]] = counts.cell[order]  # the last write of a unit, its largest count, stands
    return main


def shannon(counts: CellCounts) -> NDArray[np.float64]:
    """Hill number of order 1: exp of the Shannon entropy of the cell shares (Hill 1973); 0 for an empty unit."""
    shares = _shares(counts)
    return np.where(size(counts) > 0, np.exp(-counts.per_unit(shares * np.log(shares))), 0.0)


def simpson(counts: CellCounts) -> NDArray[np.float64]:
    """Hill number of order 2: 1 / sum of squared cell shares (Hill 1973); 0 for an empty unit."""
    squares = counts.per_unit(_shares(counts) ** 2)
    return np.divide(1.0, squares, out=np.zeros_like(squares), where=squares > 0)


def evenness(counts: CellCounts) -> NDArray[np.float64]:
    """Pielou's evenness: Shannon entropy over log richness, 0-1; 1 where only one cell is reached, 0 where none is."""
    reached = richness(counts)
    entropy = np.log(np.maximum(shannon(counts), 1.0))
    ratio = np.divide(entropy, np.log(np.maximum(reached, 2.0)))
    return np.where(reached > 1, np.clip(ratio, 0.0, 1.0), np.where(reached == 1, 1.0, 0.0))


def unseen_mass(counts: CellCounts) -> NDArray[np.float64]:
    """Good-Turing estimate of the probability that the next exchange reaches a new cell (Good 1953): singletons / n."""
    n = size(counts)
    return np.divide(counts.n_once, n, out=np.ones_like(n), where=n > 0)


def chao1(counts: CellCounts) -> NDArray[np.float64]:
    """Bias-corrected Chao1 estimate of the cells a unit would reach in the end (Chao 1984; Chao & Chiu 2016)."""
    n = size(counts)
    once, twice = counts.n_once, counts.per_unit(counts.count == 2)
    factor = np.divide(n - 1, n, out=np.zeros_like(n), where=n > 0)
    return richness(counts) + factor * once * (once - 1) / (2 * (twice + 1))


def rarefied(counts: CellCounts, n_drawn: int) -> NDArray[np.float64]:
    """Expected distinct cells among `n_drawn` exchanges drawn without replacement (Hurlbert 1971), per unit.

    A unit with fewer exchanges than that is extrapolated with Chao1 (Colwell et al. 2012, eq. 9).
    """
    return _rarefied(counts, (n_drawn,))[:, 0]


def growth(counts: CellCounts, sizes: tuple[int, ...]) -> NDArray[np.float64]:
    """The growth curve: `rarefied` at each of `sizes`, shape (n_units, n_sizes)."""
    return _rarefied(counts, sizes)


def area_coverage(counts: CellCounts, cell_areas: NDArray[np.int16], n_cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each area's cells that a unit reached, shape (n_units, n_areas), 0-1."""
    n_areas = len(n_cells)
    keys = counts.unit * n_areas + cell_areas[counts.cell]
    reached = np.bincount(keys, minlength=counts.n_units * n_areas).reshape(counts.n_units, n_areas)
    return np.asarray(reached / n_cells, dtype=np.float64)


def _shares(counts: CellCounts) -> NDArray[np.float64]:
    return np.asarray(counts.count / size(counts)[counts.unit], dtype=np.float64)


def _rarefied(counts: CellCounts, sizes: tuple[int, ...]) -> NDArray[np.float64]:
    """What `rarefied` gives at each of these sizes, (n_units, n_sizes)."""
    n = size(counts)
    own = n[counts.unit]
    left = own - counts.count
    drawn = np.array(sizes)[:, None]
    inside = left >= drawn
    log_missed = _log_choose(np.maximum(left, drawn), drawn) - _log_choose(np.maximum(own, drawn), drawn)
    missed = np.where(inside, np.exp(log_missed), 0.0)
    grown = np.stack([counts.per_unit(1.0 - row) for row in missed], axis=1)
    return np.where(n[:, None] >= drawn[:, 0], grown, _extrapolated(counts, drawn[:, 0]))


def _log_choose(n: NDArray[np.float64], k: NDArray[np.int64]) -> NDArray[np.float64]:
    whole = n.astype(np.int64)
    return log_factorial(whole) - log_factorial(k) - log_factorial(whole - k)


def _extrapolated(counts: CellCounts, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    n, reached, once = size(counts), richness(counts), counts.n_once
    hidden = chao1(counts) - reached
    rate = np.divide(once, n * hidden + once, out=np.zeros_like(n), where=(n * hidden + once) > 0)
    left = np.maximum(sizes - n[:, None], 0.0)
    return np.asarray(reached[:, None] + hidden[:, None] * (1.0 - (1.0 - rate[:, None]) ** left))
