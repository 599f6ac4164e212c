"""Prompt sources: the prompts of one kind that one side of a split may use, by source, person and topic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from train.corpora.pool import Pool

_STARTER_SHARE = 0.35
_MIN_PROMPTS = 10  # of a source on one side of a split
_NOTHING = np.zeros(0, dtype=np.int64)


class PromptSources:
    """The rows of one kind that one side of a split may use, by source, conversation, person and topic."""

    def __init__(self, pool: Pool, rows: NDArray[np.int64], topic: NDArray[np.int64]) -> None:
        self._pool, self._topic = pool, topic
        sources, sizes = np.unique(pool.source[rows], return_counts=True)
        # Sources are drawn alike, so one of which a few prompts fell to this side would be the same session again and
        # again.
        self.sources = sources[sizes >= min(_MIN_PROMPTS, int(sizes.max(initial=0)))]
        self._rows = [rows[pool.source[rows] == source] for source in self.sources]
        self._conversations = [np.split(own, _changes(pool.conversation[own])) for own in self._rows]
        # A corpus knows its people when some of them have several conversations.
        self._people = [_people(pool, conversations) for conversations in self._conversations]
        self._topics = [
            np.array([topic[conversation[0]] for conversation in conversations])
            for conversations in self._conversations
        ]
        self._shares = _source_shares(pool, self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    def names(self, chosen: NDArray[np.int64]) -> str:
        """Groups of these sources, sorted and joined with a plus sign."""
        return "+".join(sorted({self._pool.sources[self.sources[source]].group for source in chosen}))

    def rows_of(self, source: int) -> NDArray[np.int64]:
        """All usable rows of a source, in the pool's order."""
        return np.asarray(self._rows[source])

    def some_sources(self, rng: np.random.Generator, first: int | None) -> NDArray[np.int64]:
        """1 to 3 distinct sources; more than one in 40 % of draws."""
        n = min(len(self.sources), int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15])))
        start = self.one_source(rng) if first is None else first
        shares = np.delete(self._shares, start)
        others = np.delete(np.arange(len(self.sources)), start)
        more = rng.choice(others, size=n - 1, replace=False, p=shares / shares.sum()) if n > 1 else others[:0]
        return np.concatenate([[start], more]).astype(np.int64)

    def one_source(self, rng: np.random.Generator) -> int:
        """A source, by its share."""
        return int(rng.choice(len(self.sources), p=self._shares))

    def person_rows(self, source: int, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        """Up to n exchanges of one real person, conversations in order; none where nobody is known."""
        people = self._people[source]
        if not people:
            return np.zeros(0, dtype=np.int64)
        rows = people[int(rng.integers(len(people)))]
        start = int(rng.integers(max(1, len(rows) - n + 1)))
        return rows[start : start + n]

    def conversation_rows(self, source: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """A whole conversation of a source, each equally likely."""
        conversations = self._conversations[source]
        return conversations[int(rng.integers(len(conversations)))]

    def topical_rows(
        self, sources: NDArray[np.int64], rng: np.random.Generator, n: int, like: NDArray[np.int64] = _NOTHING
    ) -> NDArray[np.int64]:
        """n exchanges of conversations that share a topic (that of `like`) four times in five, the rest about anything.

        They make a person longer, too: shorter people would let size tell organic sessions from harvesting ones.
        """
        first = int(sources[0])
        topic = self._topic[like[0]] if len(like) else rng.choice(self._topics[first])
        related = [
            self._conversations[source][index]
            for source in sources
            for index in np.flatnonzero(self._topics[source] == topic)
        ]
        order = rng.permutation(len(related)).tolist()
        parts: list[NDArray[np.int64]] = []
        n_rows = 0
        while n_rows < n:
            stray = not order or rng.random() < 0.2
            part = self.conversation_rows(int(rng.choice(sources)), rng) if stray else related[order.pop()]
            parts.append(part)
            n_rows += len(part)
        return np.concatenate(parts)[:n]


def _source_shares(pool: Pool, sources: NDArray[np.int32]) -> NDArray[np.float64]:
    """Chance of each source: alike, but all starter families together at most `_STARTER_SHARE` beside real sources."""
    starter = np.array([pool.sources[source].name.startswith("starter/") for source in sources], dtype=bool)
    if not len(sources) or starter.all() or not starter.any():
        return np.full(len(sources), 1.0 / max(len(sources), 1))
    return np.asarray(np.where(starter, _STARTER_SHARE / starter.sum(), (1.0 - _STARTER_SHARE) / (~starter).sum()))


def _people(pool: Pool, conversations: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    owned: dict[int, list[NDArray[np.int64]]] = {}
    for conversation in conversations:
        owned.setdefault(int(pool.person[conversation[0]]), []).append(conversation)
    if len(owned) == len(conversations):
        return []
    return [np.concatenate(parts) for parts in owned.values() if sum(map(len, parts)) >= 5]


def _changes(codes: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.flatnonzero(np.diff(codes)) + 1
