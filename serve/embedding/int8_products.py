"""Int8 products: exact inner products of int8 vectors with rows that stay, on one thread. The only numkong import."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numkong
import numpy as np
from numpy.typing import NDArray

_BLOCK_ROWS = 128  # vectors whose products with some thousand rows stay in a processor's cache
_GROUP = 16
_PLACE_BITS = 32
_MIN_FLOATS = 32  # vectors from which turning them into floats pays

_EIGHT_BIT = ("icelake", "alder", "sierra", "genoa", "turin", "sapphire", "diamond", "neonsdot", "svesdot")
FLOATS_PAY = os.environ.get("OPENBLAS_NUM_THREADS") == "1" and not any(
    numkong.get_capabilities().get(name, False) for name in _EIGHT_BIT
)
"""Whether this processor multiplies floats faster than bytes (it has neither VNNI nor SDOT), in a process whose BLAS is
held to one thread, as a batch worker's is: more threads wait for each other longer than they calculate."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """Of each vector, the rows with the highest products: `products` and `ids`, shape (n_vectors, k), best first."""

    products: NDArray[np.int32]
    ids: NDArray[np.int64]


@dataclass(frozen=True)
class Products:
    """Rows (n_rows, n_dims) of int8, n_dims at most 1,024, laid out once for products with many vectors.

    A processor's eight-bit instructions are used, or float32 where that is faster: at most 1,024 products of bytes add
    up to whole numbers that float32 holds exactly, so both give the same.
    """

    rows: NDArray[np.int8]
    uses_floats: bool = FLOATS_PAY
    _packed: numkong.PackedMatrix = field(init=False, repr=False, compare=False)
    _floats: NDArray[np.float32] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rows = np.ascontiguousarray(self.rows)
        object.__setattr__(self, "_packed", numkong.dots_pack(rows, dtype="int8"))
        floats = np.ascontiguousarray(rows.T.astype(np.float32)) if self.uses_floats else None
        object.__setattr__(self, "_floats", floats)

    def of(self, vectors: NDArray[np.int8]) -> NDArray[np.int32]:
        """Products of vectors (n_vectors, n_dims) with all rows, shape (n_vectors, n_rows)."""
        return self._whole_numbers(vectors).astype(np.int32, copy=False)

    def _whole_numbers(self, vectors: NDArray[np.int8]) -> NDArray[np.int32] | NDArray[np.float32]:
        """What `of` gives, in the type that it is calculated in."""
        if not len(vectors):
            return np.zeros((0, len(self.rows)), np.int32)
        if self._floats is not None and len(vectors) >= _MIN_FLOATS:
            return np.asarray(vectors.astype(np.float32) @ self._floats)
        return np.asarray(numkong.dots_packed(np.ascontiguousarray(vectors), self._packed))

    def nearest(self, vectors: NDArray[np.int8], k: int) -> Nearest:
        """The k rows (fewer where there are fewer) with the highest products; of equals, the first rows."""
        k = min(k, len(self.rows))
        found = Nearest(np.empty((len(vectors), k), np.int32), np.empty((len(vectors), k), np.int64))
        for start in range(0, len(vectors), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            found.products[part], found.ids[part] = _best(self._whole_numbers(vectors[part]), k)
        return found


def _best(products: NDArray[np.int32] | NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The k highest whole numbers of each row and where they are, best first, the first of equals before the others."""
    row, column = np.divmod(np.flatnonzero(products >= _bound(products, k)[:, None]), products.shape[1])
    place = np.arange(len(row)) - np.searchsorted(row, np.arange(len(products)))[row]
    kept = np.full((len(products), int(place.max()) + 1), np.iinfo(np.int64).max)
    kept[row, place] = -products[row, column].astype(np.int64) << _PLACE_BITS | column  # sorts by both
    kept.sort(axis=1)
    return -(kept[:, :k] >> _PLACE_BITS), kept[:, :k] & (1 << _PLACE_BITS) - 1


def _bound(products: NDArray[np.int32] | NDArray[np.float32], k: int) -> NDArray[np.int32] | NDArray[np.float32]:
    """A value of each row that at least k of the row, and few more, reach: the k-th highest of maxima of groups."""
    n_rows, n = products.shape
    n_groups = max(k, n // _GROUP)
    grouped = products[:, : n // n_groups * n_groups].reshape(n_rows, -1, n_groups)
    return np.asarray(np.partition(grouped.max(axis=1), n_groups - k, axis=1)[:, n_groups - k])
