"""Calibration: margins of benign people kept aside become p-values, and with those of campaigns left out a score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serve.model.calibration import Calibration
from serve.model.refitting import score_map


def calibrate(
    harvest_margins: NDArray[np.float64], benign_margins: NDArray[np.float64], benign_n: NDArray[np.int64]
) -> Calibration:
    """A calibration from margins of campaigns left out, and margins and sizes of benign sessions of people that were
    never learned from; both labels weigh the same in the score (Platt 1999)."""
    slope, intercept = score_map(harvest_margins, benign_margins)
    return Calibration.of_margins(slope, intercept, benign_margins, benign_n)


def expected_calibration_error(score: NDArray[np.float64], y: NDArray[np.int64], n_bins: int = 10) -> float:
    """Mean gap between score and frequency over bins of equal width, weighted by size (Naeini et al. 2015)."""
    bins = np.minimum((score * n_bins).astype(np.int64), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    gaps = np.abs(np.bincount(bins, weights=score, minlength=n_bins) - np.bincount(bins, weights=y, minlength=n_bins))
    return float(gaps.sum() / max(counts.sum(), 1))
