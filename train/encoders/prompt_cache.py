"""PromptCache: every distinct text is encoded and placed once in a training run, however many sessions send it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.capability.capability_map import Assignment, CapabilityMap
from serve.embedding.encoders import Encoded, Encoder
from serve.sessions.canonical_text import canonical

_BATCH = 20_000


@dataclass(frozen=True)
class Found:
    """Vectors and places of some texts, in their order."""

    encoded: Encoded
    assigned: Assignment

    @property
    def vectors(self) -> NDArray[np.int8]:
        """Vectors of the texts, shape (n_texts, n_dims)."""
        return self.encoded.vectors


class PromptCache:
    """What an encoder makes of canonical texts, and where they lie, by text."""

    def __init__(self, encoder: Encoder, capabilities: CapabilityMap) -> None:
        """Start empty."""
        self.encoder, self.capabilities = encoder, capabilities
        self._row: dict[str, int] = {}
        self._vectors = np.zeros((0, encoder.n_dims), np.int8)
        self._places = np.zeros((0, 3), np.int16)
        self._measures = np.zeros((0, 2))
        self._tokens = np.zeros(0, np.int32)
        self._bounds = np.zeros(1, np.int64)

    def lookup_raw(self, texts: Sequence[str]) -> Found:
        """Like `lookup`, for texts as they were sent."""
        return self.lookup([canonical(text) for text in texts])

    def lookup(self, texts: Sequence[str]) -> Found:
        """Vectors and places of canonical texts; those not seen before are encoded now."""
        self._learn(list(dict.fromkeys(text for text in texts if text not in self._row)))
        rows = np.fromiter((self._row[text] for text in texts), np.int64, len(texts))
        places, measures = self._places[rows], self._measures[rows]
        assigned = Assignment(places[:, 0], places[:, 1], places[:, 2], measures[:, 0], measures[:, 1])
        sizes = np.diff(self._bounds)[rows]
        bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        place = np.arange(bounds[-1]) + np.repeat(self._bounds[rows] - bounds[:-1], sizes)
        return Found(Encoded(self._vectors[rows], self._tokens[place], bounds), assigned)

    def _learn(self, texts: list[str]) -> None:
        parts = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
        vectors, places, measures, tokens, bounds = (
            [self._vectors], [self._places], [self._measures], [self._tokens], [self._bounds]
        )  # fmt: skip
        for part in parts:
            own = self.encoder.read(part)
            assigned = self.capabilities.assign(own.vectors)
            vectors.append(own.vectors)
            tokens.append(own.tokens)
            bounds.append(bounds[-1][-1] + own.bounds[1:])
            places.append(np.stack([assigned.area, assigned.skill, assigned.cell], axis=1))
            measures.append(np.stack([assigned.confidence, assigned.cosine], axis=1))
        self._row.update(zip(texts, range(len(self._row), len(self._row) + len(texts)), strict=True))
        self._vectors, self._places = np.concatenate(vectors), np.concatenate(places)
        self._measures = np.concatenate(measures)
        self._tokens, self._bounds = np.concatenate(tokens), np.concatenate(bounds)
