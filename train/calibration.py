"""Calibration error: how far scores lie from the frequencies that they claim."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def expected_calibration_error(score: NDArray[np.float64], y: NDArray[np.int64], n_bins: int = 10) -> float:
    """Mean gap between score and frequency over bins of equal width, weighted by size (Naeini et al. 2015)."""
    bins = np.minimum((score * n_bins).astype(np.int64), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    gaps = np.abs(np.bincount(bins, weights=score, minlength=n_bins) - np.bincount(bins, weights=y, minlength=n_bins))
    return float(gaps.sum() / max(counts.sum(), 1))
