"""Size classes: sessions are compared only with sessions of about as many exchanges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZE_EDGES = (1, 3, 5, 8, 13, 20, 35, 70, 150)
"""Smallest number of exchanges of each size class."""


ACCOUNT_EDGES = (1, 10, 30, 100, 300)
"""Smallest number of exchanges of each size class of accounts."""


def size_class(n_exchanges: NDArray[np.int64], edges: tuple[int, ...] = SIZE_EDGES) -> NDArray[np.int64]:
    """Index of the size class of each session (or account, with their edges)."""
    return np.asarray(np.searchsorted(edges, n_exchanges, side="right") - 1)
