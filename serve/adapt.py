"""Adapt: a bundle that knows a provider's own benign traffic, from the stored rows of another bundle and that traffic.

Accounts are dealt into two halves. From one the classifier learns what is benign here, beside the rows that the bundle
was learned from; with the other, whom it has never seen, it is calibrated. Encoder, map and evidence stay as they are.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from serve.benign import Benign
from serve.bundle import BENIGN, CALIBRATION, CLASSIFIER, EXPERTS, FEATURES, MANIFEST, REFERENCE, Bundle, write_manifest
from serve.calibration import SIZE_EDGES, Calibration, size_class
from serve.classifier import Classifier
from serve.coverage import CellCounts
from serve.exchanges import read
from serve.features import feature_rows, observe
from serve.fitting import ClassifierSettings, Rows, benign_quantiles, calibrate, fit
from serve.progress import Progress
from serve.rows import SCHEMA
from serve.session import Sessions
from serve.sources import discover, plan
from serve.systematicness import CoverageNull
from serve.timeline import Timeline

MIN_ACCOUNTS = 40
MAX_FLAGGED = 0.5
"""Share of sessions that the old bundle may flag; traffic with more of them is hardly benign."""

_UPPER = 120
_N_WINDOWS = 400  # sessions of each size class that each half gives at most, more where a small FPR needs them
_ENOUGH = 2.0  # sessions to calibrate on, in units of 1 / FPR, below which a size class borrows from its neighbours
_OWN_SHARE = 0.5  # weight of own traffic against the weight of all organic rows that the bundle was learned from
_SLICE_BYTES, _CHUNK_PROMPTS = 128 << 20, 20_000
_N_FOLDS = 2


@dataclass(frozen=True, slots=True)
class Adapted:
    """What was made of how much, and the share of own sessions that were flagged: by the bundle as it was, and by one
    adapted without the accounts that this was measured on."""

    folder: Path
    bundle_id: str
    n_exchanges: int
    n_rejected: int
    n_accounts: int
    n_learned: int
    n_calibrated: int
    fpr: float
    flagged_before: float
    flagged_after: float


@dataclass(frozen=True)
class _Half:
    """Sessions of one half of the accounts, as rows of features and as cells reached; `account` (n_sessions,)."""

    X: NDArray[np.float64]
    n_exchanges: NDArray[np.int64]
    account: NDArray[np.int64]
    counts: CellCounts


def adapt(inputs: Sequence[Path], out: Path, bundle: Path, progress: Progress, *, fpr: float | None = None) -> Adapted:
    """Write a bundle to the folder `out`, which must not be there yet, from benign exchanges in files.

    Raises:
        ValueError: when the share `fpr` is none, the traffic is too small for it, or the old bundle finds most of the
            traffic harvesting.
        InputError: when a file can't be read.
        BundleError: when the old bundle can't be trusted.
    """
    if out.exists():
        raise ValueError(f"{out} is there already, expected a new folder")
    old = Bundle.load(bundle)
    fpr = float(old.manifest["fpr"]) if fpr is None else fpr
    if not 0.0 < fpr < 0.5:
        raise ValueError(f"fpr is {fpr}, expected a share above 0 and below 0.5")
    table, n_rejected = _read(inputs, progress)
    timeline = Timeline.of(table)
    quota = max(_N_WINDOWS, math.ceil(_ENOUGH / fpr))
    owner, is_calibration = _dealt(timeline.account_ids)
    if (n_accounts := int(owner.max(initial=-1)) + 1) < MIN_ACCOUNTS:
        raise ValueError(
            f"the exchanges are of {n_accounts} accounts, expected at least {MIN_ACCOUNTS}: half of them to learn "
            "from, half to calibrate on"
        )
    halves = [_half(old, timeline, owner, is_calibration == side, quota, progress) for side in (False, True)]
    learned, aside = halves
    n_needed = math.ceil(1.0 / fpr)
    if (n_best := int(np.bincount(size_class(aside.n_exchanges), minlength=1).max())) < n_needed:
        raise ValueError(
            f"at most {n_best} sessions of like size are there to calibrate on, expected at least {n_needed} for an "
            f"FPR of {fpr:g}: give more traffic, or a larger --fpr"
        )
    flagged = float((old.calibration.p_value(old.classifier.margins(aside.X), aside.n_exchanges) <= fpr).mean())
    if flagged > MAX_FLAGGED:
        raise ValueError(
            f"the bundle finds {flagged:.0%} of these sessions harvesting, expected at most {MAX_FLAGGED:.0%}: traffic "
            "to adapt to must be benign"
        )
    progress.begin("fit", 0)
    rows, campaign = _stored(old)
    own = _own(learned, rows)
    names = list(old.manifest["features"])
    judge = fit(rows.joined(own), names, ClassifierSettings(), seed=0)
    left_out = _left_out(rows.joined(own), [*campaign, *(f"own {a}" for a in learned.account.tolist())], names)
    margins = judge.margins(aside.X)
    calibration = _calibration(left_out, rows.joined(own).y, margins, aside.n_exchanges, fpr)
    parts = _Parts(judge, calibration, aside, rows, own, left_out)
    bundle_id = _write(old, out, parts, fpr, {
        "from": old.bundle_id, "n_exchanges": len(table), "n_accounts": n_accounts, "exchanges_sha256": _digest(table),
    })  # fmt: skip
    return Adapted(
        out, bundle_id, len(table), n_rejected, n_accounts, len(learned.X), len(aside.X), fpr, flagged,
        _realised(left_out, rows.joined(own).y, margins, aside, fpr),
    )  # fmt: skip


def told(made: Adapted) -> str:
    """What was made, in a few lines."""
    return "\n".join((
        f"bundle {made.bundle_id} in {made.folder}",
        f"from {made.n_exchanges:,} exchanges ({made.n_rejected:,} rejected) of {made.n_accounts:,} accounts: "
        f"{made.n_learned:,} sessions to learn from, {made.n_calibrated:,} of other accounts to calibrate on",
        f"flagged at an FPR of {made.fpr:g}: {made.flagged_before:.2%} as it was, {made.flagged_after:.2%} adapted "
        "(measured on accounts left out)",
    ))  # fmt: skip


def _read(inputs: Sequence[Path], progress: Progress) -> tuple[pa.Table, int]:
    progress.begin("read", 0)
    tables, n_rejected, n_rows = [SCHEMA.empty_table()], 0, 0
    for part in (part for share in plan(discover(inputs).sources, _SLICE_BYTES) for part in share):
        for batch in read(part):
            tables.append(batch.table)
            n_rejected += len(batch.rejects)
            n_rows += batch.n_rows
            progress.tell(n_rows, n_rows, "rows")
    return pa.concat_tables(tables), n_rejected


def _dealt(account_ids: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """A number of the account of each session, and whether that account is one to calibrate on (by a hash)."""
    encoded = account_ids.dictionary_encode()
    sides = [
        hashlib.blake2b(b"calibrate" + name.encode()).digest()[0] % 2 == 1 for name in encoded.dictionary.to_pylist()
    ]
    owner = np.asarray(encoded.indices.to_numpy(), dtype=np.int64)
    return owner, np.array(sides, dtype=np.bool_)[owner] if len(owner) else np.zeros(0, np.bool_)


def _half(
    old: Bundle, timeline: Timeline, owner: NDArray[np.int64], chosen: NDArray[np.bool_], quota: int, progress: Progress
) -> _Half:
    """Feature rows of windows of every size class over the chosen sessions."""
    windows = _windows(timeline, owner, np.flatnonzero(chosen), quota)
    rows, units, cells = [], [], []
    progress.begin("observe", 0)
    n_done = 0
    for chunk in _chunks(windows):
        sessions = _sessions(timeline, chunk)
        prompts = observe(sessions, old.encoder, old.capabilities, old.evidence)
        rows.append(feature_rows(prompts, old.capabilities))
        units.append(prompts.session_of + n_done)
        cells.append(prompts.assigned.cell.astype(np.int64))
        n_done += len(chunk)
        progress.tell(n_done, len(windows), "sessions")
    if not rows:
        raise ValueError("one half of the accounts has no sessions, expected some in each")
    counts = CellCounts.of(np.concatenate(units), np.concatenate(cells), len(windows))
    return _Half(np.concatenate(rows), windows[:, 2] - windows[:, 1], owner[windows[:, 0]], counts)


def _windows(timeline: Timeline, owner: NDArray[np.int64], chosen: NDArray[np.int64], quota: int) -> NDArray[np.int64]:
    """(session, first, last + 1) of up to `quota` windows of each size class: whole sessions where they fit, or pieces
    of longer ones; every account gives one before any gives another."""
    rng = np.random.default_rng(0)
    n = np.diff(timeline.offsets)
    found = []
    for low, high in zip(SIZE_EDGES, (*(edge - 1 for edge in SIZE_EDGES[1:]), _UPPER), strict=True):
        able = rng.permutation(chosen[n[chosen] >= low])
        turns: dict[int, int] = {}
        ranked = []
        for session in able.tolist():
            account = int(owner[session])
            for start in range(0, int(n[session]) - low + 1, high):
                turns[account] = turns.get(account, 0) + 1
                longest = min(high, int(n[session]) - start)
                size = longest if n[session] <= high else int(rng.integers(low, longest + 1))
                ranked.append((turns[account], session, start, start + size))
        ranked.sort(key=lambda window: window[0])
        found += [window[1:] for window in ranked[:quota]]
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def _chunks(windows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    ends = np.cumsum(windows[:, 2] - windows[:, 1])
    part = ends // _CHUNK_PROMPTS
    for index in np.unique(part):
        yield windows[part == index]


def _sessions(timeline: Timeline, windows: NDArray[np.int64]) -> Sessions:
    starts = timeline.offsets[windows[:, 0]]
    sizes = windows[:, 2] - windows[:, 1]
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows = timeline.order[np.repeat(starts + windows[:, 1] - bounds[:-1], sizes) + np.arange(bounds[-1])]
    return Sessions(
        session_ids=tuple(map(str, range(len(windows)))),
        account_ids=("",) * len(windows),
        offsets=bounds,
        prompts=tuple(timeline.table.column("prompt").take(pa.array(rows)).to_pylist()),
        at=np.full(len(rows), np.nan),
    )


def _stored(old: Bundle) -> tuple[Rows, list[str]]:
    """The rows that the old bundle was learned from, and the campaign or source of each."""
    table = old.training_rows()
    X = np.stack([table.column(name).to_numpy() for name in old.manifest["features"]], axis=1).astype(np.float64)
    # Dilutions are stored in single precision, in which 0.9 is another number.
    dilution = np.round(table.column("dilution").to_numpy().astype(np.float64), 4)
    rows = Rows(X, table.column("y").to_numpy().astype(np.int64), table.column("weight").to_numpy(), dilution)
    return rows, table.column("campaign").to_pylist()


def _own(learned: _Half, rows: Rows) -> Rows:
    weight = _OWN_SHARE * rows.weight[rows.y == 0].sum() / len(learned.X)
    zeros = np.zeros(len(learned.X))
    return Rows(learned.X, zeros.astype(np.int64), zeros + weight, zeros)


def _left_out(rows: Rows, campaign: Sequence[str], names: Sequence[str]) -> NDArray[np.float64]:
    """Margin of each row from a classifier that never saw its campaign, source or account."""
    first = [name.split("+")[0].encode() for name in campaign]
    part = np.array([hashlib.blake2b(name).digest()[0] % _N_FOLDS for name in first])
    margins = np.zeros(len(part))
    for fold in range(_N_FOLDS):
        held = part == fold
        margins[held] = fit(rows.where(~held), names, ClassifierSettings(), seed=0).margins(rows.X[held])
    return margins


def _calibration(
    left_out: NDArray[np.float64], y: NDArray[np.int64], margins: NDArray[np.float64], n: NDArray[np.int64], fpr: float
) -> Calibration:
    """Size classes that are too thin for the FPR borrow the margins of their neighbours, nearest first."""
    classes = size_class(n)
    n_enough = math.ceil(_ENOUGH / fpr)
    found, sizes = [], []
    for index in range(len(SIZE_EDGES)):
        own = np.zeros(0, dtype=np.int64)
        for distance in range(len(SIZE_EDGES)):
            own = np.flatnonzero(np.abs(classes - index) <= distance)
            if len(own) >= n_enough:
                break
        found.append(margins[own])
        sizes.append(np.full(len(own), SIZE_EDGES[index]))
    return calibrate(left_out, y, np.concatenate(found), np.concatenate(sizes))


def _realised(
    left_out: NDArray[np.float64], y: NDArray[np.int64], margins: NDArray[np.float64], aside: _Half, fpr: float
) -> float:
    """Share flagged of each half of the accounts set aside when the other half calibrates."""
    n_flagged = 0
    for side in (0, 1):
        held = aside.account % 2 == side
        if held.all() or not held.any():
            return float("nan")
        other = _calibration(left_out, y, margins[~held], aside.n_exchanges[~held], fpr)
        n_flagged += int((other.p_value(margins[held], aside.n_exchanges[held]) <= fpr).sum())
    return n_flagged / len(margins)


@dataclass(frozen=True)
class _Parts:
    judge: Classifier
    calibration: Calibration
    aside: _Half
    rows: Rows
    own: Rows
    left_out: NDArray[np.float64]


def _write(old: Bundle, out: Path, parts: _Parts, fpr: float, adapted: dict[str, object]) -> str:
    """Copy the old bundle to a temporary name, replace what has changed, and give it its name."""
    fresh = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(old.folder, fresh, ignore=shutil.ignore_patterns(MANIFEST, "__*", ".*"))
    names = tuple(old.manifest["features"])
    (fresh / CLASSIFIER).write_text(parts.judge.booster.model_to_string(), encoding="utf-8")
    save_file(parts.judge.experts.arrays(), fresh / EXPERTS)
    save_file(parts.calibration.arrays(), fresh / CALIBRATION)
    aside, capabilities = parts.aside, old.capabilities
    quantiles = np.ascontiguousarray(benign_quantiles(aside.X, aside.n_exchanges))
    save_file(load_file(fresh / REFERENCE) | {"benign_quantiles": quantiles}, fresh / REFERENCE)
    p_values = parts.calibration.p_value(parts.judge.margins(aside.X), aside.n_exchanges)
    coverage = CoverageNull.fit(aside.counts, capabilities.cell_areas, len(capabilities.areas))
    benign = Benign.fit(aside.X, names, p_values, aside.n_exchanges, coverage)
    save_file({name: np.ascontiguousarray(array) for name, array in benign.arrays().items()}, fresh / BENIGN)
    _write_rows(old, fresh / FEATURES, parts)
    data = dict(old.manifest["data"]) | {"adapted": adapted}
    entries = {
        "encoder": old.manifest["encoder"], "features": list(names), "fpr": fpr, "data": data,
        "metrics": dict(old.manifest["metrics"]),
    }  # fmt: skip
    bundle_id = write_manifest(fresh, entries)
    fresh.rename(out)
    return bundle_id


def _write_rows(old: Bundle, path: Path, parts: _Parts) -> None:
    """The old rows and then the own ones, so that the new bundle can be adapted again."""
    table = old.training_rows()
    columns = {name: pa.array(parts.own.X[:, i].astype(np.float32)) for i, name in enumerate(old.manifest["features"])}
    n_own = len(parts.own.X)
    columns |= {
        "y": pa.array(parts.own.y.astype(np.int8)), "weight": pa.array(parts.own.weight),
        "kind": pa.array(["own"] * n_own), "campaign": pa.array(["own"] * n_own),
        "n_exchanges": pa.array(np.rint(np.exp(parts.own.X[:, 0])).astype(np.int32)),
        "dilution": pa.array(np.zeros(n_own, np.float32)),
        "margin_left_out": pa.array(parts.left_out[len(table) :]),
    }  # fmt: skip
    own = pa.table({name: columns[name] for name in table.column_names}).cast(table.schema)
    was = table.set_column(
        table.column_names.index("margin_left_out"), "margin_left_out", pa.array(parts.left_out[: len(table)])
    )
    pq.write_table(pa.concat_tables([was, own]), path, compression="zstd", compression_level=9, store_schema=False)


def _digest(table: pa.Table) -> str:
    """sha256 over the accounts and prompts, in any order of files the same for the same order of rows."""
    digest = hashlib.sha256()
    for name in ("account_id", "prompt"):
        for chunk in table.column(name).chunks:
            for value in chunk.to_pylist():
                digest.update(value.encode())
                digest.update(b"\0")
    return digest.hexdigest()
