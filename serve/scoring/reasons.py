"""Reasons: the classifier's own contributions, said in 3 to 5 plain sentences that never hold prompt text."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serve.scoring.verdict import Reason
from serve.sessions.size_classes import size_class

if TYPE_CHECKING:
    from serve.bundle.bundle import Bundle

MAX_REASONS = 5
MIN_REASONS = 3
_MIN_CONTRIBUTION = 0.1


@dataclass(frozen=True, slots=True)
class Topic:
    """Features that say the same thing, spoken of once: prefixes of their names, and how to show a member.

    `shown` maps a feature to its sentence; `{count}` is value × exchanges, `{value}` the value, `{low}` and `{high}`
    the benign range of either.
    """

    prefixes: tuple[str, ...]
    shown: tuple[tuple[str, str], ...]


_OF = "{count} of {n} prompts"
_BENIGN = "; benign sessions of this size have {low}–{high}"
TOPICS = (
    Topic(
        ("evidence.harvest", "subset.half_evidence", "subset.quarter_evidence", "subset.tenth_evidence"),
        (
            ("evidence.harvest_share", f"{_OF} read like tasks put to a teacher model{_BENIGN}"),
            ("evidence.harvest_strong_share", f"{_OF} read strongly like tasks put to a teacher model{_BENIGN}"),
            (
                "subset.quarter_evidence",
                "The most suspicious quarter has mean log-odds of {value} for harvesting" + _BENIGN,
            ),
            (
                "subset.tenth_evidence",
                "The most suspicious tenth has mean log-odds of {value} for harvesting" + _BENIGN,
            ),
            ("evidence.harvest_q50", "The median prompt has log-odds of {value} for harvesting" + _BENIGN),
        ),
    ),
    Topic(
        ("subset.",),
        (
            ("subset.half_cosine", "Prompts of the suspicious half have a mean similarity of {value}" + _BENIGN),
            ("subset.quarter_cosine", "Prompts of the suspicious quarter have a mean similarity of {value}" + _BENIGN),
            ("subset.quarter_distance", "The suspicious quarter lies {value} from the rest of the session" + _BENIGN),
            ("subset.rest_cosine", "The less suspicious half has a mean similarity of {value}" + _BENIGN),
        ),
    ),
    Topic(
        ("geometry.consecutive_gain",),
        (("geometry.consecutive_gain", "Consecutive prompts are {value} more alike than any two" + _BENIGN),),
    ),
    Topic(
        ("geometry.duplicate_share", "surface.opening_shared", "surface.text_repeated"),
        (
            ("surface.opening_shared", f"{_OF} share their opening words with another{_BENIGN}"),
            ("geometry.duplicate_share", f"{_OF} are near-duplicates of another{_BENIGN}"),
            ("surface.text_repeated", f"{_OF} repeat another word for word{_BENIGN}"),
        ),
    ),
    Topic(
        ("geometry.",),
        (
            ("geometry.pair_mean", "Any two prompts have a mean similarity of {value}" + _BENIGN),
            ("geometry.nearest_q50", "The median prompt's nearest other prompt has a similarity of {value}" + _BENIGN),
            ("geometry.effective_rank", "Prompts spread over {value} of the directions they could" + _BENIGN),
        ),
    ),
    Topic(
        ("coverage.main", "coverage.areas"),
        (
            ("coverage.main_share", f"{_OF} fall in one capability area{_BENIGN}"),
            (
                "coverage.main_rarefied",
                "Eight prompts of the main area reach {value} of its cells" + _BENIGN,
            ),
            ("coverage.areas_shannon", "Prompts spread over the equivalent of {value} areas" + _BENIGN),
        ),
    ),
    Topic(
        ("coverage.",),
        (
            ("coverage.rarefied", "Eight prompts reach {value} different cells on average" + _BENIGN),
            ("coverage.evenness", "Cells are reached with an evenness of {value}" + _BENIGN),
            ("coverage.confidence", "Prompts are placed in an area with a mean confidence of {value}" + _BENIGN),
        ),
    ),
)


def reasons(
    bundle: Bundle, rows: NDArray[np.float64], n_exchanges: NDArray[np.int64], wanted: NDArray[np.bool_]
) -> tuple[tuple[Reason, ...], ...]:
    """Reasons of each session that is `wanted`, strongest first; an empty tuple for the others."""
    found: list[tuple[Reason, ...]] = [()] * len(rows)
    chosen = np.flatnonzero(wanted)
    if len(chosen):
        contributions = bundle.classifier.contributions(rows[chosen])
        classes = size_class(n_exchanges[chosen])
        for position, index in enumerate(chosen.tolist()):
            card = _Card(bundle, rows[index], int(n_exchanges[index]), bundle.reference[int(classes[position])])
            found[index] = card.reasons(contributions[position])
    return tuple(found)


@dataclass(frozen=True)
class _Card:
    """One session's row beside the benign range (n_features, 2) of its size."""

    bundle: Bundle
    row: NDArray[np.float64]
    n: int
    benign: NDArray[np.float64]

    def reasons(self, contributions: NDArray[np.float64]) -> tuple[Reason, ...]:
        names = tuple(self.bundle.manifest["features"])
        topics = _topics(names)
        sums = np.bincount(topics[topics >= 0], weights=contributions[topics >= 0], minlength=len(TOPICS))
        order = np.argsort(-np.abs(sums), kind="stable")[:MAX_REASONS]
        kept = [t for rank, t in enumerate(order.tolist()) if rank < MIN_REASONS or abs(sums[t]) >= _MIN_CONTRIBUTION]
        return tuple(self._reason(names, topic, float(sums[topic])) for topic in kept)

    def _reason(self, names: tuple[str, ...], topic: int, contribution: float) -> Reason:
        column, sentence = max(
            ((names.index(name), sentence) for name, sentence in TOPICS[topic].shown),
            key=lambda pair: self._outlying(pair[0]),
        )
        value, (low, high) = float(self.row[column]), self.benign[column].tolist()
        text = sentence.format(
            n=self.n,
            count=round(value * self.n),
            value=f"{value:.2f}",
            low=round(low * self.n) if "{count}" in sentence else f"{low:.2f}",
            high=round(high * self.n) if "{count}" in sentence else f"{high:.2f}",
        )
        return Reason(names[column], value, low, high, contribution, text + ".")

    def _outlying(self, column: int) -> float:
        """How far a value lies outside its benign range, in widths of that range."""
        low, high = self.benign[column]
        value = self.row[column]
        return float(max(low - value, value - high) / max(high - low, 1e-9))


@functools.lru_cache(maxsize=8)
def _topics(names: tuple[str, ...]) -> NDArray[np.int64]:
    return np.array([_topic(name) for name in names], dtype=np.int64)


def _topic(name: str) -> int:
    """Index of the first topic that a feature belongs to, -1 for none (its size alone is no reason)."""
    return next((i for i, topic in enumerate(TOPICS) if name.startswith(topic.prefixes)), -1)
