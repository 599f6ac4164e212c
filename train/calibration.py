"""Calibrate: margins of benign people kept aside become conformal p-values; margins left out become a score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from serve.calibration import SIZE_EDGES, Calibration, size_class


def calibrate(
    margins: NDArray[np.float64], y: NDArray[np.int64], benign_margins: NDArray[np.float64], benign_n: NDArray[np.int64]
) -> Calibration:
    """A calibration from margins of campaigns left out (`y` 1 for harvesting), each label with the same weight, and
    margins and sizes of benign sessions of people that were never learned from (Platt 1999 for the score)."""
    platt = LogisticRegression(C=1e6, class_weight="balanced").fit(margins[:, None], y)
    slope = max(float(platt.coef_[0, 0]), 1e-3)
    classes = size_class(benign_n)
    parts = [np.sort(benign_margins[classes == index]) for index in range(len(SIZE_EDGES))]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return Calibration(slope, float(platt.intercept_[0]), np.concatenate(parts), offsets)


def benign_quantiles(X: NDArray[np.float64], n_exchanges: NDArray[np.int64]) -> NDArray[np.float64]:
    """5 % and 95 % quantiles of each feature over benign sessions of each size class, (n_classes, n_features, 2)."""
    classes = size_class(n_exchanges)
    found = []
    for index in range(len(SIZE_EDGES)):
        own = X[classes == index]
        found.append(np.quantile(own if len(own) >= 20 else X, (0.05, 0.95), axis=0).T)
    return np.stack(found)


def expected_calibration_error(score: NDArray[np.float64], y: NDArray[np.int64], n_bins: int = 10) -> float:
    """Mean gap between score and frequency over bins of equal width, weighted by size (Naeini et al. 2015)."""
    bins = np.minimum((score * n_bins).astype(np.int64), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    gaps = np.abs(np.bincount(bins, weights=score, minlength=n_bins) - np.bincount(bins, weights=y, minlength=n_bins))
    return float(gaps.sum() / max(counts.sum(), 1))
