"""Systematicness: zero at what is expected, two-sided, one meaning for every size, indifferent to order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serve.capability.breadth import DRAWN, LEVELS, CoverageNull
from serve.capability.coverage import CellCounts
from serve.sessions.size_classes import SIZE_EDGES

CELL_AREAS = np.repeat(np.arange(2, dtype=np.int16), 16)  # two areas of 16 cells


def drawn(n_units: int, n: int, cells: int, *, seed: int) -> CellCounts:
    """Units of `n` prompts, each over `cells` cells of either area, all of them as likely."""
    rng = np.random.default_rng(seed)
    cell = rng.integers(cells, size=n_units * n) + 16 * rng.integers(2, size=n_units * n)
    return CellCounts.of(np.repeat(np.arange(n_units), n), cell, n_units)


def values(null: CoverageNull, counts: CellCounts) -> NDArray[np.float64]:
    return null.of(counts, CELL_AREAS, 2)


@pytest.fixture(scope="module")
def null() -> CoverageNull:
    """Benign units reach 6 cells of each area."""
    parts = [drawn(200, n, 6, seed=n) for n in (4, 10, 25, 50, 100)]
    merged, start = parts[0], 200
    for part in parts[1:]:
        moved = part.regrouped(np.arange(200) + start, start + 200)
        merged, start = merged.merged(moved), start + 200
    return CoverageNull.fit(merged, CELL_AREAS, 2)


def test_benign_use_lies_around_zero_and_both_directions_are_told_apart(null: CoverageNull) -> None:
    benign, sweep, narrow = (values(null, drawn(300, 50, cells, seed=1)).mean() for cells in (6, 16, 1))
    assert benign == pytest.approx(0.0, abs=0.1)
    assert sweep > 0.5
    assert narrow < -0.5


@pytest.mark.parametrize("cells", [1, 6, 16])
def test_the_number_has_no_trend_in_size(null: CoverageNull, cells: int) -> None:
    means = [values(null, drawn(2000, n, cells, seed=2)).mean() for n in (25, 50, 100, 400)]
    slope = np.polyfit(np.log2([25, 50, 100, 400]), means, 1)[0]
    assert abs(slope) <= 0.05


def test_below_the_prompts_drawn_nothing_is_said(null: CoverageNull) -> None:
    few = values(null, drawn(3, DRAWN[-1] - 1, 6, seed=0))
    assert np.isnan(few).all()
    assert np.isnan(null.position(few, np.full(3, 7))).all()


def test_positions_are_shares_of_benign_units_of_like_size(null: CoverageNull) -> None:
    for n in (25, 50, 100):
        own = null.position(values(null, drawn(1000, n, 6, seed=3)), np.full(1000, n))
        assert np.quantile(own, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.08)
        assert (null.position(values(null, drawn(50, n, 16, seed=3)), np.full(50, n)) > 0.95).all()
        assert (null.position(values(null, drawn(50, n, 1, seed=3)), np.full(50, n)) < 0.05).all()


@settings(max_examples=25)
@given(st.lists(st.integers(0, 31), min_size=8, max_size=60), st.randoms())
def test_order_does_not_matter_and_the_number_is_bounded(
    null: CoverageNull, cells: list[int], shuffler: object
) -> None:
    shuffled = list(cells)
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined]
    found = [
        values(null, CellCounts.of(np.zeros(len(own), np.int64), np.array(own), 1))[0] for own in (cells, shuffled)
    ]
    assert found[0] == found[1]
    assert -1.0 <= found[0] <= 1.0


def test_a_union_needs_only_the_counts_of_its_parts(null: CoverageNull) -> None:
    parts = drawn(10, 30, 8, seed=5)
    union = parts.regrouped(np.zeros(10, np.int64), 1)
    owner = np.zeros(300, np.int64)
    whole = CellCounts.of(owner, np.repeat(parts.cell, parts.count), 1)
    assert values(null, union)[0] == values(null, whole)[0]


def test_what_is_stored_is_read_back_and_another_map_is_refused(null: CoverageNull) -> None:
    again = CoverageNull.of_arrays(null.arrays())
    counts = drawn(20, 30, 8, seed=6)
    assert (values(again, counts) == values(null, counts)).all()
    assert again.band.shape == (len(SIZE_EDGES), len(LEVELS))
    again.check(2)
    with pytest.raises(ValueError, match=r"coverage weights has shape \(4, 3\), expected \(5, 3\)"):
        again.check(3)


def test_nothing_to_learn_from_is_no_fault() -> None:
    none = CellCounts.of(np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
    assert values(CoverageNull.fit(none, CELL_AREAS, 2), drawn(2, 30, 8, seed=6)).shape == (2,)


def test_a_unit_has_the_same_number_to_the_last_bit_alone_and_among_others(null: CoverageNull) -> None:
    counts = drawn(64, 30, 9, seed=8)
    whole = values(null, counts)
    for unit in range(64):
        own = counts.unit == unit
        alone = CellCounts(np.zeros(int(own.sum()), np.int64), counts.cell[own], counts.count[own], 1)
        assert values(null, alone)[0] == whole[unit]
