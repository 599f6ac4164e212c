"""Trees: the trees that give a session's log-odds. The only lightgbm import of the judging side."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from serve.model.tree_table import TreeTable

if TYPE_CHECKING:
    from lightgbm import Booster

# LightGBM imports these for training wrappers where they are installed: seconds that judging never needs.
_UNNEEDED = ("sklearn", "pandas", "dask", "matplotlib", "graphviz")


@dataclass(frozen=True)
class Trees:
    """Boosted trees in LightGBM's text format. LightGBM itself is imported when a table can't stand in for it."""

    text: str
    _table: TreeTable | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_table", TreeTable.of(self.text))
        if self._table is None:
            self.booster  # noqa: B018 (refuses what is no model)

    @classmethod
    def of(cls, booster: Booster) -> Self:
        """Trees that LightGBM holds."""
        found = cls(booster.model_to_string())
        found.__dict__["booster"] = booster
        return found

    @cached_property
    def booster(self) -> Booster:
        """LightGBM's own trees.

        Raises:
            ValueError: when the text is no such model.
        """
        lightgbm = _lightgbm()
        try:
            booster: Booster = lightgbm.Booster(model_str=self.text)
        except lightgbm.basic.LightGBMError as fault:
            raise ValueError(f"the classifier can't be read ({fault})") from fault
        return booster

    @property
    def n_features(self) -> int:
        """Columns of the rows that the trees read."""
        if self._table is None:
            return int(self.booster.num_feature())
        return int(re.findall(r"^max_feature_idx=(\d+)$", self.text, re.MULTILINE)[0]) + 1

    def margins(self, rows: NDArray[np.float64], n_trees: int = -1) -> NDArray[np.float64]:
        """Log-odds of rows (n_rows, n_features) of finite numbers, shape (n_rows,), by the first trees or by all."""
        if self._table is None:
            found = self.booster.predict(rows, raw_score=True, num_iteration=n_trees, num_threads=1)
            return np.asarray(found, dtype=np.float64)
        return self._table.sums(rows, len(self._table.leaf) if n_trees < 1 else min(n_trees, len(self._table.leaf)))

    def contributions(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shapley values of each feature (Lundberg et al. 2020), shape (n_rows, n_features)."""
        return np.asarray(self.booster.predict(rows, pred_contrib=True, num_threads=1))[:, :-1]


def grow(
    X: NDArray[np.float64],
    y: NDArray[np.int64],
    weight: NDArray[np.float64],
    names: Sequence[str],
    parameters: Mapping[str, object],
    *,
    n_rounds: int,
) -> Trees:
    """Boost trees; the same rows and parameters give the same trees."""
    lightgbm = _lightgbm()
    plain = [name.replace(".", "_") for name in names]  # LightGBM's text format allows no dots
    data = lightgbm.Dataset(X, y, weight=weight, feature_name=plain, free_raw_data=False)
    return Trees.of(lightgbm.train(dict(parameters), data, num_boost_round=n_rounds))


def _lightgbm() -> Any:
    """LightGBM without its optional companions; whoever imported it (or them) before keeps what is there."""
    if "lightgbm" in sys.modules:
        return sys.modules["lightgbm"]
    hidden = [name for name in _UNNEEDED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None makes an import fail at once
    try:
        return importlib.import_module("lightgbm")
    finally:
        for name in hidden:
            del sys.modules[name]
