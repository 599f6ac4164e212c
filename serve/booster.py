"""Booster: the trees that give a session's log-odds. The only lightgbm import of the judging side."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lightgbm import Booster

# LightGBM imports these for training wrappers where they are installed: seconds that judging never needs.
_UNNEEDED = ("sklearn", "pandas", "dask", "matplotlib", "graphviz")


def read_booster(text: str) -> Booster:
    """Trees from LightGBM's text format.

    Raises:
        ValueError: when the text is no such model.
    """
    lightgbm = _lightgbm()
    try:
        booster: Booster = lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as fault:
        raise ValueError(f"the classifier can't be read ({fault})") from fault
    return booster


def refitted(booster: Booster, X: NDArray[np.float64], y: NDArray[np.int64], weight: NDArray[np.float64]) -> Booster:
    """Trees grown anew on other rows, with the parameters, number and feature names that `booster` has.

    The same rows make the same trees.
    """
    lightgbm = _lightgbm()
    parameters = {**booster.params, "num_iterations": booster.current_iteration(), "verbosity": -1}
    parameters |= {"deterministic": True, "force_row_wise": True, "force_col_wise": False}
    data = lightgbm.Dataset(X, y, weight=weight, feature_name=booster.feature_name(), params={"verbosity": -1})
    found: Booster = lightgbm.train(parameters, data)
    return found


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
