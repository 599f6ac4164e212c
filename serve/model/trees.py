"""Trees: the trees that give a session's log-odds. The only lightgbm import of the judging side."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from lightgbm import Booster
    from numpy.typing import NDArray

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


def grow(
    X: NDArray[np.float64],
    y: NDArray[np.int64],
    weight: NDArray[np.float64],
    names: Sequence[str],
    parameters: Mapping[str, object],
    *,
    n_rounds: int,
) -> Booster:
    """Boost trees; the same rows and parameters give the same trees."""
    lightgbm = _lightgbm()
    plain = [name.replace(".", "_") for name in names]  # LightGBM's text format allows no dots
    data = lightgbm.Dataset(X, y, weight=weight, feature_name=plain, free_raw_data=False)
    booster: Booster = lightgbm.train(dict(parameters), data, num_boost_round=n_rounds)
    return booster


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
