"""Row sums: the sum of some rows of a table for each text, as a sparse product where there are many texts."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)

_FEW = 1024
"""Texts for which importing scipy takes longer than it saves."""


def row_sums(table: NDArray[T], rows: NDArray[np.int32], bounds: NDArray[np.int64]) -> NDArray[T]:
    """The sum of `table[rows[bounds[i]:bounds[i + 1]]]` for each i, shape (n_sums, n_columns), in the table's type.

    The same in any order of summation only where the table holds whole numbers whose sums its type holds exactly.
    """
    n_sums = len(bounds) - 1
    if n_sums > _FEW:
        return _by_product(table, rows, bounds)
    found = np.empty((n_sums, table.shape[1]), table.dtype)
    edges = bounds.tolist()
    for place in range(n_sums):
        table[rows[edges[place] : edges[place + 1]]].sum(axis=0, dtype=table.dtype, out=found[place])
    return found


def _by_product(table: NDArray[Any], rows: NDArray[np.int32], bounds: NDArray[np.int64]) -> NDArray[Any]:
    import scipy.sparse

    once = np.ones(len(rows), table.dtype)
    counts = scipy.sparse.csr_array((once, rows, bounds.astype(np.int32)), shape=(len(bounds) - 1, len(table)))
    return np.asarray(counts @ table)
