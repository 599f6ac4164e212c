"""Coverage measures against closed forms, and what must hold of them for any counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb, exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from serve.capability.coverage import (
    CellCounts,
    area_coverage,
    chao1,
    evenness,
    growth,
    rarefied,
    richness,
    shannon,
    simpson,
    size,
    unseen_mass,
)

PROMPTS = st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 12)), max_size=60)
PLACED = st.lists(st.integers(0, 9), min_size=1, max_size=40)
MEASURES = (size, richness, shannon, simpson, evenness, unseen_mass, chao1)


def counts_of(prompts: Sequence[tuple[int, int]], n_units: int = 5) -> CellCounts:
    """Counts of (unit, cell) pairs."""
    pairs = np.array(prompts, dtype=np.int64).reshape(-1, 2)
    return CellCounts.of(pairs[:, 0], pairs[:, 1], n_units)


def one_unit(*abundances: int) -> CellCounts:
    """One unit that reached cells 0, 1, 2 … so many times."""
    return counts_of([(0, cell) for cell, count in enumerate(abundances) for _ in range(count)], n_units=1)


def hypergeometric(abundances: Sequence[int], n_drawn: int) -> float:
    """Expected distinct cells by counting draws, in exact integers until the end."""
    n = sum(abundances)
    return sum(1 - comb(n - count, n_drawn) / comb(n, n_drawn) for count in abundances)


def test_counts_are_sorted_summed_and_leave_out_what_is_in_no_cell() -> None:
    counts = counts_of([(3, 7), (1, 2), (3, 7), (1, -1), (3, 0)])
    assert (counts.unit.tolist(), counts.cell.tolist(), counts.count.tolist()) == ([1, 3, 3], [2, 0, 7], [1, 1, 2])
    assert size(counts).tolist() == [0, 1, 0, 3, 0]


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_hill_numbers_of_even_counts_are_all_the_number_of_cells(n: int) -> None:
    counts = one_unit(*[3] * n)
    assert [measure(counts)[0] for measure in (richness, shannon, simpson)] == pytest.approx([n, n, n])
    assert evenness(counts)[0] == pytest.approx(1.0)


def test_hill_numbers_by_hand() -> None:
    counts = one_unit(6, 3, 1)
    entropy = -(0.6 * log(0.6) + 0.3 * log(0.3) + 0.1 * log(0.1))
    assert richness(counts)[0] == 3
    assert shannon(counts)[0] == pytest.approx(exp(entropy))
    assert simpson(counts)[0] == pytest.approx(1 / 0.46)
    assert evenness(counts)[0] == pytest.approx(entropy / log(3))


def test_unseen_mass_is_the_share_of_singletons() -> None:
    assert unseen_mass(one_unit(4, 1, 1, 2))[0] == 2 / 8
    assert unseen_mass(one_unit(4, 2))[0] == 0.0
    assert unseen_mass(one_unit(1, 1, 1))[0] == 1.0


def test_chao1_by_hand() -> None:
    # f1 = 4, f2 = 2, n = 15, reached = 8: 8 + 14/15 * 4*3 / (2*3)
    assert chao1(one_unit(1, 1, 1, 1, 2, 2, 3, 4))[0] == pytest.approx(8 + 14 / 15 * 12 / 6)
    assert chao1(one_unit(5, 5))[0] == 2.0


def test_an_empty_unit_covers_nothing_and_expects_only_news() -> None:
    counts = counts_of([(0, 1)], n_units=2)
    assert [measure(counts)[1] for measure in MEASURES] == [0, 0, 0, 0, 0, 1, 0]
    assert rarefied(counts, 8)[1] == 0.0


@pytest.mark.parametrize("n_drawn", [1, 2, 5, 8, 12])
def test_rarefaction_is_the_hypergeometric_expectation(n_drawn: int) -> None:
    abundances = (5, 3, 2, 1, 1)
    assert rarefied(one_unit(*abundances), n_drawn)[0] == pytest.approx(hypergeometric(abundances, n_drawn))


def test_rarefaction_is_what_drawing_without_replacement_gives() -> None:
    prompts, rng = np.repeat([0, 1, 2, 3], [10, 5, 3, 2]), np.random.default_rng(0)
    drawn = [len(np.unique(rng.choice(prompts, 6, replace=False))) for _ in range(4000)]
    assert rarefied(one_unit(10, 5, 3, 2), 6)[0] == pytest.approx(np.mean(drawn), abs=0.05)


def test_extrapolation_follows_colwell_and_starts_at_what_was_reached() -> None:
    counts = one_unit(1, 1, 1, 2)
    n, once, hidden = 5, 3, 4 / 5 * 3 * 2 / (2 * 2)
    expected = 4 + hidden * (1 - (1 - once / (n * hidden + once)) ** 3)
    assert rarefied(counts, 8)[0] == pytest.approx(expected)
    assert rarefied(counts, 5)[0] == pytest.approx(4.0)


@given(PLACED)
def test_the_growth_curve_rises_ever_slower_from_1_to_richness_and_never_beyond_chao1(cells: list[int]) -> None:
    counts = counts_of([(0, cell) for cell in cells], n_units=1)
    n = len(cells)
    curve = growth(counts, tuple(range(1, n + 11)))[0]
    steps = np.diff(curve)
    assert curve[0] == pytest.approx(1.0)
    assert curve[n - 1] == pytest.approx(richness(counts)[0])
    assert (steps >= -1e-9).all()
    assert (np.diff(steps[: n - 1]) <= 1e-9).all()
    assert curve[-1] <= chao1(counts)[0] + 1e-9


@given(PROMPTS, st.integers(0, 1000))
def test_no_measure_depends_on_the_order_of_prompts(prompts: list[tuple[int, int]], seed: int) -> None:
    shuffled = [prompts[index] for index in np.random.default_rng(seed).permutation(len(prompts))]
    for measure in (*MEASURES, lambda counts: rarefied(counts, 8)):
        assert (measure(counts_of(prompts)) == measure(counts_of(shuffled))).all()


@given(PROMPTS, st.permutations(range(5)))
def test_a_unit_is_measured_apart_from_the_others(prompts: list[tuple[int, int]], names: list[int]) -> None:
    renamed = counts_of([(names[unit], cell) for unit, cell in prompts])
    for measure in (*MEASURES, lambda counts: rarefied(counts, 8)):
        assert measure(renamed)[names] == pytest.approx(measure(counts_of(prompts)), abs=1e-12)


@given(PROMPTS)
def test_measures_are_bounded_and_in_order(prompts: list[tuple[int, int]]) -> None:
    counts = counts_of(prompts)
    measured = [size, chao1, richness, shannon, simpson]
    n, total, reached, effective, dominant = (measure(counts) for measure in measured)
    assert (total >= reached).all()
    assert (n >= reached).all()
    assert (reached >= effective - 1e-9).all()
    assert (effective >= dominant - 1e-9).all()
    assert ((dominant >= 1 - 1e-9) | (n == 0)).all()
    for share in (evenness(counts), unseen_mass(counts)):
        assert ((share >= 0) & (share <= 1)).all()


@given(PLACED)
def test_a_new_cell_never_lowers_coverage(cells: list[int]) -> None:
    before = counts_of([(0, cell) for cell in cells], n_units=1)
    after = counts_of([(0, cell) for cell in [*cells, 10]], n_units=1)
    assert richness(after)[0] == richness(before)[0] + 1
    assert chao1(after)[0] >= chao1(before)[0]
    assert rarefied(after, 8)[0] >= rarefied(before, 8)[0] - 1e-9


@given(PLACED, st.integers(2, 5))
def test_hill_numbers_and_evenness_are_stable_under_duplication(cells: list[int], times: int) -> None:
    once = counts_of([(0, cell) for cell in cells], n_units=1)
    often = counts_of([(0, cell) for cell in cells * times], n_units=1)
    for measure in (richness, shannon, simpson, evenness):
        assert measure(often) == pytest.approx(measure(once))
    assert unseen_mass(often)[0] == 0.0


@given(PROMPTS, PROMPTS, PROMPTS)
def test_merged_parts_are_the_whole_in_any_grouping(
    first: list[tuple[int, int]], second: list[tuple[int, int]], third: list[tuple[int, int]]
) -> None:
    whole = counts_of([*first, *second, *third])
    a, b, c = counts_of(first), counts_of(second), counts_of(third)
    for merged in (a.merged(b).merged(c), a.merged(b.merged(c)), c.merged(a).merged(b)):
        assert (merged.unit.tolist(), merged.cell.tolist()) == (whole.unit.tolist(), whole.cell.tolist())
        assert merged.count.tolist() == whole.count.tolist()


@given(PROMPTS)
def test_regrouped_sessions_are_the_account(prompts: list[tuple[int, int]]) -> None:
    account_of = np.array([1, 0, 1, 1, 0])
    regrouped = counts_of(prompts).regrouped(account_of, 2)
    direct = counts_of([(int(account_of[unit]), cell) for unit, cell in prompts], n_units=2)
    assert (regrouped.unit.tolist(), regrouped.count.tolist()) == (direct.unit.tolist(), direct.count.tolist())


def test_area_coverage_counts_cells_not_prompts() -> None:
    counts = counts_of([(0, 0), (0, 0), (0, 1), (0, 4), (1, 2), (1, 3), (1, 4)], n_units=3)
    shares = area_coverage(counts, np.array([0, 0, 0, 1, 1], np.int16), np.array([3, 2]))
    assert shares == pytest.approx(np.array([[2 / 3, 1 / 2], [1 / 3, 1.0], [0.0, 0.0]]))


@given(PROMPTS)
def test_counts_agree_with_a_counter(prompts: list[tuple[int, int]]) -> None:
    counts = counts_of(prompts)
    found: list[NDArray[np.int64]] = [counts.unit, counts.cell, counts.count]
    expected = Counter(pair for pair in prompts if pair[1] >= 0)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == [
        (u, c, k) for (u, c), k in sorted(expected.items())
    ]


def test_large_counts_stay_exact_enough() -> None:
    counts = CellCounts(np.zeros(3, np.int64), np.arange(3), np.array([9_000_000, 4_000_000, 1]), 1)
    assert rarefied(counts, 1)[0] == pytest.approx(1.0)
    missed = [(1 - k / 13_000_001) ** 100 for k in (9_000_000, 4_000_000, 1)]
    assert rarefied(counts, 100)[0] == pytest.approx(3 - sum(missed), rel=1e-4)
