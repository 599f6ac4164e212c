"""Traffic files: composed sessions written as exchange files in the public format, with their labels beside."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from train.corpora.pool import Pool
from train.synthesis.composition import Composition

EXCHANGES = "exchanges.jsonl.gz"
LABELS = "labels.jsonl"
HELD_OUT = Path("mlruns") / "held_out"
_LABEL_OF_KIND = {"harvest": "harvesting", "evaluation": "evaluation"}


def write_traffic(composition: Composition, pool: Pool, folder: Path, *, as_parquet: bool = False) -> Path:
    """Write `exchanges.jsonl.gz` (or `exchanges.parquet`) and `labels.jsonl`, one row a session, to a folder; the same
    bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)
    if as_parquet:
        pq.write_table(pa.Table.from_pylist(list(exchange_rows(composition, pool)), _SCHEMA), folder / PARQUET)
    else:
        _write_lines(composition, pool, folder / EXCHANGES)
    with (folder / LABELS).open("wb") as labels:
        labels.writelines(_line(row) for row in label_rows(composition))
    return folder


PARQUET = "exchanges.parquet"
_SCHEMA = pa.schema([
    ("account_id", pa.string()), ("session_id", pa.string()), ("at", pa.float64()), ("prompt", pa.string()),
    ("system", pa.string()),
])  # fmt: skip


def _write_lines(composition: Composition, pool: Pool, path: Path) -> None:
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as file,
    ):
        for row in exchange_rows(composition, pool):
            file.write(_line(row))


def exchange_rows(composition: Composition, pool: Pool) -> Iterator[dict[str, Any]]:
    """One row an exchange, in the public format; all of them in order of time."""
    owner = np.repeat(np.arange(len(composition)), np.diff(composition.offsets))
    texts = composition.texts(pool)
    for index in np.argsort(composition.at, kind="stable").tolist():
        session = int(owner[index])
        row = {"account_id": account_name(session), "session_id": _session(session), "at": float(composition.at[index])}
        system = pool.systems[int(composition.rows[index])]
        yield {**row, "prompt": texts[index]} | ({"system": system} if system else {})


def label_rows(composition: Composition) -> Iterator[dict[str, Any]]:
    """One row a session: its label, kind, campaign (or organic source), dilution and size."""
    for index, kind in enumerate(composition.kind.tolist()):
        yield {
            "session_id": _session(index),
            "account_id": account_name(index),
            "label": _LABEL_OF_KIND.get(kind, "organic"),
            "kind": kind,
            "campaign": str(composition.campaign[index]),
            "dilution": float(composition.dilution[index]),
            "n_exchanges": int(composition.offsets[index + 1] - composition.offsets[index]),
        }


def account_name(index: int) -> str:
    """The account of the session at this place, as written."""
    return f"account-{index:06d}"


def _session(index: int) -> str:
    return f"session-{index:06d}"


def _line(row: dict[str, Any]) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()
