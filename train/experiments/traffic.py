"""Traffic: composed sessions written as exchange files in the public format, with their labels beside.

`python -m train.traffic OUT` writes traffic of the starter corpus, or of corpora in a folder.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from serve.bundle.bundle import RELEASED, Bundle
from train.encoders.prompt_cache import PromptCache
from train.synthesis.compose import Composer, ComposeSettings, Composition
from train.corpora.loading import CorporaSettings, load_pool
from train.evaluation.exam import ExamSettings, exam_composition
from train.inputs.prepared_inputs import Inputs
from train.learning.model import topics
from train.corpora.pool import Pool
from train.synthesis.arrival_times import Timing

EXCHANGES = "exchanges.jsonl.gz"
LABELS = "labels.jsonl"
HELD_OUT = Path("mlruns") / "held_out"
_LABEL_OF_KIND = {"harvest": "harvesting", "evaluation": "evaluation"}


def write_held_out(inputs: Inputs, cache: PromptCache, settings: ExamSettings, name: str, *, seed: int) -> Path | None:
    """Write exam sessions, which nothing was learned from, to a folder of this name; None where nothing is held out."""
    fold = inputs.fold
    if fold is None or not fold.held_campaigns:
        return None
    composition, _ = exam_composition(inputs.pool, fold, cache, inputs.timing, settings, seed=seed)
    return write_traffic(composition, inputs.pool, HELD_OUT / name)


def compose_traffic(pool: Pool, bundle: Bundle, n_sessions: int, *, seed: int) -> Composition:
    """A mix of every kind, length and dilution, with topics as the bundle's map has them."""
    cache = PromptCache(bundle.encoder, bundle.capabilities)
    rows = np.arange(len(pool))
    composer = Composer(pool, rows, topics(pool, cache), Timing.default(), seed=seed)
    return composer.mixed(n_sessions, ComposeSettings())


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Write traffic to a folder."""
    parser = argparse.ArgumentParser(prog="python -m train.traffic", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument("--sessions", type=int, default=200, help="how many sessions (default: 200)")
    parser.add_argument("--corpora", metavar="DIR", help="folder with CARDS.json (default: the starter corpus)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parquet", action="store_true", help="Parquet instead of JSON lines")
    parser.add_argument("--bundle", type=Path, default=RELEASED, metavar="DIR", help="whose map tells topics apart")
    given = parser.parse_args(arguments)
    corpora = CorporaSettings(dir=given.corpora, starter=given.corpora is None, starter_prompts=12_000)
    try:
        pool = load_pool(corpora, seed=given.seed)
        composition = compose_traffic(pool, Bundle.load(given.bundle), given.sessions, seed=given.seed)
    except ValueError as fault:
        sys.stderr.write(f"traffic: {fault}\n")
        return 2
    write_traffic(composition, pool, given.out, as_parquet=given.parquet)
    sys.stdout.write(f"{len(composition):,} sessions, {len(composition.rows):,} exchanges in {given.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
