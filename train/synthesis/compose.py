"""Compose: accounts and sessions of every kind from a pool of prompts, seeded. Only indices move here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from train.corpora.pool import Pool
from train.synthesis.arrival_times import Timing
from train.synthesis.channel import draw_channel
from train.synthesis.composition import AccountComposition, Composition, Drawn
from train.synthesis.prompt_sources import PromptSources

ORGANIC_KINDS = ("person", "aggregator", "product")
DILUTIONS = (0.0, 0.5, 0.75, 0.9)
LENGTHS = (10, 25, 50, 100)
ACCOUNT_DILUTIONS = (0.0, 0.5, 0.75, 0.9, 0.95)
MAX_ACCOUNT = 800
"""Exchanges of the largest account that is composed."""


@dataclass(frozen=True, slots=True)
class ComposeSettings:
    """Shares of what is composed; lengths are drawn log-uniformly between the bounds, half of them from `LENGTHS`."""

    harvest_share: float = 0.45
    dilution_shares: tuple[float, ...] = (0.4, 0.25, 0.2, 0.15)
    person_share: float = 0.45
    aggregator_share: float = 0.25
    min_exchanges: int = 5
    max_exchanges: int = 120


class Composer:
    """Draws sessions from the rows of a pool that one side of a split may use.

    `topic` (n_prompts,) is a code of what each prompt is about; conversations of one topic make up a person where a
    corpus doesn't say who is who.
    """

    def __init__(
        self, pool: Pool, rows: NDArray[np.int64], topic: NDArray[np.int64], timing: Timing, *, seed: int
    ) -> None:
        """Index the usable rows by source, person and topic."""
        self._pool, self._topic, self._timing = pool, topic, timing
        self._rng = np.random.default_rng(seed)
        kinds = pool.kinds[rows]
        self._people = PromptSources(pool, rows[kinds == "person"], topic)
        self._products = PromptSources(pool, rows[kinds == "product"], topic)
        self._harvests = PromptSources(pool, rows[kinds == "harvest"], topic)
        self._evaluations = PromptSources(pool, rows[kinds == "evaluation"], topic)

    @property
    def has_evaluations(self) -> bool:
        """Whether any benchmark may be run."""
        return len(self._evaluations) > 0

    def mixed(self, n_sessions: int, settings: ComposeSettings) -> Composition:
        """A training mix: every kind, length, dilution and channel."""
        n_harvest = round(n_sessions * settings.harvest_share) if self._harvests else 0
        lengths = self._lengths(n_sessions, settings)
        shares = np.array(settings.dilution_shares) / sum(settings.dilution_shares)
        dilutions = self._rng.choice(DILUTIONS, size=n_harvest, p=shares)
        organic_shares = _organic_shares(settings, self._people, self._products)
        kinds = self._rng.choice(ORGANIC_KINDS, size=n_sessions - n_harvest, p=organic_shares)
        drawn = [self.harvest(int(n), float(share)) for n, share in zip(lengths, dilutions, strict=False)]
        drawn += [self.organic(str(kind), int(n)) for kind, n in zip(kinds, lengths[n_harvest:], strict=True)]
        return self._composition(drawn)

    def accounts(
        self, n_accounts: int, harvest_share: float, settings: ComposeSettings, n: int | None = None,
        dilutions: Sequence[float] = ACCOUNT_DILUTIONS,
    ) -> AccountComposition:  # fmt: skip
        """Whole accounts of `n` exchanges, or of any size up to `MAX_ACCOUNT`, cut into sessions; a share of them of
        campaigns, at each of the dilutions alike."""
        n_harvest = round(n_accounts * harvest_share) if self._harvests else 0
        sizes = np.exp(self._rng.uniform(np.log(8), np.log(MAX_ACCOUNT), n_accounts)).astype(np.int64)
        sizes = sizes if n is None else np.full(n_accounts, n)
        kinds = self._rng.choice(
            ORGANIC_KINDS, n_accounts - n_harvest, p=_organic_shares(settings, self._people, self._products)
        )
        drawn = [
            self.harvest(int(size), float(dilutions[index % len(dilutions)]), source=index % len(self._harvests))
            for index, size in enumerate(sizes[:n_harvest].tolist())
        ]
        drawn += [self.organic(str(kind), int(size)) for kind, size in zip(kinds, sizes[n_harvest:], strict=True)]
        cut = [self._sessions(account) for account in drawn]
        owner = np.repeat(np.arange(len(cut)), [len(own) for own in cut])
        return AccountComposition(self._composition([part for own in cut for part in own]), owner.astype(np.int64))

    def _sessions(self, account: Drawn) -> list[Drawn]:
        """An account's exchanges as sessions of 1 to 60, shorter ones more often."""
        sizes: list[int] = []
        while (left := len(account.rows) - sum(sizes)) > 0:
            sizes.append(min(left, int(np.exp(self._rng.uniform(0.0, np.log(61.0))))))
        parts = np.split(account.rows, np.cumsum(sizes)[:-1])
        return [replace(account, rows=rows) for rows in parts]

    def fixed(self, kind: str, n_sessions: int, n: int, dilution: float = 0.0) -> Composition:
        """Sessions of one kind ("organic" draws its kinds alike), one length and one dilution: a cell of the exam."""
        drawn = []
        for index in range(n_sessions):
            if kind == "harvest":
                drawn.append(self.harvest(n, dilution, source=index % len(self._harvests.sources)))
            elif kind == "organic":
                drawn.append(self.organic(self._organic_kind(index), n))
            else:
                drawn.append(self.evaluation(n))
        return self._composition(drawn)

    def harvest(self, n: int, dilution: float, source: int | None = None) -> Drawn:
        """One account of a campaign: 1-3 corpora, shards or random draws, hidden in cover traffic."""
        n_task = max(1, round(n * (1.0 - dilution)))
        side = self._harvests
        chosen = side.some_sources(self._rng, source)
        rows = self._shards(side, chosen, n_task)
        campaign = side.names(chosen)
        if dilution == 0.0:
            return Drawn("harvest", campaign, 0.0, rows)
        return Drawn("harvest", campaign, dilution, self._hidden(rows, self._cover(n - n_task)))

    def _cover(self, n: int) -> NDArray[np.int64]:
        """n exchanges of benign traffic to hide in: as many people or products as it takes."""
        parts: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
        while (missing := n - sum(map(len, parts))) > 0:
            parts.append(self.organic(self._organic_kind(int(self._rng.integers(3))), missing).rows)
        return np.concatenate(parts)

    def organic(self, kind: str, n: int) -> Drawn:
        """One benign account: a person, an aggregator or a product."""
        if kind == "person":
            return self._person(n)
        if kind == "aggregator":
            return self._aggregator(n)
        return self._product(n)

    def evaluation(self, n: int) -> Drawn:
        """One run of a public benchmark, in order."""
        side = self._evaluations
        chosen = side.some_sources(self._rng, None)[:1]
        return Drawn("evaluation", side.names(chosen), 0.0, self._contiguous(side.rows_of(chosen[0]), n))

    def _organic_kind(self, index: int) -> str:
        kinds = [kind for kind in ORGANIC_KINDS if (self._products if kind == "product" else self._people)]
        return kinds[index % len(kinds)]

    def _person(self, n: int) -> Drawn:
        side = self._people
        chosen = side.some_sources(self._rng, None)
        rows = side.person_rows(int(chosen[0]), self._rng, n)
        if len(rows) == n:
            return Drawn("person", side.names(chosen[:1]), 0.0, rows)
        rest = side.topical_rows(chosen, self._rng, n - len(rows), like=rows)
        return Drawn("person", side.names(chosen), 0.0, np.concatenate([rows, rest]))

    def _aggregator(self, n: int) -> Drawn:
        """Conversations of many people behind one key, half the time interleaved."""
        side = self._people
        chosen = side.some_sources(self._rng, None)
        conversations = [side.conversation_rows(self._rng.choice(chosen), self._rng) for _ in range(n)]
        if self._rng.random() < 0.5:
            rows = _interleaved(conversations, n, self._rng)
        else:
            rows = np.concatenate(conversations)[:n]
        return Drawn("aggregator", side.names(chosen), 0.0, rows)

    def _product(self, n: int) -> Drawn:
        """One template with many inputs: prompts of one source, of one topic half the time, whole conversations."""
        side = self._products
        source = side.one_source(self._rng)
        if self._rng.random() < 0.5:
            rows = side.topical_rows(np.array([source]), self._rng, n)
        else:
            parts: list[NDArray[np.int64]] = []
            while sum(map(len, parts)) < n:
                parts.append(side.conversation_rows(source, self._rng))
            rows = np.concatenate(parts)[:n]
        return Drawn("product", side.names(np.array([source])), 0.0, rows)

    def _shards(self, side: PromptSources, chosen: NDArray[np.int64], n: int) -> NDArray[np.int64]:
        if self._rng.random() < 0.5:
            counts = _shares(n, len(chosen), self._rng)
            parts = [self._contiguous(side.rows_of(s), k) for s, k in zip(chosen, counts, strict=True) if k]
            return np.concatenate(parts)
        everything = np.concatenate([side.rows_of(source) for source in chosen])
        return self._rng.choice(everything, size=n, replace=n > len(everything))

    def _contiguous(self, rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
        start = int(self._rng.integers(max(1, len(rows) - n + 1)))
        return np.take(rows, np.arange(start, start + n), mode="wrap")

    def _hidden(self, task: NDArray[np.int64], cover: NDArray[np.int64]) -> NDArray[np.int64]:
        """Both in their own order, at random places half the time, in blocks of the task otherwise."""
        n = len(task) + len(cover)
        if self._rng.random() < 0.5:
            places = np.sort(self._rng.choice(n, size=len(task), replace=False))
        else:
            start = int(self._rng.integers(n - len(task) + 1))
            places = np.arange(start, start + len(task))
        rows = np.empty(n, dtype=np.int64)
        mask = np.zeros(n, dtype=bool)
        mask[places] = True
        rows[mask], rows[~mask] = task, cover
        return rows

    def _lengths(self, n_sessions: int, settings: ComposeSettings) -> NDArray[np.int64]:
        low, high = np.log(settings.min_exchanges), np.log(settings.max_exchanges + 1)
        lengths = np.exp(self._rng.uniform(low, high, size=n_sessions)).astype(np.int64)
        fixed = [length for length in LENGTHS if settings.min_exchanges <= length <= settings.max_exchanges]
        standard = self._rng.choice(fixed or [settings.max_exchanges], size=n_sessions)
        return np.where(self._rng.random(n_sessions) < 0.5, standard, lengths)

    def _composition(self, drawn: Sequence[Drawn]) -> Composition:
        sizes = [len(session.rows) for session in drawn]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return Composition(
            np.concatenate([session.rows for session in drawn]).astype(np.int64),
            offsets,
            np.array([session.kind for session in drawn]),
            np.array([session.campaign for session in drawn]),
            np.array([session.dilution for session in drawn]),
            tuple(draw_channel(self._rng) for _ in drawn),
            self._timing.arrivals(offsets, self._rng),
        )


def _shares(n: int, k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """n split into k parts at random."""
    cuts = np.sort(rng.integers(0, n + 1, size=k - 1))
    return np.diff(np.concatenate([[0], cuts, [n]]))


def _interleaved(conversations: list[NDArray[np.int64]], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The first n exchanges when each next one comes from one of up to six running conversations."""
    waiting = [conversation.tolist() for conversation in reversed(conversations)]
    running = [waiting.pop() for _ in range(min(6, len(waiting)))]
    rows: list[int] = []
    while len(rows) < n and running:
        index = int(rng.integers(len(running)))
        rows.append(running[index].pop(0))
        if not running[index]:
            running[index : index + 1] = [waiting.pop()] if waiting else []
    return np.array(rows, dtype=np.int64)


def _organic_shares(settings: ComposeSettings, people: PromptSources, products: PromptSources) -> NDArray[np.float64]:
    """Chance of each of `ORGANIC_KINDS`; those of which there is nobody aren't drawn."""
    product_share = 1.0 - settings.person_share - settings.aggregator_share
    shares = np.array([settings.person_share, settings.aggregator_share, product_share])
    shares *= [len(people) > 0, len(people) > 0, len(products) > 0]
    if not shares.any():
        raise ValueError("there is nobody organic to compose sessions from, expected prompts of a person or a product")
    return np.asarray(shares / shares.sum())
