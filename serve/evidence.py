"""Evidence: how much each single prompt looks like harvest, a person or a product, before any session is seen.

A prompt's inputs are its int8 vector and its kernel similarities to the map's cells, both small integers; the weights
are integers too. So evidence is exact and doesn't depend on the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEADS = ("harvest", "person", "product")
"""What evidence is measured for; each head is high where a prompt looks like that kind."""

KERNEL_WIDTH = 0.25
_LEVELS = 127


@dataclass(frozen=True)
class Evidence:
    """Integer weights (n_inputs, n_heads), a scale and an intercept a head.

    Raises:
        ValueError: when shapes don't fit.
    """

    weights: NDArray[np.int32]
    scales: NDArray[np.float64]
    intercepts: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.weights.ndim != 2 or self.weights.shape[1] != len(HEADS):
            raise ValueError(f"evidence weights have shape {self.weights.shape}, expected (n_inputs, {len(HEADS)})")
        if self.scales.shape != (len(HEADS),) or self.intercepts.shape != (len(HEADS),):
            raise ValueError(f"evidence scales or intercepts are not of shape ({len(HEADS)},)")

    def of(self, vectors: NDArray[np.int8], cell_cosines: NDArray[np.float32]) -> NDArray[np.float64]:
        """Evidence of each prompt, shape (n_prompts, n_heads); 0 is even, positive speaks for the head."""
        sums = evidence_inputs(vectors, cell_cosines).astype(np.float64) @ self.weights.astype(np.float64)
        return np.asarray(sums * self.scales + self.intercepts)


def evidence_inputs(vectors: NDArray[np.int8], cell_cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inputs of the heads: the vector, and a Gaussian-like kernel exp((cosine - 1) / width) to each cell, in 127ths."""
    kernel = _KERNEL[np.clip(cell_cosines * _STEPS, 0, _STEPS).astype(np.int32)]
    return np.concatenate([vectors.astype(np.float32), kernel], axis=1)


_STEPS = 1024
_KERNEL = np.rint(_LEVELS * np.exp((np.arange(_STEPS + 1) / _STEPS - 1.0) / KERNEL_WIDTH)).astype(np.float32)
