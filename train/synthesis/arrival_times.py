"""Arrival times: when exchanges arrive, from one generator for all kinds, so that a clock never gives a label away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow.csv
from numpy.typing import NDArray

# Quantiles (0, 10, ... 100 %) of log seconds between one account's exchanges when no trace is given: evenly spread from
# 2 s to just below the inactivity gap that ends a session.
_DEFAULT = np.linspace(np.log(2.0), np.log(1500.0), 11)
_MAX_GAP = 1700.0
_ACCOUNTS = 400  # a trace of a whole service is thinned to the pace of one account by this factor


@dataclass(frozen=True)
class Timing:
    """Quantiles of log seconds between consecutive exchanges of one account."""

    log_gaps: NDArray[np.float64]

    @classmethod
    def default(cls) -> Self:
        """The built-in pace."""
        return cls(_DEFAULT)

    @classmethod
    def of_traces(cls, folder: Path) -> Self:
        """The pace in the arrival traces (CSV with a TIMESTAMP column) of `folder`; the default where it has none."""
        gaps = [_gaps(path) for path in sorted(folder.glob("*.csv"))]
        if not gaps:
            return cls.default()
        seconds = np.clip(np.concatenate(gaps) * _ACCOUNTS, 0.5, _MAX_GAP)
        return cls(np.quantile(np.log(seconds), np.linspace(0, 1, 101)))

    def arrivals(self, offsets: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Seconds since 1970 of every exchange, increasing within a session; all start within one month of 2026."""
        n = int(offsets[-1])
        draws = np.interp(rng.random(n), np.linspace(0, 1, len(self.log_gaps)), self.log_gaps)
        gaps = np.exp(draws)
        gaps[offsets[:-1]] = 0.0
        total = np.cumsum(gaps)
        starts = 1_767_225_600.0 + np.floor(rng.random(len(offsets) - 1) * 30 * 86_400)
        sizes = np.diff(offsets)
        return np.asarray(np.round(np.repeat(starts - total[offsets[:-1]], sizes) + total, 3))


def _gaps(path: Path) -> NDArray[np.float64]:
    stamps = pyarrow.csv.read_csv(path)["TIMESTAMP"].combine_chunks().cast("timestamp[ns]").cast("int64")
    return np.diff(np.sort(stamps.to_numpy())) / 1e9
