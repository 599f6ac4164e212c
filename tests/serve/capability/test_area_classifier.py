"""The discriminant: two clouds are told apart along the line between their means, exactly and whatever the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from serve.capability.area_classifier import AreaClassifier
from serve.embedding.encoders import quantise


def clouds(n: int = 200, n_dims: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Two areas that differ along axis 0, with much noise along axis 1."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2 * n, n_dims)) * 0.3
    rows[:, 1] *= 10
    rows[:n, 0] += 1.5
    rows[n:, 0] -= 1.5
    return quantise(rows), np.repeat(np.array([0, 1], np.int16), n)


def test_what_is_equal_in_all_areas_decides_nothing_and_what_differs_does() -> None:
    vectors, owners = clouds()
    fitted = AreaClassifier.fit(vectors, owners, 2)
    weights = fitted.weights[0].astype(int)
    assert weights[0] == np.abs(weights).max() == 127
    assert abs(weights[1]) < 10
    assert (fitted.weights[1] == -fitted.weights[0]).all()
    odds = fitted.log_odds(vectors.astype(np.float32))
    assert (odds.argmax(axis=1) == owners).mean() > 0.95


def test_halfway_between_the_means_neither_is_likelier() -> None:
    vectors, owners = clouds()
    fitted = AreaClassifier.fit(vectors, owners, 2)
    middle = (vectors[owners == 0].mean(axis=0) + vectors[owners == 1].mean(axis=0)) / 2
    first, second = fitted.log_odds(middle[None].astype(np.float32))[0]
    assert first == pytest.approx(second, abs=0.05)


def test_log_odds_are_the_same_to_the_last_bit_in_any_batch() -> None:
    vectors, owners = clouds()
    fitted, floats = AreaClassifier.fit(vectors, owners, 2), vectors.astype(np.float32)
    whole = fitted.log_odds(floats)
    assert (np.concatenate([fitted.log_odds(floats[[row]]) for row in range(len(floats))]) == whole).all()


def test_areas_of_one_example_each_are_told_apart() -> None:
    vectors = quantise(np.eye(3, 8))
    fitted = AreaClassifier.fit(vectors, np.array([0, 1, 2], np.int16), 3)
    assert fitted.log_odds(vectors.astype(np.float32)).argmax(axis=1).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.zeros((2, 9), np.int8)}, r"area weights are int8 \(2, 9\), expected int8 \(2, 16\)"),
        ({"weights": np.zeros((2, 16))}, r"area weights are float64"),
        ({"offsets": np.zeros(3)}, r"area offsets have shape \(3,\), expected \(2,\)"),
        ({"offsets": np.array([0.0, np.nan])}, r"offset or scale of area 1 is nan"),
    ],
)
def test_what_does_not_fit_the_map_is_named(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(AreaClassifier.fit(*clouds(), 2), **change).check((2, 16))
