"""Trees: the table gives LightGBM's sums to the bit, and steps aside where it can't."""

from __future__ import annotations

import subprocess
import sys

import lightgbm
import numpy as np
import pytest

from serve.model.tree_table import TreeTable
from serve.model.trees import Trees

LEAF = "leaf_value="


def grown(n_leaves: int) -> Trees:
    rng = np.random.default_rng(1)
    X = rng.integers(0, 9, (400, 5)) / 4.0
    y = (X[:, 0] + rng.random(400) > 1.5).astype(np.int64)
    settings = {"objective": "binary", "num_leaves": n_leaves, "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 3}
    return Trees.of(lightgbm.train(settings, lightgbm.Dataset(X, y), num_boost_round=30))


@pytest.fixture(scope="module")
def small() -> Trees:
    return grown(9)


def test_the_table_sums_as_lightgbm_does_to_the_bit_on_and_beside_thresholds(small: Trees) -> None:
    table = TreeTable.of(small.text)
    assert table is not None
    rng = np.random.default_rng(2)
    rows = rng.normal(1.0, 1.0, (300, 5))
    for row in rows:
        column = rng.integers(0, 5)
        row[column] = rng.choice(table.threshold[table.feature == column])
    for n_trees in (1, 7, 30):
        expected = small.booster.predict(rows, raw_score=True, num_iteration=n_trees, num_threads=1)
        assert np.array_equal(small.margins(rows, n_trees), expected)
        assert np.array_equal(small.margins(rows[:1], n_trees), expected[:1])
    assert np.array_equal(small.margins(rows), expected)
    assert small.n_features == small.booster.num_feature() == 5


def test_large_trees_have_no_table_and_are_lightgbms() -> None:
    large = grown(31)
    assert TreeTable.of(large.text) is None
    rows = np.random.default_rng(3).random((20, 5))
    assert np.array_equal(large.margins(rows), large.booster.predict(rows, raw_score=True))
    assert large.n_features == 5


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("decision_type=2", "decision_type=8"), ("is_linear=0", "is_linear=1"), ("num_cat=0", "num_cat=1"),
        ("\nobjective", "\naverage_output\nobjective"), (LEAF, LEAF + "1 "), (LEAF, LEAF + "x "),
        ("left_child=1", "left_child=0"), ("left_child=1", "left_child=-20"),
    ],
)  # fmt: skip
def test_other_kinds_and_broken_trees_have_no_table(small: Trees, was: str, becomes: str) -> None:
    assert was in small.text
    assert TreeTable.of(small.text.replace(was, becomes, 1)) is None


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match="the classifier can't be read"):
        Trees("tree\nnothing")


def test_the_released_trees_are_read_and_summed_without_lightgbm() -> None:
    code = (
        "import sys, numpy as np; from serve.bundle.bundle import Bundle; made = Bundle.load().classifier;"
        "made.margins(np.zeros((3, made.n_features)));"
        "print({'lightgbm', 'scipy'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout == "set()\n"
    )
