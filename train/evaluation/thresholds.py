"""Thresholds: the score that a chosen share of organic sessions lies above."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def fpr_limits(organic: NDArray[np.float64], fprs: ArrayLike) -> NDArray[np.float64]:
    """The score that at most each share of `fprs` (0 to below 1) of `organic` (n,), at least one, lies above."""
    ordered = np.sort(organic)
    n_allowed = np.floor(np.asarray(fprs) * len(ordered)).astype(np.int64)
    return np.asarray(ordered[len(ordered) - 1 - n_allowed])


def fpr_limit(organic: NDArray[np.float64], fpr: float) -> float:
    """The score that at most a share `fpr` of `organic` lies above; see `fpr_limits`."""
    return float(fpr_limits(organic, fpr))
