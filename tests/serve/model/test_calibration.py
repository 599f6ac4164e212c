"""Conformal p-values and thresholds by hand, and that they say the same thing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.model.calibration import Calibration
from serve.sessions.size_classes import SIZE_EDGES, size_class


def calibration_of(*margins: float, slope: float = 1.0, intercept: float = 0.0) -> Calibration:
    """The same benign margins in every size class."""
    n_classes = len(SIZE_EDGES)
    return Calibration(
        slope, intercept, np.tile(np.sort(np.array(margins, dtype=np.float64)), n_classes),
        np.arange(n_classes + 1) * len(margins),
    )  # fmt: skip


def p_values(calibration: Calibration, *margins: float, n: int = 10) -> list[float]:
    return calibration.p_value(np.array(margins), np.full(len(margins), n)).tolist()


def test_p_values_by_hand() -> None:
    # Of 4 benign margins, so many score as high: 5, 4, 3 (a tie counts), 1 and none.
    assert p_values(calibration_of(1, 2, 2, 3), 0.5, 1.5, 2.0, 3.0, 3.5) == [5 / 5, 4 / 5, 4 / 5, 2 / 5, 1 / 5]


def test_without_benign_sessions_of_that_size_nothing_is_unusual() -> None:
    assert p_values(calibration_of(), -5.0, 5.0) == [1.0, 1.0]
    assert calibration_of().threshold(np.array([10]), 0.01).tolist() == [1.0]


def test_a_size_is_judged_by_its_own_class() -> None:
    offsets = np.zeros(len(SIZE_EDGES) + 1, dtype=np.int64)
    offsets[1:] = 3
    small_only = Calibration(1.0, 0.0, np.array([0.0, 1.0, 2.0]), offsets)
    assert small_only.p_value(np.array([1.5, 1.5]), np.array([1, 100])).tolist() == [2 / 4, 1.0]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 69, 70, 100_000])
def test_size_classes_start_at_their_edges(n: int) -> None:
    index = int(size_class(np.array([n]))[0])
    assert SIZE_EDGES[index] <= n
    assert index + 1 == len(SIZE_EDGES) or n < SIZE_EDGES[index + 1]


def test_p_values_of_benign_sessions_are_uniform() -> None:
    rng = np.random.default_rng(0)
    calibration, fresh = calibration_of(*rng.normal(size=4999)), rng.normal(size=20_000)
    found = np.array(p_values(calibration, *fresh))
    for level in (0.01, 0.05, 0.2, 0.5, 0.9):
        assert (found <= level).mean() == pytest.approx(level, abs=4 * np.sqrt(level / 20_000) + 0.01 * level**0.5)


@given(st.lists(st.integers(-20, 20), max_size=60), st.lists(st.integers(-25, 25), min_size=1, max_size=20))
def test_a_p_value_lies_in_0_1_and_falls_as_the_margin_rises(benign: list[int], margins: list[int]) -> None:
    found = p_values(calibration_of(*benign), *sorted(margins))
    assert all(0 < p <= 1 for p in found)
    assert found == sorted(found, reverse=True)
    assert min(found) >= 1 / (1 + len(benign))


@given(
    st.lists(st.floats(-4, 4), max_size=80),
    st.lists(st.floats(-5, 5), min_size=1, max_size=20),
    st.sampled_from([0.001, 0.01, 0.05, 0.07, 0.1, 0.29, 0.5, 0.9]),
    st.floats(0.2, 3.0),
)
def test_score_against_threshold_says_what_p_against_fpr_says(
    benign: list[float], margins: list[float], fpr: float, slope: float
) -> None:
    calibration = calibration_of(*benign, slope=slope, intercept=-0.3)
    margin, n = np.array(margins), np.full(len(margins), 10)
    flagged = calibration.p_value(margin, n) <= fpr
    score, threshold = calibration.score(margin), calibration.threshold(n, fpr)
    assert (score[flagged] >= threshold[flagged]).all()
    assert flagged[score > threshold].all()


def test_the_threshold_by_hand() -> None:
    # At 20 % of 9 + 1 sessions, one benign session may score as high: the limit lies just above the second highest.
    threshold = calibration_of(*range(1, 10)).threshold(np.array([10]), 0.2)[0]
    assert threshold == pytest.approx(1 / (1 + np.exp(-8.0)))
    assert p_values(calibration_of(*range(1, 10)), 8.0, 8.01) == [3 / 10, 2 / 10]


def test_too_few_benign_sessions_flag_nobody() -> None:
    calibration = calibration_of(*range(98))
    assert calibration.threshold(np.array([10]), 0.01).tolist() == [1.0]
    assert p_values(calibration, 1e9)[0] > 0.01
    assert p_values(calibration_of(*range(99)), 1e9)[0] <= 0.01


def test_a_score_is_the_logistic_of_the_margin_and_never_overflows() -> None:
    calibration = calibration_of(slope=2.0, intercept=-1.0)
    assert calibration.score(np.array([0.5, 1.0])).tolist() == pytest.approx([0.5, 1 / (1 + np.exp(-1.0))])
    assert calibration.score(np.array([-1e4, 1e4])).tolist() == [0.0, 1.0]


def test_arrays_bring_back_the_same_calibration() -> None:
    calibration = calibration_of(3.0, 1.0, 2.0, slope=0.7, intercept=-0.2)
    again = Calibration.of_arrays(calibration.arrays())
    assert (again.slope, again.intercept) == (0.7, -0.2)
    assert (again.margins == calibration.margins).all()
    assert (again.offsets == calibration.offsets).all()


@pytest.mark.parametrize("change", [{"offsets": np.arange(4)}, {"margins": np.zeros(5)}])
def test_arrays_of_other_size_classes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="calibration has"):
        Calibration.of_arrays({**calibration_of(1.0, 2.0).arrays(), **change})
