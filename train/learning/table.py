"""Table: composed sessions as feature rows with labels, made by the same code that judges."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.features.prompt_scorer import PromptInputs
from serve.features.session_features import Evidenced, feature_rows
from serve.sessions.chunking import chunk_bounds
from serve.sessions.normalization import canonical_sessions, form
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.learning.evidence import CrossEvidence
from train.synthesis.composition import Composition

_CHUNK_PROMPTS = 40_000


@dataclass(frozen=True)
class Table:
    """Feature rows of a composition: `X` (n_sessions, n_features), `y` 1 for harvesting, `weight` a row."""

    X: NDArray[np.float64]
    y: NDArray[np.int64]
    weight: NDArray[np.float64]
    n_exchanges: NDArray[np.int64]
    kind: NDArray[np.str_]
    campaign: NDArray[np.str_]
    dilution: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.y)

    def where(self, chosen: NDArray[np.bool_]) -> Table:
        """The rows that are chosen."""
        return Table(
            self.X[chosen], self.y[chosen], self.weight[chosen], self.n_exchanges[chosen], self.kind[chosen],
            self.campaign[chosen], self.dilution[chosen],
        )  # fmt: skip


def table(composition: Composition, pool: Pool, cache: PromptCache, evidence: CrossEvidence) -> Table:
    """Feature rows of every session, evidence cross-fitted where the evidence has parts for a prompt."""
    parts = [
        feature_rows(prompts, cache.capabilities) for _, prompts in observed_parts(composition, pool, cache, evidence)
    ]
    y = composition.is_harvesting.astype(np.int64)
    return Table(
        np.concatenate(parts), y, _balanced(composition.campaign, y), np.diff(composition.offsets), composition.kind,
        composition.campaign, composition.dilution,
    )  # fmt: skip


def observed_parts(
    composition: Composition, pool: Pool, cache: PromptCache, evidence: CrossEvidence
) -> Iterator[tuple[Composition, Evidenced]]:
    """Consecutive parts of a composition with what is known of their prompts."""
    parts = itertools.starmap(composition.part, chunk_bounds(composition.offsets, _CHUNK_PROMPTS))
    return ((part, _observed(part, pool, cache, evidence)) for part in parts)


def session_vectors(composition: Composition, pool: Pool, cache: PromptCache) -> NDArray[np.float32]:
    """Unit vectors of every exchange, shape (n_prompts, n_dims), as the baselines take them."""
    texts = canonical_sessions(composition.texts(pool), composition.offsets)
    vectors = cache.lookup(texts).vectors.astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0))


def _observed(part: Composition, pool: Pool, cache: PromptCache, evidence: CrossEvidence) -> Evidenced:
    texts = canonical_sessions(part.texts(pool), part.offsets)
    found = cache.lookup(texts)
    weights = evidence.of(part.rows, PromptInputs.of(found.encoded))
    return Evidenced(part.offsets, found.vectors, found.assigned, weights, form(texts))


def _balanced(campaign: NDArray[np.str_], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights that give every campaign (or organic source) the square root of its share, and both labels the same."""
    _, inverse, counts = np.unique(campaign, return_inverse=True, return_counts=True)
    weight = 1.0 / np.sqrt(counts[inverse])
    for label in (0, 1):
        own = y == label
        weight[own] *= len(y) / (2.0 * max(weight[own].sum(), 1e-12))
    return np.asarray(weight)
