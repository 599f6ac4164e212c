"""Sketches: what is kept of an account so that it can be linked with others, bounded in size whatever it sent.

An account's distinct prompts are sampled by priority (Duffield, Lund & Thorup 2007): each has the weight exp(2 ×
harvest evidence) over a random number drawn from its hash, and the `size` largest stay. So prompts that look like tasks
are kept first, yet sums over all prompts can be estimated, and sketches of different days merge into the sketch of
both. No text is kept: vectors, cells, evidence and hashes only.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serve.campaigns.fingerprints import N_KEYS, fingerprint_keys
from serve.features.session_features import Evidenced
from serve.sessions.canonical_text import canonical
from serve.sessions.normalization import canonical_sessions
from serve.sessions.records import Sessions

SIZE = 96
"""Prompts kept of an account."""

N_LOWEST = 16
"""Smallest session p-values kept of an account, for Simes' rule."""

_TILT = 2.0
_DAY, _HOUR = 86_400.0, 3_600.0


@dataclass(frozen=True)
class Items:
    """Prompts kept, as columns (n_items,), sorted by `owner`, the index of their account.

    `text` is a hash of the canonical text, `count` how often it was sent, `priority` what it was kept for; `keys`
    (n_items, N_KEYS) are its skeleton, `evidence` (n_items, n_heads) and `vector` (n_items, n_dims) as judged.
    """

    owner: NDArray[np.int64]
    text: NDArray[np.uint64]
    count: NDArray[np.int64]
    priority: NDArray[np.float64]
    evidence: NDArray[np.float32]
    vector: NDArray[np.int8]
    area: NDArray[np.int16]
    skill: NDArray[np.int16]
    cell: NDArray[np.int16]
    keys: NDArray[np.uint64]
    at: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.owner)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Items:
        """The items in these rows."""
        return Items(*(getattr(self, field.name)[rows] for field in dataclasses.fields(Items)))

    def owned(self, owner: NDArray[np.int64]) -> Items:
        """The same items of accounts that have other indices now."""
        return dataclasses.replace(self, owner=owner)

    @classmethod
    def joined(cls, parts: Sequence[Items]) -> Self:
        """Items of all parts, in order."""
        return cls(
            *(np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(cls))
        )


@dataclass(frozen=True)
class Sketches:
    """Accounts in order of id, as columns (n_accounts,).

    `hours` (n_accounts, 24) counts exchanges by hour of the day (UTC); `lowest` (n_accounts, N_LOWEST) holds the
    smallest session p-values, NaN where there are fewer; `limit` is the largest priority of a prompt that wasn't kept,
    0 where all were. Times are seconds since 1970, NaN where unknown.
    """

    account_ids: tuple[str, ...]
    n_exchanges: NDArray[np.int64]
    n_sessions: NDArray[np.int64]
    first_at: NDArray[np.float64]
    last_at: NDArray[np.float64]
    hours: NDArray[np.int64]
    lowest: NDArray[np.float64]
    limit: NDArray[np.float64]
    items: Items

    def __len__(self) -> int:
        return len(self.account_ids)

    @property
    def weight(self) -> NDArray[np.float64]:
        """Exchanges that each item stands for: how often it was sent, over the probability that it was kept."""
        tilt = np.exp(_TILT * np.clip(self.items.evidence[:, 0].astype(np.float64), -2.0, 2.0))
        return np.asarray(self.items.count * np.maximum(1.0, self.limit[self.items.owner] / tilt), dtype=np.float64)

    @property
    def p_value(self) -> NDArray[np.float64]:
        """Simes' combination of each account's session p-values, from the smallest of them."""
        ranks = np.arange(1, N_LOWEST + 1)
        combined = np.nanmin(
            np.column_stack([self.lowest * self.n_sessions[:, None] / ranks, np.ones(len(self))]), axis=1
        )
        return np.asarray(combined)

    def thinned(self, size: int) -> Sketches:
        """At most `size` prompts an account: those of the highest priority."""
        kept, limit = _top(self.items, self.limit, size)
        return dataclasses.replace(self, items=kept, limit=limit)

    @classmethod
    def joined(cls, parts: Sequence[Sketches], size: int = SIZE) -> Sketches:
        """One sketch an account of all parts, which hold different exchanges; as if they had been sketched together.

        Raises:
            ValueError: when there is no part.
        """
        if not parts:
            raise ValueError("there is no sketch to join, expected at least one")
        names = tuple(sorted({name for part in parts for name in part.account_ids}))
        index = {name: position for position, name in enumerate(names)}
        places = [np.array([index[name] for name in part.account_ids], dtype=np.int64) for part in parts]
        items = Items.joined(
            [part.items.owned(place[part.items.owner]) for part, place in zip(parts, places, strict=True)]
        )
        limit = np.zeros(len(names))
        np.maximum.at(limit, np.concatenate(places), np.concatenate([part.limit for part in parts]))
        kept, limit = _top(_deduplicated(items), limit, size)
        place = np.concatenate(places)

        def column(name: str) -> NDArray[np.float64]:
            return np.concatenate([getattr(part, name) for part in parts])

        return cls(
            account_ids=names,
            n_exchanges=_summed(column("n_exchanges"), place, len(names)).astype(np.int64),
            n_sessions=_summed(column("n_sessions"), place, len(names)).astype(np.int64),
            first_at=_extreme(np.fmin, column("first_at"), place, len(names)),
            last_at=_extreme(np.fmax, column("last_at"), place, len(names)),
            hours=np.stack([_summed(hour, place, len(names)) for hour in column("hours").T], axis=1).astype(np.int64),
            lowest=_lowest(column("lowest"), place, len(names)),
            limit=limit,
            items=kept,
        )


@dataclass(frozen=True)
class ContentOrder:
    """An order that what was sent decides, not what accounts are called: indices of accounts (n_accounts,) and of items
    (n_items,)."""

    accounts: NDArray[np.int64]
    items: NDArray[np.int64]

    @classmethod
    def of(cls, items: Items, n_accounts: int) -> Self:
        """By a hash of all texts of an account, and its items by theirs."""
        digest = np.zeros(n_accounts, np.uint64)
        np.add.at(digest, items.owner, _mixed(items.text))
        accounts = np.argsort(digest, kind="stable")
        rank = np.empty_like(accounts)
        rank[accounts] = np.arange(n_accounts)
        return cls(accounts, np.lexsort((items.text, rank[items.owner])))

    def ordered(self, items: Items) -> Items:
        """The items in this order, owned by accounts in this order."""
        rank = np.empty_like(self.accounts)
        rank[self.accounts] = np.arange(len(self.accounts))
        moved = items.take(self.items)
        return moved.owned(rank[moved.owner])


def sketch(sessions: Sessions, prompts: Evidenced, p_value: NDArray[np.float64], *, size: int = SIZE) -> Sketches:
    """Sketches of the accounts of some sessions, from their prompts as observed and the sessions' p-values."""
    names = tuple(sorted(set(sessions.account_ids)))
    index = {name: position for position, name in enumerate(names)}
    account = np.fromiter((index[name] for name in sessions.account_ids), np.int64, len(sessions))
    owner = account[prompts.session_of]
    texts = canonical_sessions(sessions.prompts, sessions.offsets)
    hashes = text_hashes(texts)
    evidence = np.tanh(prompts.evidence / 2.0)  # twice the probability less one: how far a prompt leans, -1 to 1
    items = _deduplicated(Items(
        owner=owner, text=hashes.copy(), count=np.ones(len(texts), np.int64),
        priority=_priority(evidence[:, 0], hashes, text_hashes(names)[owner]),
        evidence=evidence.astype(np.float32), vector=prompts.vectors, area=prompts.assigned.area,
        skill=prompts.assigned.skill, cell=prompts.assigned.cell, keys=np.zeros((len(texts), N_KEYS), np.uint64),
        at=sessions.at,
    ))  # fmt: skip
    kept, limit = _top(items, np.zeros(len(names)), size)
    kept = dataclasses.replace(kept, keys=_keys(sessions.prompts, hashes, kept.text))
    at = np.where(np.isnan(sessions.at), 0.0, sessions.at)
    known = ~np.isnan(sessions.at)
    hour = (at % _DAY // _HOUR).astype(np.int64)
    return Sketches(
        account_ids=names,
        n_exchanges=np.bincount(owner, minlength=len(names)),
        n_sessions=np.bincount(account, minlength=len(names)),
        first_at=_extreme(np.fmin, sessions.at, owner, len(names)),
        last_at=_extreme(np.fmax, sessions.at, owner, len(names)),
        hours=np.bincount(owner[known] * 24 + hour[known], minlength=24 * len(names)).reshape(-1, 24),
        lowest=_lowest(p_value[:, None], account, len(names)),
        limit=limit,
        items=kept,
    )


def text_hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    """What stands for each canonical text in a sketch."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, np.uint64)


def _keys(prompts: Sequence[str], hashes: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Skeleton keys of the prompts whose texts have these hashes; what wraps a session is part of a skeleton."""
    distinct, first = np.unique(hashes, return_index=True)
    needed, inverse = np.unique(np.searchsorted(distinct, wanted), return_inverse=True)
    return fingerprint_keys([canonical(prompts[row]) for row in first[needed].tolist()])[inverse]


def _priority(evidence: NDArray[np.float64], text: NDArray[np.uint64], salt: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Weight over a number in (0, 1] that account and text decide, so that a prompt's priority never changes."""
    chance = (_mixed(text ^ salt) >> np.uint64(11)).astype(np.float64) + 1.0
    weight = np.exp(_TILT * np.clip(evidence.astype(np.float32).astype(np.float64), -2.0, 2.0))
    return np.asarray(weight / (chance / 2.0**53))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed = values * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    return mixed * np.uint64(0xBF58476D1CE4E5B9)


def _deduplicated(items: Items) -> Items:
    """One item for each text of an account, with the counts added; the first one sent stands for all."""
    order = np.lexsort((items.at, items.text, items.owner))
    items = items.take(order)
    begins = np.flatnonzero(
        np.append(True, (np.diff(items.owner) != 0) | (np.diff(items.text.view(np.int64)) != 0))[: len(items)]
    )
    counts = np.add.reduceat(items.count, begins) if len(begins) else items.count
    return dataclasses.replace(items.take(begins), count=counts)


def _top(items: Items, limit: NDArray[np.float64], size: int) -> tuple[Items, NDArray[np.float64]]:
    """Items of each account's `size` highest priorities, none at or below its limit, and the limits that result."""
    order = np.lexsort((items.text, -items.priority, items.owner))
    owner = items.owner[order]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    priority = items.priority[order]
    spilt = rank >= size
    limit = limit.copy()
    np.maximum.at(limit, owner[spilt], priority[spilt])
    kept = ~spilt & (priority > limit[owner])
    return items.take(order[kept]), limit


def _summed(values: NDArray[np.float64], place: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    return np.bincount(place, weights=values.astype(np.float64), minlength=n).astype(np.float64)


def _extreme(chosen: np.ufunc, values: NDArray[np.float64], place: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """The least or the largest known value at each place, NaN where none is known."""
    found = np.full(n, np.nan)
    chosen.at(found, place, values)
    return found


def _lowest(values: NDArray[np.float64], place: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """The `N_LOWEST` smallest known values at each place, over all columns."""
    flat, owner = values.ravel(), np.repeat(place, values.shape[1])
    known = ~np.isnan(flat)
    flat, owner = flat[known], owner[known]
    order = np.lexsort((flat, owner))
    flat, owner = flat[order], owner[order]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    found = np.full((n, N_LOWEST), np.nan)
    small = rank < N_LOWEST
    found[owner[small], rank[small]] = flat[small]
    return found
