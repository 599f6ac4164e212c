"""Baselines: published detectors, each from its paper, all seeing only the prompts' vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
from scipy.stats import shapiro
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from train.evaluation.mmd import BenignMMD
from train.evaluation.session_blocks import (
    Numbers,
    Traffic,
    Vectors,
    measure,
    pairs,
    require,
    sample,
    sample_sessions,
    session_means,
    squared_distances,
)


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
        require(organic, "organic", n_sessions=1)
        sample = sample_sessions(organic, n_sessions=self.n_sessions, rng=np.random.default_rng(seed))
        distances = np.concatenate([pairs(block.vectors).ravel() for block in sample.blocks()])
        self.threshold = float(np.quantile(distances, self.quantile)) if distances.size else 0.0
        return self

    def score(self, traffic: Traffic) -> Numbers:
        """Share of similar pairs in [0, 1]; 0 for one prompt."""
        return measure(traffic, self._score_block)

    def _score_block(self, vectors: Vectors) -> Numbers:
        similar = pairs(vectors) <= self.threshold
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
        require(organic, "organic", n_sessions=1)
        rng = np.random.default_rng(seed)
        sides = (sample(side, n_prompts=self.n_reference // 2, rng=rng) for side in (organic, harvesting))
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
        require(organic, "organic", n_sessions=2)
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
            require(side, name, n_sessions=1)
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
