from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.bundle.tree_structure import check_trees

N_FEATURES = 5


@pytest.fixture(scope="module")
def text() -> str:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, N_FEATURES))
    X[rng.random(X.shape) < 0.1] = np.nan
    y = (np.nan_to_num(X[:, 0] * X[:, 1]) > 0).astype(int)
    quiet = {"objective": "binary", "verbosity": -1, "num_threads": 1, "deterministic": True, "min_data_in_leaf": 5}
    found: str = lightgbm.train(quiet, lightgbm.Dataset(X, y), num_boost_round=6).model_to_string()
    return found


def resized(text: str) -> str:
    """The text with its list of sizes put right, as whoever changes a tree on purpose would."""
    starts = [found.start() for found in re.finditer(r"^Tree=", text, flags=re.M)] + [text.index("end of trees")]
    sizes = " ".join(str(size) for size in np.diff(starts))
    head, _, rest = text.partition("Tree=0\n")
    head = re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", head, flags=re.M)
    return f"{head}Tree=0\n{rest}"


def test_what_lightgbm_writes_passes(text: str) -> None:
    check_trees(text, N_FEATURES)


def test_a_tree_of_one_leaf_passes() -> None:
    quiet = {"objective": "binary", "verbosity": -1, "num_threads": 1}
    flat = lightgbm.train(quiet, lightgbm.Dataset(np.zeros((50, 2)), np.arange(50) % 2), num_boost_round=1)
    check_trees(flat.model_to_string(), 2)


CHANGES: dict[str, tuple[str, str | Callable[[re.Match[str]], str], str]] = {
    "another number of features": ("^max_feature_idx=.*$", "max_feature_idx=9", "max_feature_idx '9', expected 4"),
    "many classes": ("^num_class=1$", "num_class=1000000000", "num_class '1000000000', expected 1"),
    "many trees an iteration": ("^num_tree_per_iteration=1$", "num_tree_per_iteration=7", "expected 1"),
    "an objective of nobody": ("^objective=.*$", "objective=; rm", "expected a known one"),
    "few names": ("^feature_names=.*$", "feature_names=a", "lists 1 feature_names"),
    "a child out of range": (r"^left_child=-?\d+", "left_child=99999999", "children that aren't"),
    "a child far below": (r"^right_child=-?\d+", "right_child=-99999999", "children that aren't"),
    "a child that is the root": (r"^left_child=-?\d+", "left_child=0", "children that aren't"),
    "a feature out of range": (r"^split_feature=\d+", "split_feature=99", "splits on feature 99, expected 0 to 4"),
    "a feature below 0": (r"^split_feature=\d+", "split_feature=-1", "splits on feature -1"),
    "many leaves": (r"^num_leaves=\d+", "num_leaves=2000000000", "num_leaves '2000000000'"),
    "leaves below 0": (r"^num_leaves=\d+", "num_leaves=-5", "num_leaves '-5'"),
    "other leaves than listed": (r"^num_leaves=\d+", "num_leaves=2", "expected 2"),
    "a leaf that is no number": (r"^leaf_value=\S+", "leaf_value=nan", "a leaf of nan"),
    "a huge leaf": (r"^leaf_value=\S+", "leaf_value=1e300", r"a leaf of 1e\+300"),
    "a word as leaf": (r"^leaf_value=\S+", "leaf_value=x", "no numbers as leaf_value"),
    "a threshold of NaN": (r"^threshold=\S+", "threshold=nan", "threshold that is no number"),
    "a split by category": (r"^decision_type=\d+", "decision_type=1", "decision_type 1"),
    "categories": (r"^num_cat=0", "num_cat=1", "num_cat '1', expected 0"),
    "linear leaves": (r"^is_linear=0", "is_linear=1", "is_linear '1', expected 0"),
    "a field twice": (r"^num_cat=0", "num_cat=0\nnum_cat=0", "has 'num_cat' twice"),
    "no end": ("^end of trees", "end of all", "goes on after tree"),
    "no beginning": ("^tree$", "trees", "doesn't begin"),
    "not ASCII": ("^tree$", "trée", "no trees"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_text_is_refused_and_says_what_was_found(text: str, name: str) -> None:
    pattern, replacement, message = CHANGES[name]
    changed = re.sub(pattern, replacement, text, count=1, flags=re.M)
    assert changed != text
    if "end of trees" in changed:
        changed = resized(changed)
    with pytest.raises(ValueError, match=message):
        check_trees(changed, N_FEATURES)


def test_a_cycle_is_found_where_every_split_has_one_parent() -> None:
    """Splits 1 and 2 are each other's child, and split 0 has two leaves."""
    tree = (
        "Tree=0\nnum_leaves=4\nnum_cat=0\nsplit_feature=0 0 0\nthreshold=0 0 0\ndecision_type=2 2 2\n"
        "left_child=-1 2 1\nright_child=-2 -3 -4\nleaf_value=0 0 0 0\n\n\n"
    )
    head = (
        f"tree\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=0\nobjective=binary sigmoid:1\n"
        f"feature_names=a\nfeature_infos=none\ntree_sizes={len(tree)}\n\n"
    )
    with pytest.raises(ValueError, match="tree 0 has a cycle"):
        check_trees(f"{head}{tree}end of trees\n", 1)


@pytest.mark.parametrize("sizes", ["999999999", "-5", "", "0", "1 2", "x"])
def test_sizes_that_lead_elsewhere_are_refused(text: str, sizes: str) -> None:
    with pytest.raises(ValueError, match=r"classifier"):
        check_trees(re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", text, flags=re.M), N_FEATURES)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_change_of_one_number_raises_anything_but_a_value_error(text: str, data: st.DataObject) -> None:
    numbers = list(re.finditer(r"-?\d[\d.e+-]*", text[: text.index("end of trees")]))
    found = numbers[data.draw(st.integers(0, len(numbers) - 1))]
    other = data.draw(st.sampled_from(["", "nan", "-1", "0", "7", "1e999", "99999999999999999999", "\x00", "²"]))
    with contextlib.suppress(ValueError):
        check_trees(text[: found.start()] + other + text[found.end() :], N_FEATURES)


@pytest.mark.parametrize("n", [0, 1, 100, 1_000])
def test_a_cut_text_is_refused(text: str, n: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_trees(text[:n], N_FEATURES)


def test_the_released_trees_pass() -> None:
    from serve.bundle.files import CLASSIFIER, RELEASED
    from serve.bundle.manifest import verify

    path: Path = RELEASED / CLASSIFIER
    n = int(re.search(r"max_feature_idx=(\d+)", path.read_text()).group(1)) + 1  # type: ignore[union-attr]
    assert n <= len(verify(RELEASED)["features"])
    check_trees(path.read_text(), n)
