"""What drift compares: traffic as its verdicts show it, and what is usual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serve.bundle.bundle import Bundle
from serve.io.discovery import InputError
from serve.model.benign_profile import LETTERS, BenignProfile, p_counts
from serve.sessions.size_classes import SIZE_EDGES, size_class

MIN_PSI = 0.6
"""Stability index of a feature below which nothing alarms beside a bundle's benign sessions: those are of other people,
and one in a hundred draws of other people of the same sources was above it, at 0.62 (tests/bench/bench_drift.py)."""
MIN_PSI_EARLIER = 0.25
"""Likewise beside earlier traffic of the same people, and for areas and scores; commonly called large."""
_COLUMNS = ("account_id", "n_exchanges", "p_value", "area_share", "profile", "bundle")


@dataclass(frozen=True)
class Traffic:
    """What is compared of verdicts, as columns (n_sessions,): `codes` (n_sessions, n_features) are letters as numbers,
    `area_share` (n_sessions, n_areas + 1)."""

    codes: NDArray[np.int64]
    n_exchanges: NDArray[np.int64]
    p_value: NDArray[np.float64]
    area_share: NDArray[np.float64]
    n_effective: float

    @classmethod
    def read(cls, paths: Sequence[Path], bundle: Bundle) -> Self:
        """Read files of verdicts.

        Raises:
            InputError: when a file isn't verdicts of this bundle, or has no profiles.
        """
        table = pa.concat_tables([_table(path, bundle) for path in paths])
        names = [*bundle.capabilities.areas, "none"]
        n_features = len(bundle.manifest["features"])
        profiles = table.column("profile").to_pylist()
        if wrong := [profile for profile in profiles if profile is None or len(profile) != n_features]:
            raise InputError(f"{len(wrong)} of {len(profiles)} verdicts have no profile of {n_features} letters")
        letters = np.frombuffer("".join(profiles).encode(), dtype=np.uint8).reshape(-1, n_features).astype(np.int64)
        codes = letters - ord(LETTERS[0])
        if len(codes) and (codes.min() < 0 or codes.max() >= len(LETTERS)):
            raise InputError(f"a profile holds other letters than {LETTERS[0]} to {LETTERS[-1]}")
        _, sizes = np.unique(table.column("account_id").to_numpy(zero_copy_only=False), return_counts=True)
        return cls(
            codes=codes,
            n_exchanges=np.asarray(table.column("n_exchanges").to_numpy(), dtype=np.int64),
            p_value=np.asarray(table.column("p_value").to_numpy(), dtype=np.float64),
            area_share=_shares(table.column("area_share"), names),
            n_effective=float(sizes.sum()) ** 2 / max(float((sizes.astype(np.float64) ** 2).sum()), 1.0),
        )

    def __len__(self) -> int:
        return len(self.n_exchanges)


@dataclass(frozen=True)
class Reference:
    """What is usual of `n_sessions` sessions: shares of each letter (n_features, len(LETTERS)), of each bin of p-values
    and of each area; a feature alarms from a stability index of `min_psi` at the least.
    """

    name: str
    letters: NDArray[np.float64]
    p_bins: NDArray[np.float64]
    area_mix: NDArray[np.float64]
    n_sessions: float
    min_psi: float

    @classmethod
    def of_bundle(cls, benign: BenignProfile, n_exchanges: NDArray[np.int64]) -> Self:
        """Benign sessions that the bundle was trained with, of the sizes at hand."""
        weight = np.bincount(size_class(n_exchanges), minlength=len(SIZE_EDGES)) / max(len(n_exchanges), 1)
        used = weight > 0
        n_sessions = 1.0 / max(float((weight[used] ** 2 / np.maximum(benign.n_sessions[used], 1)).sum()), 1e-12)
        return cls(
            "the bundle's benign sessions", np.einsum("c,cfl->fl", weight, benign.shares.astype(np.float64)),
            weight @ benign.p_shares, weight @ benign.area_mix, n_sessions, MIN_PSI,
        )  # fmt: skip

    @classmethod
    def of_traffic(cls, earlier: Traffic) -> Self:
        """Traffic of another time."""
        letters = [np.bincount(column, minlength=len(LETTERS)) for column in earlier.codes.T]
        n = max(len(earlier), 1)
        return cls(
            "earlier verdicts", np.array(letters) / n, p_counts(earlier.p_value) / n, earlier.area_share.mean(axis=0),
            earlier.n_effective, MIN_PSI_EARLIER,
        )  # fmt: skip


def _table(path: Path, bundle: Bundle) -> pa.Table:
    if not path.is_file():
        raise InputError(f"{path} is not there, expected a file of verdicts")
    try:
        table = pq.read_table(path) if path.suffix.lower() == ".parquet" else _json_table(path)
    except (pa.ArrowException, ValueError, OSError) as fault:
        raise InputError(f"{path} can't be read as verdicts: {type(fault).__name__}") from fault
    if missing := [name for name in _COLUMNS if name not in table.column_names]:
        raise InputError(f"{path}: has no {', '.join(missing)}; expected what stillwatch score writes")
    table = table.select(list(_COLUMNS))
    for name in ("n_exchanges", "p_value"):
        if table.column(name).null_count:
            raise InputError(f"{path}: column {name} has {table.column(name).null_count} nulls, expected none")
    if strange := set(table.column("bundle").unique().to_pylist()) - {bundle.bundle_id}:
        raise InputError(
            f"{path}: verdicts of bundle {sorted(map(str, strange))[0]}, expected of {bundle.bundle_id}: letters of a"
            " profile mean something to one bundle only"
        )
    return table


def _json_table(path: Path) -> pa.Table:
    if not path.stat().st_size:
        return pa.table({name: pa.array([], pa.string()) for name in _COLUMNS})
    return pj.read_json(path)


def _shares(column: pa.ChunkedArray, names: Sequence[str]) -> NDArray[np.float64]:
    """Shares by name, shape (n_sessions, n_names), from maps (Parquet) or objects (JSON)."""
    code = {name: index for index, name in enumerate(names)}
    shares = np.zeros((len(column), len(names)))
    for row, entries in enumerate(column.to_pylist()):
        for name, share in entries.items() if isinstance(entries, dict) else entries or ():
            if name in code and share is not None:
                shares[row, code[name]] = share
    return shares
