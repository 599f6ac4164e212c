"""Evidence: which prompts of a session weigh most, by their position; no text is needed for it, and none is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serve.features.similarity import MAX_SCORED, stride
from serve.scoring.explanation import Evidence

N_PROMPTS = 3
"""Prompts of a session that are named."""


@dataclass(frozen=True)
class PromptScores:
    """How much prompts look like harvest (log-odds, `harvest`) and where they stand in their session (`position`, 1 for
    the first): session i owns the rows `offsets[i]:offsets[i + 1]`. Of a long session only those that features are
    measured on are ranked (see `similarity.stride`)."""

    harvest: NDArray[np.float64]
    position: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, harvest: NDArray[np.float64], offsets: NDArray[np.int64]) -> Self:
        """From the log-odds of every prompt of some sessions."""
        sizes = np.diff(offsets)
        place = np.arange(len(harvest)) - np.repeat(offsets[:-1], sizes)
        ranked = place % np.repeat(stride(sizes, MAX_SCORED), sizes) == 0
        return cls(harvest[ranked], place[ranked] + 1, np.concatenate([[0], np.cumsum(ranked)])[offsets])

    @classmethod
    def of_ranked(cls, harvest: NDArray[np.float64], step: int) -> Self:
        """From the log-odds of every `step`-th prompt of one session."""
        return cls(harvest, 1 + step * np.arange(len(harvest)), np.array([0, len(harvest)]))


def clearest(scores: PromptScores, wanted: NDArray[np.bool_]) -> tuple[tuple[Evidence, ...], ...]:
    """The `N_PROMPTS` prompts of each session that is `wanted` which look most like harvest, the clearest first (of
    equals the earlier); an empty tuple for the others."""
    found: list[tuple[Evidence, ...]] = [()] * len(wanted)
    for index in np.flatnonzero(wanted).tolist():
        low, high = int(scores.offsets[index]), int(scores.offsets[index + 1])
        harvest, position = scores.harvest[low:high], scores.position[low:high]
        best = np.argsort(-harvest, kind="stable")[:N_PROMPTS]
        found[index] = tuple(map(Evidence, position[best].tolist(), harvest[best].tolist()))
    return tuple(found)
