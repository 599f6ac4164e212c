"""Archive: sketches and campaigns kept between runs, so that tomorrow's traffic joins yesterday's campaigns unread.

A folder holds one generation of two Parquet files and `archive.json`, which is written last and names them: a run that
stops half-way leaves the generation before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serve.campaigns.findings import Campaign
from serve.campaigns.fingerprints import N_KEYS
from serve.campaigns.sketches import N_LOWEST, Items, Sketches
from serve.capability.capability_map import CapabilityMap
from serve.infrastructure.metadata_files import KeyedMetadata, read_stored, write_stored
from serve.io.discovery import Source
from serve.io.writers import check_seal, replacing, sealed, sha256

FORMAT_VERSION = 1
NAME = "archive.json"
_MIN_OVERLAP, _MAX_TIME = 0.5, 253_402_300_799.0  # a share of accounts; the last second of the year 9999
_FAULTS = (OSError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, pa.ArrowException)


@dataclass(frozen=True)
class Archive:
    """What earlier runs left: sketches (None before the first), accounts by campaign id, sources read, generation; and
    where they had a key for it, the accounts' metadata with what tells that key from others."""

    sketches: Sketches | None
    campaigns: Mapping[str, frozenset[str]]
    sources: frozenset[tuple[str, int, int]]
    generation: int
    metadata: KeyedMetadata | None = None

    @classmethod
    def load(cls, folder: Path, bundle_id: str) -> Self:
        """Read a folder; one that isn't there or is empty is an archive before the first run.

        Raises:
            ValueError: when it was written with another bundle or release, or can't be read.
        """
        path = folder / NAME
        if not path.is_file():
            if folder.is_dir() and any(folder.iterdir()):
                raise ValueError(f"{folder} is not empty and holds no {NAME}, expected an archive or a new folder")
            return cls(None, {}, frozenset(), 0)
        try:
            listed = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(listed["format_version"], int) or listed["format_version"] != FORMAT_VERSION:
                version = repr(listed["format_version"])[:20]
                raise ValueError(f"{path} has format version {version}, this release reads {FORMAT_VERSION}")
            if listed["bundle"] != bundle_id:
                other = str(listed["bundle"])[:64]
                raise ValueError(f"{path} was made with bundle {other}, not {bundle_id}: sketches don't compare")
            check_seal(listed)
            generation = _generation(listed["generation"])
            key = listed.get("metadata_key")
            _check_files(_paths(folder, generation, with_metadata=key is not None), listed.get("files"))
            sketches = read_sketches(folder, generation)
            _check(sketches)
            return cls(
                sketches=sketches,
                campaigns={name: frozenset(map(_text, accounts)) for name, accounts in listed["campaigns"].items()},
                sources=frozenset((_text(name), int(size), int(at)) for name, size, at in listed["sources"]),
                generation=generation,
                metadata=None if key is None else read_stored(_paths(folder, generation)[2], _text(key)),
            )
        except json.JSONDecodeError as fault:
            raise ValueError(f"{folder} can't be read as an archive (JSONDecodeError)") from fault
        except ValueError as fault:
            said = str(fault) if not isinstance(fault, UnicodeError) else type(fault).__name__
            raise ValueError(said if said.startswith(str(folder)) else f"{folder} holds no archive: {said}") from fault
        except _FAULTS as fault:
            raise ValueError(f"{folder} can't be read as an archive ({type(fault).__name__})") from fault

    def check(self, folder: Path, capabilities: CapabilityMap) -> None:
        """Refuse sketches that aren't of this map.

        Raises:
            ValueError: naming the column, what was found and what was expected.
        """
        if self.sketches is None:
            return
        items, n_dims = self.sketches.items, capabilities.cells.shape[1]
        if items.vector.shape[1] != n_dims:
            raise ValueError(f"{folder} holds vectors of {items.vector.shape[1]} dimensions, expected {n_dims}")
        columns = {
            "area": (items.area, len(capabilities.areas)), "skill": (items.skill, len(capabilities.skills)),
            "cell": (items.cell, len(capabilities.cells)),
        }  # fmt: skip
        for name, (found, size) in columns.items():
            if (highest := int(found.max(initial=-1))) >= size:
                raise ValueError(f"{folder} holds the {name} {highest}, expected up to {size - 1}")

    def knows(self, source: Source) -> bool:
        """Whether this very file was read before."""
        return _mark(source) in self.sources

    def joined(self, sketches: Sketches) -> Sketches:
        """These sketches together with those of earlier runs."""
        return sketches if self.sketches is None else Sketches.joined([self.sketches, sketches])

    def renamed(self, campaigns: Sequence[Campaign]) -> tuple[Campaign, ...]:
        """The campaigns, each with the id of the earlier one that most of the smaller one's accounts belong to.

        An earlier id goes to one campaign only, that with the largest overlap.
        """
        claims = sorted(
            (-overlap, name, position)
            for position, campaign in enumerate(campaigns)
            for name, accounts in self.campaigns.items()
            if (overlap := len(accounts & campaign.account_ids))
            >= _MIN_OVERLAP * min(len(accounts), len(campaign.account_ids))
        )
        given: dict[int, str] = {}
        for _, name, position in claims:
            if position not in given and name not in given.values():
                given[position] = name
        return tuple(
            replace(campaign, campaign_id=given.get(position, campaign.campaign_id))
            for position, campaign in enumerate(campaigns)
        )

    def save(
        self, folder: Path, bundle_id: str, sketches: Sketches, campaigns: Sequence[Campaign],
        sources: Iterable[Source], metadata: KeyedMetadata | None = None,
    ) -> None:  # fmt: skip
        """Write the next generation and remove the one before; campaigns that weren't found again keep their ids."""
        folder.mkdir(parents=True, exist_ok=True)
        generation = self.generation + 1
        paths = _paths(folder, generation, with_metadata=metadata is not None)
        write_sketches(folder, generation, sketches)
        if metadata is not None:
            write_stored(paths[2], metadata)
        kept = {name: sorted(accounts) for name, accounts in self.campaigns.items()}
        kept |= {campaign.campaign_id: sorted(campaign.account_ids) for campaign in campaigns}
        listed = {
            "format_version": FORMAT_VERSION,
            "bundle": bundle_id,
            "generation": generation,
            "files": {file.name: sha256(file) for file in paths},
            "campaigns": kept,
            "sources": sorted(self.sources | {_mark(source) for source in sources}),
        }
        if metadata is not None:
            listed["metadata_key"] = metadata.key_id
        with replacing(folder / NAME) as part:
            part.write_text(json.dumps(sealed(listed), ensure_ascii=False), encoding="utf-8")
        for stale in _paths(folder, self.generation):
            stale.unlink(missing_ok=True)


def _generation(given: object) -> int:
    if not isinstance(given, int) or not 0 < given < 10**9:
        raise ValueError(f"generation is {str(given)[:20]}, expected a number from 1")
    return given


def _text(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError
    return given


def _check_files(paths: Sequence[Path], listed: Mapping[str, str] | None) -> None:
    """Refuse files that aren't as they were written; an archive of an earlier release lists no digests."""
    for path in paths:
        if listed is not None and (found := sha256(path)) != listed[path.name]:
            raise ValueError(f"{path} has sha256 {found}, expected {str(listed[path.name])[:64]}")


def _mark(source: Source) -> tuple[str, int, int]:
    return (str(Path(source.path).resolve()), source.size, source.modified_ns)


def _paths(folder: Path, generation: int, *, with_metadata: bool = True) -> tuple[Path, ...]:
    names = ("accounts", "items", "metadata")[: 3 if with_metadata else 2]
    return tuple(folder / f"{name}-{generation:06}.parquet" for name in names)


_ACCOUNT_COLUMNS = ("n_exchanges", "n_sessions", "first_at", "last_at", "limit")
_ACCOUNT_ROWS = ("hours", "lowest")
_ITEM_COLUMNS = ("owner", "text", "count", "priority", "area", "skill", "cell", "at")
_ITEM_ROWS = ("evidence", "vector", "keys")


def sketch_paths(folder: Path, generation: int) -> tuple[Path, ...]:
    """The files of a generation of sketches."""
    return _paths(folder, generation, with_metadata=False)


def write_sketches(folder: Path, generation: int, sketches: Sketches) -> None:
    """Write the files of `sketch_paths`."""
    accounts = {"account_id": pa.array(sketches.account_ids, pa.string())}
    accounts |= {name: pa.array(getattr(sketches, name)) for name in _ACCOUNT_COLUMNS}
    accounts |= {name: _rows(getattr(sketches, name)) for name in _ACCOUNT_ROWS}
    items = {name: pa.array(getattr(sketches.items, name)) for name in _ITEM_COLUMNS}
    items |= {name: _rows(getattr(sketches.items, name)) for name in _ITEM_ROWS}
    for path, columns in zip(sketch_paths(folder, generation), (accounts, items), strict=True):
        with replacing(path) as part:
            pq.write_table(pa.table(columns), part, compression="zstd", row_group_size=200_000)


def read_sketches(folder: Path, generation: int) -> Sketches:
    """Read what `write_sketches` wrote, unchecked."""
    accounts, items = sketch_paths(folder, generation)
    columns = {name: _column(accounts, name).to_numpy() for name in _ACCOUNT_COLUMNS}
    columns |= {name: _matrix(accounts, name) for name in _ACCOUNT_ROWS}
    kept = {name: _column(items, name).to_numpy() for name in _ITEM_COLUMNS}
    kept |= {name: _matrix(items, name) for name in _ITEM_ROWS}
    names = tuple(_column(accounts, "account_id").to_pylist())
    return Sketches(account_ids=names, items=Items(**kept), **columns)


def _check(sketches: Sketches) -> None:
    """Refuse columns of another shape or kind than a sketch has, and values that none can have."""
    n, n_items = len(sketches), len(sketches.items)
    accounts = {
        "n_exchanges": ("i8", (n,)), "n_sessions": ("i8", (n,)), "first_at": ("f8", (n,)), "last_at": ("f8", (n,)),
        "hours": ("i8", (n, 24)), "lowest": ("f8", (n, N_LOWEST)), "limit": ("f8", (n,)),
    }  # fmt: skip
    items = {
        "owner": ("i8", ()), "text": ("u8", ()), "count": ("i8", ()), "priority": ("f8", ()),
        "evidence": ("f4", _width(sketches.items.evidence)), "vector": ("i1", _width(sketches.items.vector)),
        "area": ("i2", ()), "skill": ("i2", ()), "cell": ("i2", ()), "keys": ("u8", (N_KEYS,)), "at": ("f8", ()),
    }  # fmt: skip
    for name, (kind, shape) in accounts.items():
        _require(name, getattr(sketches, name), kind, shape)
    for name, (kind, shape) in items.items():
        _require(f"items' {name}", getattr(sketches.items, name), kind, (n_items, *shape))
    _check_values(sketches)


def _check_values(sketches: Sketches) -> None:
    items, n = sketches.items, len(sketches)
    if len(set(sketches.account_ids)) != n or not all(isinstance(name, str) and name for name in sketches.account_ids):
        raise ValueError("account ids repeat or are no texts, expected one text an account")
    at_least: dict[str, tuple[NDArray[Any], float]] = {
        "n_exchanges": (sketches.n_exchanges, 1), "n_sessions": (sketches.n_sessions, 1), "hours": (sketches.hours, 0),
        "limit": (sketches.limit, 0.0), "items' count": (items.count, 1), "items' priority": (items.priority, 0.0),
        "items' area": (items.area, -1), "items' skill": (items.skill, -1), "items' cell": (items.cell, -1),
    }  # fmt: skip
    for name, (found, low) in at_least.items():
        if not (found >= low).all() or not np.isfinite(found).all():
            raise ValueError(f"{name} has {found[~(found >= low)][:1]}, expected finite values from {low}")
    if not np.isfinite(items.evidence).all() or ((sketches.lowest < 0.0) | (sketches.lowest > 1.0)).any():
        raise ValueError("items' evidence isn't finite, or a p-value lies outside 0 to 1")
    owner = items.owner
    if len(owner) and (owner[0] < 0 or owner[-1] >= n or (np.diff(owner) < 0).any()):
        raise ValueError(f"items' owner isn't sorted within 0 to {n - 1}")
    times = np.concatenate([sketches.first_at, sketches.last_at, items.at])
    if (np.abs(times) > _MAX_TIME).any():
        raise ValueError(f"a time lies beyond {_MAX_TIME:.0f} seconds")


def _width(found: NDArray[np.generic]) -> tuple[int, ...]:
    """Columns of a matrix, as a shape that nothing else has."""
    return (found.shape[1] if found.ndim == 2 else -1,)


def _require(name: str, found: NDArray[np.generic], kind: str, shape: tuple[int, ...]) -> None:
    if found.dtype != np.dtype(kind) or found.shape != shape:
        raise ValueError(f"{name} is {found.dtype} {found.shape}, expected {np.dtype(kind)} {shape}")


def _column(path: Path, name: str) -> pa.ChunkedArray:
    """One column; they are read one at a time, since a large archive as a table and as arrays doesn't fit twice."""
    column = pq.read_table(path, columns=[name]).column(name)
    if column.null_count:
        raise ValueError(f"{path} has {column.null_count} nulls in {name}, expected none")
    return column


def _rows(matrix: NDArray[np.generic]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(matrix).ravel()), matrix.shape[1])


def _matrix(path: Path, name: str) -> NDArray[np.generic]:
    """A column of lists of one length, filled in batch by batch."""
    with pq.ParquetFile(path) as file:
        kind = file.schema_arrow.field(name).type
        if not pa.types.is_fixed_size_list(kind):
            raise ValueError(f"{path} has {name} as {kind}, expected lists of one length")
        matrix = np.empty((file.metadata.num_rows, kind.list_size), pa.array([], kind.value_type).to_numpy().dtype)
        first = 0
        for batch in file.iter_batches(columns=[name], use_threads=False):
            matrix[first : first + len(batch)] = batch.column(0).flatten().to_numpy().reshape(-1, kind.list_size)
            first += len(batch)
    pa.default_memory_pool().release_unused()
    return matrix
