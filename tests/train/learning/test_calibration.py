"""Calibrating: frequencies become scores, benign margins become p-values by size."""

from __future__ import annotations

import numpy as np
import pytest

from serve.model.benign_profile import benign_quantiles
from serve.model.calibration import MIN_CLASS
from serve.sessions.size_classes import SIZE_EDGES, size_class
from train.learning.calibration import calibrate, expected_calibration_error


def logistic(margin: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-margin))


def test_scores_of_balanced_labels_are_frequencies() -> None:
    rng = np.random.default_rng(0)
    margin = rng.normal(scale=2, size=20_000)
    y = (rng.random(20_000) < logistic(0.7 * margin)).astype(np.int64)
    calibration = calibrate(margin[y == 1], margin[y == 0], np.full((y == 0).sum(), 9))
    assert calibration.slope == pytest.approx(0.7, abs=0.05)
    assert calibration.intercept == pytest.approx(0.0, abs=0.05)
    assert expected_calibration_error(calibration.score(margin), y) < 0.02


def test_both_labels_weigh_the_same_however_many_there_are() -> None:
    rng = np.random.default_rng(0)
    margin = np.concatenate([rng.normal(1, 1, 500), rng.normal(-1, 1, 20_000)])
    calibration = calibrate(margin[:500], margin[500:], np.full(20_000, 9))
    assert calibration.score(np.array([0.0]))[0] == pytest.approx(0.5, abs=0.03)


def test_a_score_never_falls_as_the_margin_rises_even_when_the_margins_mislead() -> None:
    margin = np.linspace(-1, 1, 200)
    calibration = calibrate(margin[:100], margin[100:], np.full(100, 9))
    assert calibration.slope > 0
    assert (np.diff(calibration.score(margin)) >= 0).all()


def test_benign_margins_are_kept_sorted_in_the_class_of_their_size() -> None:
    rng = np.random.default_rng(0)
    benign, n = rng.normal(size=40_000), rng.integers(1, 200, size=40_000)  # every class has enough of its own
    calibration = calibrate(np.array([1.0]), benign, n)
    assert calibration.offsets[-1] == 40_000
    for index in range(len(SIZE_EDGES)):
        own = calibration.margins[calibration.offsets[index] : calibration.offsets[index + 1]]
        assert own.tolist() == sorted(benign[size_class(n) == index].tolist())


def test_a_thin_class_borrows_from_the_classes_next_to_it() -> None:
    benign = np.arange(MIN_CLASS + 30, dtype=np.float64)
    n = np.where(benign < MIN_CLASS, 10, np.where(benign < MIN_CLASS + 20, 15, 500))  # classes 3, 4 and the last
    calibration = calibrate(np.array([1.0]), benign, n)
    sizes = np.diff(calibration.offsets)
    assert sizes[3] == MIN_CLASS  # has enough of its own
    assert sizes[4] == MIN_CLASS + 20  # with the class beside it
    assert (sizes >= MIN_CLASS).all()
    assert calibration.is_decidable(n, 0.01).all()
    assert not calibration.is_decidable(n, 0.001).any()


def test_a_benign_session_of_the_calibration_is_flagged_at_most_as_often_as_asked() -> None:
    rng = np.random.default_rng(0)
    benign, n = rng.normal(size=3000), rng.integers(1, 200, size=3000)
    calibration = calibrate(np.array([1.0]), benign, n)
    for fpr in (0.01, 0.1, 0.5):
        assert (calibration.p_value(benign, n) <= fpr).mean() <= fpr


def test_benign_ranges_are_quantiles_of_the_class_or_of_all_where_it_is_small() -> None:
    X = np.arange(300, dtype=np.float64)[:, None] * [1.0, -2.0]
    n = np.concatenate([np.full(200, 2), np.full(99, 30), [100]])
    ranges = benign_quantiles(X, n)
    assert ranges.shape == (len(SIZE_EDGES), 2, 2)
    own = X[:200]
    assert ranges[size_class(np.array([2]))[0]] == pytest.approx(np.quantile(own, (0.05, 0.95), axis=0).T)
    for few in (100, 1):
        assert ranges[size_class(np.array([few]))[0] if few == 100 else 1] == pytest.approx(
            np.quantile(X, (0.05, 0.95), axis=0).T
        )
    assert (ranges[..., 0] <= ranges[..., 1]).all()


@pytest.mark.parametrize(
    ("score", "y", "expected"),
    [
        ([0.0, 1.0], [0, 1], 0.0),
        ([1.0, 0.0], [0, 1], 1.0),
        ([0.25, 0.25, 0.25, 0.25], [1, 0, 0, 0], 0.0),
        ([0.9, 0.9, 0.1, 0.1], [1, 0, 0, 0], (2 * 0.4 + 2 * 0.1) / 4),
        ([], [], 0.0),
    ],
)
def test_the_calibration_error_by_hand(score: list[float], y: list[int], expected: float) -> None:
    found = expected_calibration_error(np.array(score, dtype=np.float64), np.array(y, dtype=np.int64))
    assert found == pytest.approx(expected)
