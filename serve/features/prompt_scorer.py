"""Prompt scorer: how much each single prompt looks like harvest, a person or a product, before any session is seen.

A prompt's inputs are its int8 vector, its kernel similarities to the map's cells, its class of length and how often it
uses the commonest words: all small integers, and the weights are integers too. So evidence is exact and doesn't depend
on the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from serve.features.word_frequencies import LENGTH_EDGES, word_levels

HEADS = ("harvest", "person", "product")
"""What evidence is measured for; each head is high where a prompt looks like that kind."""

KERNEL_WIDTH = 0.25
N_LENGTHS = len(LENGTH_EDGES) + 1
LEVELS = 127
"""Largest value of a kernel similarity."""

_STEPS = 1024
_BLOCK_ROWS = 128
_KERNEL = np.rint(LEVELS * np.exp((np.arange(_STEPS + 1) / _STEPS - 1.0) / KERNEL_WIDTH)).astype(np.float32)


@dataclass(frozen=True)
class EvidenceInputs:
    """Inputs of the heads for some prompts: `vectors` (n, n_dims), `kernel` (n, n_cells) in 0-127, `length` (n,) the
    class of length, `words` (n, n_words) sparse levels."""

    vectors: NDArray[np.int8]
    kernel: NDArray[np.float32]
    length: NDArray[np.int64]
    words: scipy.sparse.csr_array

    @classmethod
    def of(
        cls,
        vectors: NDArray[np.int8],
        cell_cosines: NDArray[np.float32],
        texts: Sequence[str],
        vocabulary: Sequence[str],
    ) -> EvidenceInputs:
        """Inputs from vectors, their cosines to the cells, and the canonical texts."""
        kernel = np.empty(cell_cosines.shape, np.float32)
        for rows in _blocks(len(kernel)):
            step = (cell_cosines[rows] * _STEPS).astype(np.int32)
            np.take(_KERNEL, step, mode="clip", out=kernel[rows])
        levels, length = word_levels(texts, vocabulary)
        return cls(vectors, kernel, length, levels)

    def rows(self, chosen: NDArray[np.bool_]) -> EvidenceInputs:
        """The inputs of the prompts that are chosen."""
        return EvidenceInputs(self.vectors[chosen], self.kernel[chosen], self.length[chosen], self.words[chosen])


@dataclass(frozen=True)
class Evidence:
    """Integer weights (n_dims + n_cells + N_LENGTHS + n_words, n_heads), and a scale and an intercept a head.

    Raises:
        ValueError: when shapes don't fit.
    """

    vocabulary: tuple[str, ...]
    weights: NDArray[np.int32]
    scales: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    _floats: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.weights.ndim != 2 or self.weights.shape[1] != len(HEADS):
            raise ValueError(f"evidence weights have shape {self.weights.shape}, expected (n_inputs, {len(HEADS)})")
        if self.scales.shape != (len(HEADS),) or self.intercepts.shape != (len(HEADS),):
            raise ValueError(f"evidence scales or intercepts are not of shape ({len(HEADS)},)")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError("evidence vocabulary names a word twice")
        object.__setattr__(self, "_floats", self.weights.astype(np.float64))

    def of(self, inputs: EvidenceInputs) -> NDArray[np.float64]:
        """Evidence of each prompt, shape (n_prompts, n_heads); 0 is even, positive speaks for the head.

        Raises:
            ValueError: when the inputs aren't as many as the weights.
        """
        n_dims, n_cells = inputs.vectors.shape[1], inputs.kernel.shape[1]
        bounds = np.cumsum([n_dims, n_cells, N_LENGTHS, len(self.vocabulary)])
        if bounds[-1] != len(self.weights):
            raise ValueError(f"evidence has {len(self.weights)} weights a head, expected {bounds[-1]} for these inputs")
        of_vector, of_kernel, of_length, of_word = np.split(self._floats, bounds[:-1])
        sums = np.empty((len(inputs.vectors), len(HEADS)))
        for rows in _blocks(len(sums)):
            sums[rows] = inputs.vectors[rows].astype(np.float64) @ of_vector
            sums[rows] += inputs.kernel[rows].astype(np.float64) @ of_kernel
        sums += of_length[inputs.length] + inputs.words @ of_word
        return np.asarray(sums * self.scales + self.intercepts)


def _blocks(n: int) -> Iterator[slice]:
    """Runs of rows that stay in a processor's cache while they are worked on, and for which BLAS wakes no threads."""
    return (slice(start, start + _BLOCK_ROWS) for start in range(0, n, _BLOCK_ROWS))
