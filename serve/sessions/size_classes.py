"""Size classes: sessions are compared only with sessions of about as many exchanges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZE_EDGES = (1, 3, 5, 8, 13, 20, 35, 70)
"""Smallest number of exchanges of each size class."""


def size_class(n_exchanges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the size class of each session."""
    return np.asarray(np.searchsorted(SIZE_EDGES, n_exchanges, side="right") - 1)
