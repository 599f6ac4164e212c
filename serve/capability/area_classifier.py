"""Area classifier: what examples of an area have in common, as one direction an area in the space of vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

_SHRINKAGE = 0.4  # share of the covariance that is taken to be the same in every direction
_MAX_WEIGHT = 127
_BLOCK_ROWS = 64  # few enough that BLAS wakes no other threads, for which a small request would wait
_LEAST_VARIANCE = 1e-6  # of int8 vectors; only where no area has two different examples


@dataclass(frozen=True)
class AreaClassifier:
    """Log-odds of area a are `scale * (vector @ weights[a]) + offsets[a]`.

    `weights` (n_areas, n_dims) are int8, so that the product with an int8 vector is an exact integer.
    """

    weights: NDArray[np.int8]
    offsets: NDArray[np.float64]
    scale: float

    @classmethod
    def fit(cls, vectors: NDArray[np.int8], owners: NDArray[np.int16], n_areas: int) -> Self:
        """Fit to examples (n, n_dims) and the area of each, every area as likely as any other.

        Linear discriminant analysis with a covariance shrunk towards a sphere (Fisher 1936; Friedman 1989).
        """
        rows = vectors.astype(np.float64)
        counts = np.bincount(owners, minlength=n_areas)
        means = np.zeros((n_areas, rows.shape[1]))
        np.add.at(means, owners, rows)
        means /= np.maximum(counts, 1)[:, None]
        spread = rows - means[owners]
        covariance = spread.T @ spread / len(rows)
        sphere = max(float(np.trace(covariance)) / len(covariance), _LEAST_VARIANCE)
        directions = np.linalg.solve(
            (1.0 - _SHRINKAGE) * covariance + _SHRINKAGE * sphere * np.eye(len(covariance)), means.T
        ).T
        directions -= directions.mean(axis=0)  # what all areas share decides nothing
        scale = float(np.abs(directions).max()) / _MAX_WEIGHT or 1.0
        weights = np.rint(directions / scale).astype(np.int8)
        offsets = -0.5 * scale * np.einsum("ij,ij->i", means, weights.astype(np.float64))
        return cls(weights, offsets, scale)

    def check(self, shape: tuple[int, int]) -> None:
        """Refuse weights that aren't (n_areas, n_dims) or offsets that aren't numbers.

        Raises:
            ValueError: naming which.
        """
        if self.weights.shape != shape or self.weights.dtype != np.int8:
            raise ValueError(f"area weights are {self.weights.dtype} {self.weights.shape}, expected int8 {shape}")
        if self.offsets.shape != shape[:1]:
            raise ValueError(f"area offsets have shape {self.offsets.shape}, expected {shape[:1]}")
        for area in np.flatnonzero(~np.isfinite(self.offsets * self.scale)).tolist():
            raise ValueError(f"the offset or scale of area {area} is {self.offsets[area] * self.scale}")

    def log_odds(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-odds (n, n_areas), up to a constant a row, of int8 vectors given as floats (n, n_dims)."""
        weights = self.weights.T.astype(np.float32)
        products = np.empty((len(vectors), len(self.weights)))
        for start in range(0, len(vectors), _BLOCK_ROWS):
            products[start : start + _BLOCK_ROWS] = vectors[start : start + _BLOCK_ROWS] @ weights
        return products * self.scale + self.offsets
