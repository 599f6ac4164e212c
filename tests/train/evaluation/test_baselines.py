"""The published detectors on cases whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, shapiro
from sklearn.metrics import roc_auc_score

from train.evaluation.baselines import (
    BASELINES,
    Mahalanobis,
    MeanLogistic,
    Seat,
    cell_coverage,
    growing_set_distances,
    non_normality,
)
from train.evaluation.mmd import BenignMMD, Reference
from train.evaluation.session_blocks import Traffic, session_means

N_DIMS = 16


def traffic_of(sessions: Sequence[NDArray[np.floating]]) -> Traffic:
    """Sessions, each (n_prompts, n_dims), as one table."""
    offsets = np.cumsum([0, *map(len, sessions)], dtype=np.int64)
    return Traffic(np.concatenate(sessions).astype(np.float32), offsets)


def draw(seed: int, lengths: Sequence[int], *, shift: float = 0.0) -> Traffic:
    """Unit vectors around `shift` along the first axis."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(sum(lengths), N_DIMS))
    points[:, 0] += shift
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return Traffic(points.astype(np.float32), np.cumsum([0, *lengths], dtype=np.int64))


def five_kernels(distance: float, bandwidth: float) -> float:
    """The mixture as the paper writes it."""
    return float(np.mean([math.exp(-(distance**2) / (2 * (bandwidth * s) ** 2)) for s in (0.25, 0.5, 1, 2, 4)]))


def test_mmd_of_two_points_equals_the_closed_form() -> None:
    reference = Reference.of(np.array([[0, 0], [2, 0]], dtype=np.float32))
    session = np.array([[[0, 0], [0, 1]]], dtype=np.float32)
    cross = [five_kernels(d, 2.0) for d in (0, 2, 1, math.sqrt(5))]
    expected = five_kernels(1, 2.0) + five_kernels(2, 2.0) - 2 * float(np.mean(cross))
    assert reference.bandwidth == pytest.approx(2.0)
    assert reference.mmd_squared(session)[0] == pytest.approx(expected, abs=1e-6)


def test_mmd_of_the_reference_with_itself_is_its_kernel_minus_one() -> None:
    points = np.array([[0, 0], [2, 0]], dtype=np.float32)
    assert Reference.of(points).mmd_squared(points[None])[0] == pytest.approx(five_kernels(2, 2.0) - 1, abs=1e-6)


def test_mmd_of_the_same_distribution_is_zero_on_average() -> None:
    sample = draw(0, [500] + [20] * 400)
    reference = Reference.of(sample.vectors[:500])
    values = reference.mmd_squared(sample.vectors[500:].reshape(400, 20, N_DIMS))
    assert abs(values.mean()) < 0.1 * values.std()


def test_mmd_separates_a_shift_and_scores_benign_alike_at_every_size() -> None:
    organic = draw(1, [50] * 300)
    mmd = BenignMMD().fit(organic, organic, seed=0)
    assert mmd.score(draw(2, [50] * 40, shift=1.5)).min() > mmd.score(draw(3, [50] * 40)).max()
    for size in (1, 7, 33, 50):
        scores = mmd.score(draw(4, [size] * 300))
        assert abs(scores.mean()) < 0.35
        assert 0.6 < scores.std() < 1.5


def test_mmd_is_calibrated_on_sessions_outside_its_reference() -> None:
    two_people = traffic_of([np.eye(2)[[0] * 5], np.eye(2)[[1] * 5]])
    mmd = BenignMMD().fit(two_people, two_people, seed=0)
    apart = 2 - 2 * five_kernels(math.sqrt(2), 1.0)
    assert mmd.calibration.means[-1] == pytest.approx(apart, abs=1e-5)


def test_prada_equals_shapiro_and_prefers_normal_spacing() -> None:
    normal = 1 + 0.1 * norm.ppf((np.arange(60) + 0.5) / 60)
    bimodal = np.concatenate([np.linspace(0.1, 0.12, 30), np.linspace(1, 1.02, 30)])
    assert non_normality(bimodal) == pytest.approx(1 - shapiro(bimodal).statistic)
    assert non_normality(normal) < 0.02 < 0.3 < non_normality(bimodal)
    assert non_normality(np.append(normal, 9.0)) == pytest.approx(non_normality(normal))
    assert non_normality(np.full(10, 0.5)) == 0.0


def test_prada_growing_set_leaves_near_prompts_out() -> None:
    places = np.array([0, 1, 2, 3, 4, 4.3, 4.45], dtype=np.float32)
    # Members join with 0, 1, 1, 1, 1, so T = 0.8 - 0.4: 4.3 stays out, and 4.45 is measured from 4.
    distances = growing_set_distances(places[None, :, None])[0]
    np.testing.assert_allclose(distances, [1, 1, 1, 1, 0.3, 0.45], atol=1e-5)


def test_seat_counts_duplicates_exactly() -> None:
    axes = np.eye(8)
    seat = Seat().fit(traffic_of([axes]), traffic_of([axes]), seed=0)
    seat.threshold = 0.5
    sessions = [axes[[0, 0, 0, 1]], axes[[0, 0, 1, 1, 2]], axes[:5], axes[[3] * 6], axes[:1]]
    assert seat.score(traffic_of(sessions)).tolist() == [3 / 6, 2 / 10, 0.0, 1.0, 0.0]


def test_seat_threshold_is_the_organic_quantile() -> None:
    organic = draw(5, [30] * 100)
    seat = Seat(quantile=0.05).fit(organic, organic, seed=0)
    assert seat.score(organic).mean() == pytest.approx(0.05, abs=1e-3)


def test_coverage_is_one_when_every_cell_is_hit() -> None:
    cells = np.eye(4, dtype=np.float32)
    sessions = cells[[[0, 1, 2, 3, 0, 1], [2, 2, 2, 2, 2, 2], [0, 0, 0, 1, 1, 1]]]
    assert cell_coverage(sessions, cells).tolist() == [1.0, 0.0, pytest.approx(1 / 3)]
    assert cell_coverage(cells[None, :2], cells).tolist() == [1.0]
    assert cell_coverage(cells[None, :1], cells).tolist() == [0.0]


def test_mahalanobis_equals_the_textbook() -> None:
    covariance = np.array([[4.0, 1.0], [1.0, 2.0]])
    points = np.random.default_rng(6).multivariate_normal([1, -1], covariance, size=20_000)
    organic = traffic_of([point[None] for point in points])
    fitted = Mahalanobis().fit(organic, organic, seed=0)
    offset = np.array([3.0, -2.0])
    expected = math.sqrt(offset @ np.linalg.inv(covariance) @ offset)
    session = np.array([1.0, -1.0]) + offset + np.array([[1.0, 0.5], [-1.0, -0.5]])
    assert fitted.score(traffic_of([session]))[0] == pytest.approx(expected, rel=0.03)


def test_logistic_ranks_a_separable_case_perfectly() -> None:
    logistic = MeanLogistic().fit(draw(7, [20] * 100), draw(8, [20] * 30, shift=2.0), seed=0)
    scores = logistic.score(traffic_of([*_sessions(draw(9, [20] * 50)), *_sessions(draw(10, [20] * 50, shift=2.0))]))
    assert roc_auc_score(np.repeat([0, 1], 50), scores) == 1.0


@pytest.mark.parametrize("name", BASELINES)
def test_scores_are_finite_and_belong_to_the_session_alone(name: str) -> None:
    lengths = [1, 2, 3, 4, 17, 50, 50, 17, 120, 1]
    baseline = BASELINES[name]().fit(draw(11, [5, 40] * 30), draw(12, [5, 40] * 30, shift=1.0), seed=3)
    unknown = [np.zeros((length, N_DIMS), np.float32) for length in (1, 6, 0)]
    sessions = [*_sessions(draw(13, lengths)), *unknown]
    scores = baseline.score(traffic_of(sessions))
    assert baseline.name == name
    assert np.isfinite(scores).all()
    assert scores[-1] == 0.0
    order = np.random.default_rng(0).permutation(len(sessions))
    shuffled = baseline.score(traffic_of([sessions[i] for i in order]))
    np.testing.assert_allclose(shuffled, scores[order], rtol=1e-3, atol=1e-3)


def test_too_little_traffic_is_refused() -> None:
    nothing = Traffic(np.zeros((0, N_DIMS), np.float32), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match=r"organic traffic has 1 sessions with prompts, expected 2 or more"):
        BenignMMD().fit(draw(0, [5]), nothing, seed=0)
    with pytest.raises(ValueError, match=r"harvesting traffic has 0 sessions with prompts, expected 1 or more"):
        MeanLogistic().fit(draw(0, [5]), nothing, seed=0)


def test_pick_and_heads_cut_whole_sessions() -> None:
    traffic = draw(14, [3, 1, 4])
    picked = traffic.pick(np.array([2, 0]))
    assert picked.offsets.tolist() == [0, 4, 7]
    np.testing.assert_array_equal(picked.vectors, traffic.vectors[[4, 5, 6, 7, 0, 1, 2]])
    np.testing.assert_array_equal(traffic.heads(3).vectors, traffic.vectors[[0, 1, 2, 4, 5, 6]])
    np.testing.assert_allclose(session_means(traffic)[1], traffic.vectors[3], rtol=1e-6)


def _sessions(traffic: Traffic) -> list[NDArray[np.float32]]:
    return np.split(traffic.vectors, traffic.offsets[1:-1])
