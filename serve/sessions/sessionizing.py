"""Sessionizing: checked exchanges in any order become sessions, each account's exchanges in order of time.

A session is what carries one `session_id` of one account; without an id, an account's exchanges are cut where it pauses
for more than half an hour, and at 200 exchanges. Exchanges of equal time are ordered by their content; those without a
time come after the others, as they came in. So the same exchanges make the same sessions, however they are shuffled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve.sessions.chunking import chunk_bounds
from serve.sessions.records import Sessions

GAP_SECONDS = 1800.0
"""A longer pause ends a session that has no id."""
MAX_EXCHANGES = 200
"""Exchanges of a session that has no id."""
MAX_GIVEN_EXCHANGES = 20_000
"""Exchanges of a session that has an id: beyond it, it goes on as `id-2`, so that memory is bounded."""

_HASH_CHUNK = 20_000


@dataclass(frozen=True)
class Timeline:
    """Sessions as bounds in an order of rows: session i owns the rows `order[offsets[i]:offsets[i + 1]]` of `table`.

    Sessions are sorted by the hash of their account, account, given id (none first) and time.
    """

    table: pa.Table
    order: NDArray[np.int64]
    offsets: NDArray[np.int64]
    account_ids: pa.Array
    session_ids: pa.Array

    def __len__(self) -> int:
        return len(self.account_ids)

    @classmethod
    def of(cls, table: pa.Table) -> Self:
        """Sessions of a table of checked exchanges (`rows.SCHEMA`)."""
        accounts, owner = _accounts(table.column("account_id"))
        ids, given = _given_ids(table.column("session_id"))
        at = _times(table.column("at"))
        unit = owner * (len(ids) + 1) + given + 1
        order = _settle_ties(np.lexsort((at, unit)), unit, at, table.column("prompt"))
        begins = _begins(unit[order], at[order], given[order] >= 0)
        firsts = order[begins]
        account_ids = accounts.take(pa.array(owner[firsts]))
        names = _names(account_ids, ids.take(pa.array(given[firsts], mask=given[firsts] < 0)), at[firsts])
        return cls(
            table=table,
            order=order,
            offsets=np.append(begins, len(order)),
            account_ids=account_ids,
            session_ids=_told_apart(names, unit[firsts]),
        )

    def owners(self) -> NDArray[np.int64]:
        """The account of each session, 0, 1, 2 and so on, shape (n_sessions,)."""
        codes = self.account_ids.dictionary_encode().indices  # in order of appearance, and accounts lie together
        return np.asarray(codes.to_numpy(zero_copy_only=False), dtype=np.int64)

    def chunks(self, n_prompts: int) -> Iterator[Sessions]:
        """Consecutive sessions of about `n_prompts` prompts; no session is cut, no more than a chunk is in memory."""
        return (self.sessions(start, stop) for start, stop in chunk_bounds(self.offsets, n_prompts))

    def sessions(self, start: int, stop: int) -> Sessions:
        """Sessions `start` to `stop` (exclusive) with their prompts."""
        low, high = int(self.offsets[start]), int(self.offsets[stop])
        rows = pa.array(self.order[low:high])
        return Sessions(
            session_ids=tuple(self.session_ids[start:stop].to_pylist()),
            account_ids=tuple(self.account_ids[start:stop].to_pylist()),
            offsets=self.offsets[start : stop + 1] - low,
            prompts=tuple(self.table.column("prompt").take(rows).to_pylist()),
            at=np.asarray(self.table.column("at").take(rows).to_numpy(), dtype=np.float64),
        )


def text_hashes(texts: pa.Array) -> NDArray[np.uint64]:
    """A number of 64 bits for each text, the same on every machine; partitions and the order of verdicts follow it."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts.to_pylist())
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _accounts(column: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64]]:
    """Distinct accounts in order of hash, then name; and the index of each row's account among them."""
    names, codes = _encoded(column)
    by_name = pc.array_sort_indices(names).to_numpy()
    order = by_name[np.argsort(text_hashes(names)[by_name], kind="stable")]
    return names.take(pa.array(order)), _positions(order)[codes]


def _given_ids(column: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64]]:
    """Distinct session ids in order; and the index of each row's id among them, -1 where it has none."""
    names, codes = _encoded(column)
    order = pc.array_sort_indices(names).to_numpy().astype(np.int64)
    return names.take(pa.array(order)), np.where(codes >= 0, np.append(_positions(order), -1)[codes], -1)


def _encoded(column: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64]]:
    encoded = pa.concat_arrays(column.chunks or [pa.array([], column.type)]).dictionary_encode()
    return encoded.dictionary, encoded.indices.fill_null(-1).to_numpy().astype(np.int64)


def _positions(order: NDArray[np.int64]) -> NDArray[np.int64]:
    positions = np.empty(len(order), dtype=np.int64)
    positions[order] = np.arange(len(order))
    return positions


def _times(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Times with infinity in place of NaN, so that what has none comes last."""
    at = np.asarray(column.to_numpy(), dtype=np.float64)
    return np.where(np.isnan(at), np.inf, at)


def _settle_ties(
    order: NDArray[np.int64], unit: NDArray[np.int64], at: NDArray[np.float64], prompts: pa.ChunkedArray
) -> NDArray[np.int64]:
    """The order with rows of equal unit and equal known time sorted by a hash of their prompt."""
    same = (np.diff(unit[order]) == 0) & (at[order][1:] == at[order][:-1]) & np.isfinite(at[order][1:])
    if not same.any():
        return order
    tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    runs = np.cumsum(~np.insert(same, 0, False))[tied]
    settled = order.copy()
    settled[tied] = order[tied][np.lexsort((_prompt_hashes(prompts, order[tied]), runs))]
    return settled


def _prompt_hashes(prompts: pa.ChunkedArray, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    hashes = [
        text_hashes(pa.concat_arrays(prompts.take(pa.array(rows[start : start + _HASH_CHUNK])).chunks))
        for start in range(0, len(rows), _HASH_CHUNK)
    ]
    return np.concatenate(hashes)


def _begins(unit: NDArray[np.int64], at: NDArray[np.float64], has_id: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Positions where a session begins, given rows in order."""
    if not len(unit):
        return np.zeros(0, dtype=np.int64)
    known = np.isfinite(at)
    paused = known[1:] & known[:-1] & (np.diff(np.where(known, at, 0.0)) > GAP_SECONDS) & ~has_id[1:]
    breaks = np.insert((np.diff(unit) != 0) | paused, 0, True)
    positions = np.arange(len(unit))
    since = positions - np.maximum.accumulate(np.where(breaks, positions, 0))
    full = since % np.where(has_id, MAX_GIVEN_EXCHANGES, MAX_EXCHANGES) == 0
    return np.flatnonzero(breaks | full)


def _names(account_ids: pa.Array, given: pa.Array, started_at: NDArray[np.float64]) -> pa.Array:
    """The given id, or account and beginning: `a1/20260203T101500Z`, `a1/untimed` where no time is known."""
    known = np.isfinite(started_at)
    seconds = pa.array(np.floor(np.where(known, started_at, 0.0)).astype(np.int64), mask=~known)
    stamps = pc.strftime(seconds.cast(pa.timestamp("s", "UTC")), "%Y%m%dT%H%M%SZ").cast(pa.large_string())
    made = pc.binary_join_element_wise(account_ids, stamps.fill_null("untimed"), pa.scalar("/", pa.large_string()))
    return pc.coalesce(given, made)


def _told_apart(names: pa.Array, unit: NDArray[np.int64]) -> pa.Array:
    """The names, with `-2`, `-3` added to those of a unit that follow one of the same name."""
    if len(names) < 2:
        return names
    same = np.insert(pc.equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False) & (np.diff(unit) == 0), 0, False)
    if not same.any():
        return names
    positions = np.arange(len(same))
    nth = positions - np.maximum.accumulate(np.where(same, 0, positions)) + 1
    suffixes = pa.array([f"-{n}" if n > 1 else "" for n in nth.tolist()], pa.large_string())
    return pc.binary_join_element_wise(names, suffixes, pa.scalar("", pa.large_string()))
