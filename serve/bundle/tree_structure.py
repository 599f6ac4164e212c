"""Tree structure: a LightGBM text checked before LightGBM reads it, whose parser trusts every number in it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", np.float64, np.int64)

_MAX_TREES: Final = 100_000
_MAX_LEAVES: Final = 1 << 16
_MAX_LEAF: Final = 1e6
_DECISIONS: Final = (0, 2, 4, 6, 8, 10)  # numerical splits: default direction and kind of missing value, any of them
_OBJECTIVE: Final = re.compile(r"[a-z_]{1,40}( [a-z_]{1,40}:[0-9.]{1,20}){0,4}")
_END: Final = "end of trees"


def check_trees(text: str, n_features: int) -> None:
    """Refuse what isn't a list of binary trees over `n_features` numbers with finite leaves.

    Raises:
        ValueError: naming the tree, what was found and what was expected.
    """
    head, mark, rest = text.partition("Tree=0\n")
    if not text.isascii() or not mark:
        raise ValueError("the classifier holds no trees in LightGBM's text format")
    lines = head.split("\n")
    if lines[0] != "tree":
        raise ValueError("the classifier doesn't begin with LightGBM's word 'tree'")
    fields = _fields(lines[1:], "the classifier's head")
    _check_head(fields, n_features)
    for position, block in enumerate(_blocks(mark + rest, _whole(fields, "tree_sizes", "the classifier's head"))):
        _check_tree(_fields(block.split("\n"), f"tree {position}"), position, n_features)


def _check_head(fields: dict[str, str], n_features: int) -> None:
    for name, expected in (
        ("num_class", "1"), ("num_tree_per_iteration", "1"), ("max_feature_idx", str(n_features - 1)),
    ):  # fmt: skip
        if fields.get(name) != expected:
            raise ValueError(f"the classifier has {name} {_short(fields.get(name))}, expected {expected}")
    for name in ("feature_names", "feature_infos"):
        if (found := len(fields.get(name, "").split(" "))) != n_features:
            raise ValueError(f"the classifier lists {found} {name}, expected {n_features}")
    if not _OBJECTIVE.fullmatch(fields.get("objective", "")):
        raise ValueError(f"the classifier has objective {_short(fields.get('objective'))}, expected a known one")


def _blocks(text: str, sizes: NDArray[np.int64]) -> list[str]:
    """Each tree's lines; LightGBM jumps from one to the next by the sizes that the head lists."""
    if not 0 < len(sizes) <= _MAX_TREES or (sizes <= 0).any() or int(sizes.sum()) > len(text):
        raise ValueError(f"the classifier lists sizes of {len(sizes)} trees, expected those of the trees in it")
    bounds = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    blocks = [text[start:stop] for start, stop in itertools.pairwise(bounds)]
    for position, block in enumerate(blocks):
        if not block.startswith(f"Tree={position}\n") or block.count("Tree=") != 1:
            raise ValueError(f"tree {position} of the classifier isn't where the list of sizes says")
    if not text[bounds[-1] :].startswith(_END):
        raise ValueError(f"the classifier goes on after tree {len(blocks) - 1}, expected '{_END}'")
    return blocks


def _check_tree(fields: dict[str, str], position: int, n_features: int) -> None:
    where = f"tree {position}"
    leaves = _whole(fields, "num_leaves", where)
    if len(leaves) != 1 or not 1 <= leaves[0] <= _MAX_LEAVES:
        raise ValueError(f"{where} has num_leaves {_short(fields['num_leaves'])}, expected 1 to {_MAX_LEAVES}")
    for name in ("num_cat", "is_linear"):
        if fields.get(name, "0") != "0":
            raise ValueError(f"{where} has {name} {_short(fields[name])}, expected 0")
    n_leaves = int(leaves[0])
    values = _sized(_numbers(fields, "leaf_value", where), n_leaves, "leaf_value", where)
    if not (np.abs(values) <= _MAX_LEAF).all():
        raise ValueError(f"{where} has a leaf of {values[~(np.abs(values) <= _MAX_LEAF)][0]}, expected a finite value")
    if n_leaves > 1:
        _check_splits(fields, n_leaves - 1, n_features, where)
    for name in set(fields) & {"leaf_weight", "leaf_count", "split_gain", "internal_value", "shrinkage"}:
        if not np.isfinite(_numbers(fields, name, where)).all():
            raise ValueError(f"{where} has a {name} that isn't finite")


def _check_splits(fields: dict[str, str], n_splits: int, n_features: int, where: str) -> None:
    feature = _sized(_whole(fields, "split_feature", where), n_splits, "split_feature", where)
    if (strays := feature[(feature < 0) | (feature >= n_features)]).size:
        raise ValueError(f"{where} splits on feature {strays[0]}, expected 0 to {n_features - 1}")
    if np.isnan(_sized(_numbers(fields, "threshold", where), n_splits, "threshold", where)).any():  # may be infinite
        raise ValueError(f"{where} has a threshold that is no number")
    decision = _sized(_whole(fields, "decision_type", where), n_splits, "decision_type", where)
    if (strays := decision[~np.isin(decision, _DECISIONS)]).size:
        raise ValueError(f"{where} has decision_type {strays[0]}, expected one of {_DECISIONS}")
    sides = [_sized(_whole(fields, name, where), n_splits, name, where) for name in ("left_child", "right_child")]
    _check_children(np.stack(sides, axis=1), where)


def _check_children(children: NDArray[np.int64], where: str) -> None:
    """Every split but the root and every leaf is the child of one earlier split: so there is no cycle.

    A child of 0 or more is a split, one below 0 is the leaf -1 - child.
    """
    n_splits = len(children)
    expected = np.concatenate([np.arange(-n_splits - 1, 0), np.arange(1, n_splits)])
    if not np.array_equal(np.sort(children, axis=None), expected):
        raise ValueError(f"{where} has children that aren't its {n_splits} splits and {n_splits + 1} leaves, each once")
    parent = np.arange(n_splits)[:, None]
    if ((children >= 0) & (children <= parent)).any():
        raise ValueError(f"{where} has a cycle: a split is the child of a later one")


def _fields(lines: Sequence[str], where: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition("=")
        if name in fields:
            raise ValueError(f"{where} has {_short(name)} twice")
        if name:
            fields[name] = value
    return fields


def _numbers(fields: dict[str, str], name: str, where: str) -> NDArray[np.float64]:
    try:
        return np.array(fields[name].split(), dtype=np.float64)
    except (KeyError, ValueError):
        raise ValueError(f"{where} has no numbers as {name}") from None


def _whole(fields: dict[str, str], name: str, where: str) -> NDArray[np.int64]:
    found = _numbers(fields, name, where)
    if not (np.abs(found) < 2**53).all() or (found != np.rint(found)).any():
        raise ValueError(f"{where} has a {name} that isn't a whole number")
    return found.astype(np.int64)


def _sized(found: NDArray[T], n: int, name: str, where: str) -> NDArray[T]:
    if len(found) != n:
        raise ValueError(f"{where} has {len(found)} values as {name}, expected {n}")
    return found


def _short(text: str | None) -> str:
    return "none" if text is None else repr(text if len(text) <= 40 else text[:40] + "…")
