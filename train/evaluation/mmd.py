"""Benign-calibrated maximum mean discrepancy: how far a session's prompts lie from benign ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from train.evaluation.session_blocks import Numbers, Traffic, Vectors, measure, require, sample, squared_distances

CALIBRATION_SIZES = (1, 2, 5, 10, 25, 50, 100, 200)


def rbf_mixture(squared: Vectors, bandwidth: float) -> Vectors:
    """Mean of five kernels exp(-d² / 2s²), s = bandwidth times (¼, ½, 1, 2, 4), from squared distances, any shape.

    Halving s raises the kernel to its fourth power: one exponential and two squarings a step.
    """
    power: Vectors = np.exp(squared * np.float32(-1 / (2 * (4 * bandwidth) ** 2)))
    total = power.copy()
    for _ in range(4):
        power *= power
        power *= power
        total += power
    total /= 5
    return total


@dataclass(frozen=True, slots=True)
class Reference:
    """Benign prompts that sessions are compared with, under one kernel."""

    vectors: Vectors  # (n_prompts, n_dims)
    bandwidth: float  # median distance between two of them
    within: float  # mean kernel of two different ones

    @classmethod
    def of(cls, vectors: Vectors) -> Self:
        """Reference with the median heuristic's bandwidth (1 where more than half of all pairs coincide)."""
        squared = squared_distances(vectors[None])[0]
        between = squared[np.triu_indices(len(vectors), k=1)]
        bandwidth = float(np.sqrt(np.median(between))) if between.size else 0.0
        bandwidth = bandwidth or 1.0
        return cls(vectors, bandwidth, float(rbf_mixture(between, bandwidth).mean()) if between.size else 0.0)

    def mmd_squared(self, vectors: Vectors) -> Numbers:
        """Unbiased MMD² of each session (b, n, d) to this reference, shape (b,).

        mean_{i≠j} k(x_i, x_j) + mean_{i≠j} k(y_i, y_j) - 2 mean_{i,j} k(x_i, y_j) (Gretton et al. 2012, eq. 3).
        One prompt has no pair: its first term is 0, a constant that calibration at size 1 takes away.
        """
        n_sessions, n_prompts, n_dims = vectors.shape
        kernel = rbf_mixture(squared_distances(vectors), self.bandwidth)
        n_pairs = max(1, n_prompts * (n_prompts - 1))
        own = (kernel.sum(axis=(1, 2), dtype=np.float64) - n_prompts) / n_pairs
        cross = self._mean_kernel(vectors.reshape(-1, n_dims)).reshape(n_sessions, n_prompts).mean(axis=1)
        return np.asarray(own + self.within - 2 * cross, dtype=np.float64)

    def _mean_kernel(self, rows: Vectors) -> Numbers:
        squared = rows @ self.vectors.T
        squared *= -2
        squared += np.einsum("ij,ij->i", rows, rows)[:, None]
        squared += np.einsum("ij,ij->i", self.vectors, self.vectors)
        np.maximum(squared, 0, out=squared)
        means: Numbers = rbf_mixture(squared, self.bandwidth).mean(axis=1, dtype=np.float64)
        return means


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a statistic is on benign sessions of several sizes."""

    log_sizes: Numbers  # (n_sizes,) rising
    means: Numbers
    deviations: Numbers

    @classmethod
    def of(cls, organic: Traffic, statistic: Callable[[Vectors], Numbers]) -> Self:
        """Mean and standard deviation over the heads of organic sessions, at each size enough of them reach."""
        needed = min(30, max(1, len(organic.lengths) // 2))
        sizes = [size for size in CALIBRATION_SIZES if (organic.lengths >= size).sum() >= needed]
        values = [measure(organic.heads(size), statistic) for size in sizes]
        deviations = np.array([max(float(value.std()), 1e-6) for value in values])
        return cls(np.log(sizes), np.array([value.mean() for value in values]), deviations)

    def standardise(self, values: Numbers, lengths: NDArray[np.int64]) -> Numbers:
        """z-scores at each session's size, interpolated in log n; beyond the largest size, as there."""
        position = np.log(np.maximum(lengths, 1))
        means = np.interp(position, self.log_sizes, self.means)
        return np.asarray((values - means) / np.interp(position, self.log_sizes, self.deviations), dtype=np.float64)


@dataclass(slots=True, eq=False)
class BenignMMD:
    """Benign-calibrated maximum mean discrepancy (Liu, Guo & Dong 2026, arXiv 2606.05725).

    Unbiased MMD² of the session to a sample of organic prompts under a median-heuristic multi-bandwidth RBF kernel;
    the score is its z-score among organic sessions of like size, none of which lent a prompt to the sample.
    """

    name: str = "mmd"
    n_reference: int = 1000
    n_calibration: int = 256
    reference: Reference = field(init=False)
    calibration: Calibration = field(init=False)

    def fit(self, organic: Traffic, harvesting: Traffic, *, seed: int) -> Self:
        """One half of the organic sessions is the reference, the other the calibration."""
        require(organic, "organic", n_sessions=2)
        rng = np.random.default_rng(seed)
        order = rng.permutation(np.flatnonzero(organic.lengths > 0))
        half = len(order) // 2
        self.reference = Reference.of(sample(organic.pick(order[:half]), n_prompts=self.n_reference, rng=rng))
        benign = organic.pick(order[half:][: self.n_calibration])
        self.calibration = Calibration.of(benign, self.reference.mmd_squared)
        return self

    def score(self, traffic: Traffic) -> Numbers:
        """Benign standard deviations above the benign mean of MMD², any real number."""
        scores = self.calibration.standardise(measure(traffic, self.reference.mmd_squared), traffic.lengths)
        return np.where(traffic.lengths > 0, scores, 0.0)
