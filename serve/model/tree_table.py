"""Tree table: small trees as a table of their leaves, which judges before LightGBM would be imported.

All splits of a tree are compared at once, and who goes left, as the bits of a number, says which leaf is reached
(after QuickScorer; Lucchese et al. 2015).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

_MAX_SPLITS = 8
_BLOCK_ROWS = 32
_PLAIN = {"0", "2"}  # kinds of splits on a number that is never missing


@dataclass(frozen=True)
class TreeTable:
    """Trees of few splits, S of them where a tree has most. A row goes left at a split (of n_trees * S) where its
    `feature` is at most the `threshold`; `leaf` (n_trees, 2 ** S) holds the value that these bits lead to, the first
    split's the lowest."""

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    leaf: NDArray[np.float64]

    @classmethod
    def of(cls, text: str) -> Self | None:
        """The trees of LightGBM's text; None where there are none, or some are larger, of another kind, or broken."""
        fields = _fields(text)
        others = {*fields["num_cat"], *fields["is_linear"]} - {"0"}
        if others or "average_output" in fields or set(fields["decision_type"]) - _PLAIN:
            return None
        try:
            n_splits = np.array(fields["num_leaves"], np.int64) - 1
            if not 1 <= n_splits.min(initial=9) <= n_splits.max(initial=0) <= _MAX_SPLITS:
                return None
            is_split = np.arange(n_splits.max()) < n_splits[:, None]
            is_leaf = np.arange(n_splits.max() + 1) <= n_splits[:, None]
            feature, left, right = (
                _padded(fields[name], is_split).astype(np.int32)
                for name in ("split_feature", "left_child", "right_child")
            )
            leaf = _reached(left, right, _padded(fields["leaf_value"], is_leaf))
            return cls(feature.ravel().astype(np.int64), _padded(fields["threshold"], is_split).ravel(), leaf)
        except (ValueError, IndexError):
            return None

    def sums(self, rows: NDArray[np.float64], n_trees: int) -> NDArray[np.float64]:
        """The leaves' sum over the first trees for each row of finite numbers (n_rows, n_features), added tree by tree
        as LightGBM does: the same to the bit."""
        found = np.empty(len(rows))
        trees, n_splits = np.arange(n_trees)[:, None], len(self.feature) // len(self.leaf)
        feature, threshold = self.feature[: n_trees * n_splits], self.threshold[: n_trees * n_splits, None]
        for start in range(0, len(rows), _BLOCK_ROWS):
            columns = np.ascontiguousarray(rows[start : start + _BLOCK_ROWS].T)
            goes_left = (columns[feature] <= threshold).reshape(n_trees, n_splits, -1)
            reached = np.packbits(goes_left, axis=1, bitorder="little")[:, 0]
            found[start : start + _BLOCK_ROWS] = self.leaf[trees, reached].cumsum(axis=0)[-1]
        return found


def _fields(text: str) -> defaultdict[str, list[str]]:
    """All values that a field has, tree by tree."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in text.split("\n"):
        name, _, value = line.partition("=")
        found[name] += value.split()
    return found


def _padded(values: list[str], places: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A field's values where `places` (n_trees, n) says that a tree has one, 0 elsewhere.

    Raises:
        ValueError: when there are more or fewer, or something else than numbers.
    """
    if len(values) != places.sum():
        raise ValueError(f"{len(values)} values, expected {places.sum()}")
    found = np.zeros(places.shape)
    found[places] = np.array(values, np.float64)
    return found


def _reached(left: NDArray[np.int32], right: NDArray[np.int32], leaf: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value of the leaf that each outcome of all splits leads to, (n_trees, 2 ** n_splits).

    Raises:
        IndexError: when a child is no split and no leaf, or a way has no end.
    """
    trees, n_splits = np.arange(len(left))[:, None], left.shape[1]
    outcome = np.arange(1 << n_splits, dtype=np.int32)
    node = np.zeros((len(left), len(outcome)), np.int32)
    for _ in range(n_splits):
        place = np.maximum(node, 0)
        child = np.where(outcome >> place & 1, left[trees, place], right[trees, place])
        node = np.where(node < 0, node, child)  # a leaf is -1 less its number
    if (node >= 0).any():
        raise IndexError("a way through a tree has no end")
    return np.asarray(leaf[trees, -1 - node])
