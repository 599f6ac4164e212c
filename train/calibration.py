"""Calibrate: margins of benign people kept aside become conformal p-values; margins left out become a score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from serve.calibration import Calibration


def calibrate(
    margins: NDArray[np.float64], y: NDArray[np.int64], benign_margins: NDArray[np.float64], benign_n: NDArray[np.int64]
) -> Calibration:
    """A calibration from margins of campaigns left out (`y` 1 for harvesting), each label with the same weight, and
    margins and sizes of benign sessions of people that were never learned from (Platt 1999 for the score)."""
    platt = LogisticRegression(C=1e6, class_weight="balanced").fit(margins[:, None], y)
    slope = max(float(platt.coef_[0, 0]), 1e-3)
    return Calibration.of_margins(slope, float(platt.intercept_[0]), benign_margins, benign_n)


def expected_calibration_error(score: NDArray[np.float64], y: NDArray[np.int64], n_bins: int = 10) -> float:
    """Mean gap between score and frequency over bins of equal width, weighted by size (Naeini et al. 2015)."""
    bins = np.minimum((score * n_bins).astype(np.int64), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    gaps = np.abs(np.bincount(bins, weights=score, minlength=n_bins) - np.bincount(bins, weights=y, minlength=n_bins))
    return float(gaps.sum() / max(counts.sum(), 1))
