"""Surface numbers by hand, and labels in an order that means nothing."""

from __future__ import annotations

import numpy as np
import pytest

from train.evaluation.leakage import SURFACE_NUMBERS, shuffled, surface_margins, surface_numbers
from train.learning.table import Table

COLUMN = {name: column for column, name in enumerate(SURFACE_NUMBERS)}


def test_surface_numbers_of_two_sessions_by_hand() -> None:
    found = surface_numbers(["Ab 1.", "ab?", "x\ny"], np.array([0, 2, 3]))
    assert found.shape == (2, len(SURFACE_NUMBERS))
    assert found[0, COLUMN["log length"]] == pytest.approx((np.log(6) + np.log(4)) / 2)
    assert found[0, COLUMN["length spread"]] == pytest.approx((np.log(6) - np.log(4)) / 2)
    assert found[0, COLUMN["full stop at the end"]] == 0.5
    assert found[0, COLUMN["question mark at the end"]] == 0.5
    assert found[0, COLUMN["upper-case start"]] == 0.5
    assert found[0, COLUMN["digit share"]] == pytest.approx(0.1)
    assert found[1, COLUMN["line breaks"]] == 1.0
    assert found[1, COLUMN["length spread"]] == 0.0


def test_a_surface_model_learns_what_the_surface_tells() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, len(SURFACE_NUMBERS)))
    y = (X[:, 0] > 0).astype(np.int64)
    margins = surface_margins(X, y, np.ones(600), X)
    assert margins[y == 1].mean() > margins[y == 0].mean() + 2


def test_shuffled_labels_keep_their_number_take_their_dilution_along_and_follow_the_seed() -> None:
    y = np.repeat([0, 1], [30, 70])
    names = np.array(["x"] * 100)
    learned = Table(np.arange(100.0)[:, None], y, np.ones(100), y, names, names, np.where(y == 1, 0.5, 0.0))
    found = shuffled(learned, seed=1)
    assert found.y.sum() == 70
    assert not np.array_equal(found.y, y)
    assert np.array_equal(found.dilution, np.where(found.y == 1, 0.5, 0.0))
    assert np.array_equal(found.X, learned.X)
    assert np.array_equal(found.y, shuffled(learned, seed=1).y)
