"""Population: many accounts at once, campaigns of accounts that act together among them, to find campaigns in.

A campaign has a queue of prompts from one to three corpora that it hands out to its accounts: each item once, in
shards, or drawn with repeats. A product has 1 to 20 customers, who send what it was built to send.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.corpora.pool import Pool
from train.synthesis.arrival_times import Timing
from train.synthesis.channel import Channel, draw_channel
from train.synthesis.compose import ORGANIC_KINDS, Composer

_KIND_SHARES = (0.45, 0.25, 0.3)
_MIN_TOPIC = 60
_SHARD = 10
_MAX_TWIN = 0.2


@dataclass(frozen=True, slots=True)
class PopulationSettings:
    """Benign accounts, campaigns, and bounds (both included) on accounts a campaign and exchanges an account.

    `dilution` is the share of a campaign account's exchanges that is cover traffic; `vary` spreads it evenly by as much
    as that to both sides.
    """

    n_benign: int = 2000
    n_campaigns: int = 9
    accounts: tuple[int, int] = (20, 60)
    exchanges: tuple[int, int] = (30, 100)
    customers: tuple[int, int] = (1, 20)
    dilution: float = 0.0
    vary: float = 0.0


@dataclass(frozen=True)
class Population:
    """Accounts as columns: account i owns `rows[offsets[i]:offsets[i + 1]]`, indices into a pool.

    `campaign` (n_accounts,) names each account's campaign, "" for benign ones; `is_task` (n_exchanges,) tells which
    exchanges are a campaign's.
    """

    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]
    kind: NDArray[np.str_]
    campaign: NDArray[np.str_]
    is_task: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def owner(self) -> NDArray[np.int64]:
        """Account of each exchange."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def of_accounts(self, kept: NDArray[np.int64]) -> Population:
        """The population of these accounts alone, in this order."""
        parts = [np.arange(self.offsets[account], self.offsets[account + 1]) for account in kept.tolist()]
        chosen = np.concatenate([np.zeros(0, np.int64), *parts])
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        return Population(self.rows[chosen], offsets, self.kind[kept], self.campaign[kept], self.is_task[chosen])


@dataclass(frozen=True, slots=True)
class _Account:
    kind: str
    campaign: str
    rows: NDArray[np.int64]
    is_task: NDArray[np.bool_]


def populate(
    pool: Pool, benign: NDArray[np.int64], harvest: Sequence[str], topic: NDArray[np.int64],
    settings: PopulationSettings, *, seed: int,
) -> Population:  # fmt: skip
    """Compose a population from `benign` rows of a pool and the campaign groups `harvest`, no group in two campaigns.

    Raises:
        ValueError: when there are fewer groups than campaigns.
    """
    if len(harvest) < settings.n_campaigns:
        raise ValueError(f"{len(harvest)} campaign groups for {settings.n_campaigns} campaigns, expected one for each")
    return _Draw(pool, benign, harvest, topic, settings, seed).population()


class _Draw:
    """One population being drawn."""

    def __init__(
        self, pool: Pool, benign: NDArray[np.int64], harvest: Sequence[str], topic: NDArray[np.int64],
        settings: PopulationSettings, seed: int,
    ) -> None:  # fmt: skip
        self._pool, self._topic, self._settings = pool, topic, settings
        self._rng = np.random.default_rng(seed)
        self._composer = Composer(pool, benign, topic, Timing.default(), seed=seed)
        products = benign[pool.kinds[benign] == "product"]
        self._products = [products[pool.source[products] == source] for source in np.unique(pool.source[products])]
        self._groups = [np.flatnonzero(pool.groups == group) for group in self._rng.permutation(sorted(harvest))]
        self._names = [str(pool.groups[rows[0]]) for rows in self._groups]
        usable = np.flatnonzero((pool.kinds[benign] == "person") | (pool.kinds[benign] == "product"))
        if not len(usable):
            raise ValueError("the pool has no benign rows to compose accounts from")

    def population(self) -> Population:
        shares = np.array(_KIND_SHARES) * (1.0, 1.0, float(len(self._products) > 0))
        kinds = self._rng.choice(ORGANIC_KINDS, size=self._settings.n_benign, p=shares / shares.sum()).tolist()
        accounts = [self._organic(kind) for kind in kinds if kind != "product"]
        accounts += self._customers(kinds.count("product"))
        for campaign in self._campaigns():
            accounts += campaign
        order = self._rng.permutation(len(accounts)).tolist()
        accounts = [accounts[place] for place in order]
        sizes = [len(account.rows) for account in accounts]
        return Population(
            np.concatenate([account.rows for account in accounts]).astype(np.int64),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            np.array([account.kind for account in accounts]),
            np.array([account.campaign for account in accounts]),
            np.concatenate([account.is_task for account in accounts]),
        )

    def _size(self, bounds: tuple[int, int]) -> int:
        return int(self._rng.integers(bounds[0], bounds[1] + 1))

    def _organic(self, kind: str) -> _Account:
        rows = self._composer.organic(kind, self._size(self._settings.exchanges)).rows
        return _Account(kind, "", rows, np.zeros(len(rows), dtype=bool))

    def _customers(self, n: int) -> list[_Account]:
        """Products with their customers, who send inputs of one source, mostly of one topic; half never the same."""
        accounts: list[_Account] = []
        while len(accounts) < n:
            rows = self._products[int(self._rng.integers(len(self._products)))]
            topical = rows[self._topic[rows] == self._topic[self._rng.choice(rows)]]
            if self._rng.random() < 0.7 and len(topical) >= _MIN_TOPIC:
                rows = topical
            n_customers = min(self._size(self._settings.customers), n - len(accounts))
            parts = self._dealt(self._rng.permutation(rows), n_customers, repeats=self._rng.random() < 0.5)
            accounts += [_Account("product", "", part, np.zeros(len(part), dtype=bool)) for part in parts]
        return accounts

    def _campaigns(self) -> list[list[_Account]]:
        """Campaigns of one to three groups of corpora each."""
        campaigns = []
        left = list(zip(self._names, self._groups, strict=True))
        for index in range(self._settings.n_campaigns):
            n = int(self._rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))
            n = max(1, min(n, len(left) - (self._settings.n_campaigns - index - 1)))
            chosen, left = left[:n], left[n:]
            name = f"{index}:{'+'.join(group for group, _ in chosen)}"
            campaigns.append(self._campaign(name, [rows for _, rows in chosen]))
        return campaigns

    def _campaign(self, name: str, groups: list[NDArray[np.int64]]) -> list[_Account]:
        way = str(self._rng.choice(["queue", "shards", "draws"], p=[0.4, 0.3, 0.3]))
        queue = _sharded(groups) if way == "shards" else self._rng.permutation(np.concatenate(groups))
        queue = np.roll(queue, int(self._rng.integers(len(queue))))
        n_accounts = self._size(self._settings.accounts)
        sizes = [self._size(self._settings.exchanges) for _ in range(n_accounts)]
        n_tasks = [self._n_tasks(size) for size in sizes]
        parts = self._dealt(queue, n_accounts, repeats=way == "draws", sizes=n_tasks)
        return [self._hidden(name, tasks, size) for tasks, size in zip(parts, sizes, strict=True)]

    def _n_tasks(self, size: int) -> int:
        dilution = self._settings.dilution
        if self._settings.vary:
            dilution += self._rng.uniform(-self._settings.vary, self._settings.vary)
        return max(1, round(size * (1.0 - float(np.clip(dilution, 0.0, 0.95)))))

    def _dealt(
        self, queue: NDArray[np.int64], n: int, *, repeats: bool, sizes: Sequence[int] = ()
    ) -> list[NDArray[np.int64]]:
        """Parts of a queue for n accounts: one after the other, or each drawn from all of it."""
        sizes = sizes or [self._size(self._settings.exchanges) for _ in range(n)]
        if repeats:
            return [self._rng.choice(queue, size=size, replace=size > len(queue)) for size in sizes]
        ends = np.cumsum(sizes)
        return [np.take(queue, np.arange(end - size, end), mode="wrap") for size, end in zip(sizes, ends, strict=True)]

    def _hidden(self, name: str, tasks: NDArray[np.int64], size: int) -> _Account:
        """Tasks at random places among cover traffic of one kind."""
        n_cover = size - len(tasks)
        cover = np.zeros(0, dtype=np.int64)
        if n_cover:
            kinds = ORGANIC_KINDS if self._products else ORGANIC_KINDS[:2]
            cover = self._composer.organic(str(self._rng.choice(kinds)), n_cover).rows
        is_task = np.zeros(len(tasks) + len(cover), dtype=bool)
        is_task[self._rng.choice(len(is_task), size=len(tasks), replace=False)] = True
        rows = np.empty(len(is_task), dtype=np.int64)
        rows[is_task], rows[~is_task] = tasks, cover
        return _Account("harvest", name, rows, is_task)


def without_twins(population: Population, pool: Pool) -> Population:
    """The population without people and aggregators a fifth of whose texts are an earlier one's, too.

    A small corpus is drawn from again and again, but two people don't type the same prompts: they would ask more alike
    than any campaign.
    """
    seen: set[str] = set()
    kept = []
    for account in range(len(population)):
        if population.kind[account] in ("person", "aggregator"):
            rows = population.rows[population.offsets[account] : population.offsets[account + 1]]
            texts = {pool.texts[row] for row in rows.tolist()}
            if len(texts & seen) > _MAX_TWIN * len(texts):
                continue
            seen |= texts
        kept.append(account)
    return population.of_accounts(np.array(kept, dtype=np.int64))


def _sharded(groups: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """One queue of several corpora, each in its own order, in blocks spread evenly."""
    blocks = [
        (start / len(rows), index, rows[start : start + _SHARD])
        for index, rows in enumerate(groups)
        for start in range(0, len(rows), _SHARD)
    ]
    return np.concatenate([rows for _, _, rows in sorted(blocks, key=lambda block: block[:2])])


def channels(n: int, *, seed: int) -> tuple[Channel, ...]:
    """A surface channel for each account."""
    rng = np.random.default_rng(seed)
    return tuple(draw_channel(rng) for _ in range(n))
