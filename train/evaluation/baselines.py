"""Baselines: published detectors, each from its paper, all seeing only the prompts' vectors.

Every one of them is a number for a block of sessions of equal length, so a block costs a few matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import shapiro
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

Vectors = NDArray[np.float32]
Numbers = NDArray[np.float64]

BLOCK_PROMPTS = 1024
SAME_POINT = 1e-6  # squared distance below which float32 cannot tell two unit vectors apart
CALIBRATION_SIZES = (1, 2, 5, 10, 25, 50, 100, 200)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Many sessions as columns."""

    vectors: Vectors  # (n_prompts, n_dims) unit rows in order of arrival; a zero row for text without known tokens
    offsets: NDArray[np.int64]  # (n_sessions + 1,); session i owns rows offsets[i]:offsets[i + 1]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Prompts in each session, shape (n_sessions,)."""
        return np.diff(self.offsets)

    def pick(self, sessions: NDArray[np.int64]) -> Traffic:
        """These sessions only, in this order."""
        lengths = self.lengths[sessions]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[sessions] - offsets[:-1], lengths)
        return Traffic(self.vectors[rows], offsets)

    def heads(self, size: int) -> Traffic:
        """The first `size` prompts of every session that has as many."""
        starts = self.offsets[:-1][self.lengths >= size]
        rows = (starts[:, None] + np.arange(size)).ravel()
        return Traffic(self.vectors[rows], np.arange(len(starts) + 1, dtype=np.int64) * size)

    def blocks(self) -> Iterator[Block]:
        """Sessions of equal length together, about `BLOCK_PROMPTS` prompts at a time; empty sessions are left out."""
        lengths = self.lengths
        for length in np.unique(lengths[lengths > 0]):
            sessions = np.flatnonzero(lengths == length)
            step = max(1, BLOCK_PROMPTS // int(length))
            for start in range(0, len(sessions), step):
                part = sessions[start : start + step]
                yield Block(part, self.vectors[self.offsets[part][:, None] + np.arange(length)])


@dataclass(frozen=True, slots=True)
class Block:
    """Sessions of equal length."""

    sessions: NDArray[np.int64]  # (n_sessions,) their positions in the traffic
    vectors: Vectors  # (n_sessions, n_prompts, n_dims)


class Baseline(Protocol):
    """A detector that learns from labelled traffic; a high score is indicative of harvesting."""

    name: str

    def fit(self, organic: Traffic, harvesting: Traffic, *, seed: int) -> Self:
        """Learn from both sides; one-class detectors ignore `harvesting`.

        Raises:
            ValueError: when there are too few sessions to learn from.
        """
        ...

    def score(self, traffic: Traffic) -> Numbers:
        """One finite score a session, shape (n_sessions,), high = harvesting; a session without prompts gets 0."""
        ...


def measure(traffic: Traffic, statistic: Callable[[Vectors], Numbers]) -> Numbers:
    """Values of a statistic of (n_sessions, n_prompts, n_dims) blocks for every session; 0 for empty sessions."""
    values = np.zeros(len(traffic.lengths))
    for block in traffic.blocks():
        values[block.sessions] = statistic(block.vectors)
    return values


def session_means(traffic: Traffic) -> Numbers:
    """Mean vector of each session, shape (n_sessions, n_dims); zeros for an empty one."""
    means = np.zeros((len(traffic.lengths), traffic.vectors.shape[1]))
    for block in traffic.blocks():
        means[block.sessions] = block.vectors.mean(axis=1, dtype=np.float64)
    return means


def squared_distances(vectors: Vectors) -> Vectors:
    """Squared Euclidean distances within each session, (b, n, d) → (b, n, n); exactly 0 between equal vectors."""
    products = vectors @ vectors.transpose(0, 2, 1)
    norms = np.einsum("bii->bi", products)
    squared: Vectors = norms[:, :, None] + norms[:, None, :] - 2 * products
    squared[squared < SAME_POINT] = 0
    return squared


def _pairs(vectors: Vectors) -> Vectors:
    """Distances of all pairs i < j within each session, (b, n, d) → (b, n (n - 1) / 2)."""
    rows, columns = np.triu_indices(vectors.shape[1], k=1)
    return np.sqrt(squared_distances(vectors)[:, rows, columns])


def _require(traffic: Traffic, side: str, *, n_sessions: int) -> None:
    found = int((traffic.lengths > 0).sum())
    if found < n_sessions:
        raise ValueError(f"{side} traffic has {found} sessions with prompts, expected {n_sessions} or more")


def _sample(traffic: Traffic, *, n_prompts: int, rng: np.random.Generator) -> Vectors:
    n_available = len(traffic.vectors)
    rows = rng.choice(n_available, size=min(n_prompts, n_available), replace=False)
    return traffic.vectors[np.sort(rows)]


def _sample_sessions(traffic: Traffic, *, n_sessions: int, rng: np.random.Generator) -> Traffic:
    filled = np.flatnonzero(traffic.lengths > 0)
    return traffic.pick(rng.permutation(filled)[:n_sessions])


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
        _require(organic, "organic", n_sessions=2)
        rng = np.random.default_rng(seed)
        order = rng.permutation(np.flatnonzero(organic.lengths > 0))
        half = len(order) // 2
        self.reference = Reference.of(_sample(organic.pick(order[:half]), n_prompts=self.n_reference, rng=rng))
        benign = organic.pick(order[half:][: self.n_calibration])
        self.calibration = Calibration.of(benign, self.reference.mmd_squared)
        return self

    def score(self, traffic: Traffic) -> Numbers:
        """Benign standard deviations above the benign mean of MMD², any real number."""
        scores = self.calibration.standardise(measure(traffic, self.reference.mmd_squared), traffic.lengths)
        return np.where(traffic.lengths > 0, scores, 0.0)


def growing_set_distances(vectors: Vectors) -> Numbers:
    """PRADA's distances of each prompt but the first to the nearest in its growing set, (b, n, d) → (b, n - 1).

    A prompt joins the set when its distance exceeds T; then T = max(T, mean(D) - std(D)) over the distances D with
    which members joined, the first with 0 (Juuti et al. 2019, algorithm 1, and the authors' code).
    """
    distances = np.sqrt(squared_distances(vectors)).astype(np.float64)
    n_sessions, n_prompts, _ = distances.shape
    member = np.zeros((n_sessions, n_prompts), dtype=bool)
    member[:, 0] = True
    joined, threshold = np.zeros((n_sessions, n_prompts)), np.zeros(n_sessions)
    nearest = np.zeros((n_sessions, n_prompts - 1))
    for i in range(1, n_prompts):
        nearest[:, i - 1] = np.where(member[:, :i], distances[:, i, :i], np.inf).min(axis=1)
        member[:, i] = nearest[:, i - 1] > threshold
        joined[:, i] = np.where(member[:, i], nearest[:, i - 1], 0)
        n_members = member.sum(axis=1)
        mean = joined.sum(axis=1) / n_members
        variance = np.maximum(np.square(joined).sum(axis=1) / n_members - mean**2, 0)
        threshold = np.where(member[:, i], np.maximum(threshold, mean - np.sqrt(variance)), threshold)
    return nearest


def non_normality(distances: Numbers) -> float:
    """1 - W of Shapiro and Wilk, in [0, 1), after dropping what lies 3 standard deviations or more off the mean.

    0 where nothing can be tested: fewer than 3 distances left, or no spread.
    """
    if len(distances) < 3 or np.ptp(distances) == 0:
        return 0.0
    kept = distances[np.abs(distances - distances.mean()) < 3 * distances.std()]
    if len(kept) < 3 or np.ptp(kept) == 0:
        return 0.0
    return 1.0 - float(shapiro(kept).statistic)


@dataclass(slots=True, eq=False)
class Prada:
    """PRADA (Juuti, Szyller, Marchal & Asokan 2019, arXiv 1805.02628): are nearest-neighbour distances normal?

    Benign distances follow a normal law, those of synthetic queries do not; score = 1 - W. The paper keeps one growing
    set a predicted class and tests from 100 distances on; prompts have no class, and here 3 distances are enough.
    """

    name: str = "prada"

    def fit(self, organic: Traffic, harvesting: Traffic, *, seed: int) -> Self:
        """Nothing to learn: PRADA only has a threshold on W."""
        return self

    def score(self, traffic: Traffic) -> Numbers:
        """1 - W in [0, 1); 0 for fewer than 4 prompts."""
        return measure(traffic, self._score_block)

    @staticmethod
    def _score_block(vectors: Vectors) -> Numbers:
        return np.array([non_normality(row) for row in growing_set_distances(vectors)])


@dataclass(slots=True, eq=False)
class Seat:
    """SEAT (Zhang, Chen & Wagner 2021, doi 10.1145/3474369.3486863): how many pairs of an account are similar?

    A pair is similar when its distance is δ or less. The paper trains its own image encoder and counts pairs; here δ is
    a low quantile of the distances within organic sessions, and the score is |{i < j : d_ij ≤ δ}| / (n (n - 1) / 2).
    """

    name: str = "seat"
    quantile: float = 0.01
    n_sessions: int = 500
    threshold: float = field(init=False)

    def fit(self, organic: Traffic, harvesting: Traffic, *, seed: int) -> Self:
        """Choose δ on a sample of organic sessions; 0 (exact repeats only) when none of them has a pair."""
        _require(organic, "organic", n_sessions=1)
        sample = _sample_sessions(organic, n_sessions=self.n_sessions, rng=np.random.default_rng(seed))
        distances = np.concatenate([_pairs(block.vectors).ravel() for block in sample.blocks()])
        self.threshold = float(np.quantile(distances, self.quantile)) if distances.size else 0.0
        return self

    def score(self, traffic: Traffic) -> Numbers:
        """Share of similar pairs in [0, 1]; 0 for one prompt."""
        return measure(traffic, self._score_block)

    def _score_block(self, vectors: Vectors) -> Numbers:
        similar = _pairs(vectors) <= self.threshold
        return np.asarray(similar.sum(axis=1) / max(1, similar.shape[1]), dtype=np.float64)


def cell_coverage(vectors: Vectors, cells: Vectors) -> Numbers:
    """Share of the reachable cells that each session (b, n, d) reaches, (c - 1) / (min(n, k) - 1) for c of k cells.

    1 when every cell is hit, or every prompt hits its own; 0 when all share one, and for a single prompt.
    """
    n_sessions, n_prompts, n_dims = vectors.shape
    nearness = vectors.reshape(-1, n_dims) @ cells.T - np.einsum("ij,ij->i", cells, cells) / 2
    hit = np.zeros((n_sessions, len(cells)), dtype=bool)
    hit[np.repeat(np.arange(n_sessions), n_prompts), nearness.argmax(axis=1)] = True
    n_reachable = min(n_prompts, len(cells))
    return np.asarray((hit.sum(axis=1) - 1) / max(1, n_reachable - 1), dtype=np.float64)


@dataclass(slots=True, eq=False)
class Coverage:
    """Coverage of the input space (Kesarwani, Mukhoty, Arya & Mehta 2017, arXiv 1711.07221).

    The paper measures what share of a decision tree's input boxes a user's queries have reached, and warns as it nears
    1. Prompts have no boxes: k-means cells over prompts of both sides, in equal parts, stand in for them.
    """

    name: str = "coverage"
    n_cells: int = 64
    n_reference: int = 4000
    cells: Vectors = field(init=False)

    def fit(self, organic: Traffic, harvesting: Traffic, *, seed: int) -> Self:
        """Cut the space into cells (k-means, at most as many as there are distinct prompts)."""
        _require(organic, "organic", n_sessions=1)
        rng = np.random.default_rng(seed)
        sides = (_sample(side, n_prompts=self.n_reference // 2, rng=rng) for side in (organic, harvesting))
        prompts = np.concatenate(list(sides))
        n_cells = min(self.n_cells, len(np.unique(prompts, axis=0)))
        means = KMeans(n_clusters=n_cells, n_init=1, max_iter=50, random_state=seed).fit(prompts)
        self.cells = np.asarray(means.cluster_centers_, dtype=np.float32)
        return self

    def score(self, traffic: Traffic) -> Numbers:
        """Share of the reachable cells reached, in [0, 1]."""
        return measure(traffic, lambda vectors: cell_coverage(vectors, self.cells))


@dataclass(slots=True, eq=False)
class Mahalanobis:
    """Mahalanobis distance of the session's mean vector m: √((m - μ)ᵀ Σ⁻¹ (m - μ)) (Mahalanobis 1936).

    μ and Σ are those of organic session means, Σ with Ledoit-Wolf shrinkage (2004). Session size is not corrected for.
    """

    name: str = "mahalanobis"
    centre: Numbers = field(init=False)
    precision: Numbers = field(init=False)

    def fit(self, organic: Traffic, harvesting: Traffic, *, seed: int) -> Self:
        """Estimate μ and Σ⁻¹."""
        _require(organic, "organic", n_sessions=2)
        estimate = LedoitWolf().fit(session_means(organic)[organic.lengths > 0])
        self.centre, self.precision = estimate.location_, estimate.precision_
        return self

    def score(self, traffic: Traffic) -> Numbers:
        """Distance, 0 or more."""
        offsets = session_means(traffic) - self.centre
        squared = np.einsum("ij,ij->i", offsets @ self.precision, offsets)
        return np.where(traffic.lengths > 0, np.sqrt(np.maximum(squared, 0)), 0.0)


@dataclass(slots=True, eq=False)
class MeanLogistic:
    """Logistic regression on the session's mean vector, standardised: the obvious modern detector, no paper."""

    name: str = "logistic"
    strength: float = 0.1  # inverse of the L2 penalty, scikit-learn's C
    model: Pipeline = field(init=False)

    def fit(self, organic: Traffic, harvesting: Traffic, *, seed: int) -> Self:
        """Fit with both classes weighing the same."""
        sides = {"organic": organic, "harvesting": harvesting}
        for name, side in sides.items():
            _require(side, name, n_sessions=1)
        X = np.concatenate([session_means(side)[side.lengths > 0] for side in sides.values()])
        y = np.repeat([0, 1], [int((side.lengths > 0).sum()) for side in sides.values()])
        regression = LogisticRegression(C=self.strength, class_weight="balanced", max_iter=2000)
        self.model = make_pipeline(StandardScaler(), regression).fit(X, y)
        return self

    def score(self, traffic: Traffic) -> Numbers:
        """Log odds of harvesting, any real number."""
        odds = self.model.decision_function(session_means(traffic))
        return np.where(traffic.lengths > 0, odds, 0.0)


BASELINES: Mapping[str, Callable[[], Baseline]] = {
    "mmd": BenignMMD,
    "prada": Prada,
    "seat": Seat,
    "coverage": Coverage,
    "mahalanobis": Mahalanobis,
    "logistic": MeanLogistic,
}
