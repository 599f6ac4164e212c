"""Adapt: a provider's own benign traffic in, a bundle that knows it out.

Half of the accounts are learned from as organic, in the evidence of a prompt beside the bundle's stored moments and in
the classifier beside its stored training rows; the other half only give the benign margins that p-values rest on. So
the false-positive rate is kept on people that neither ever saw.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors.numpy import save_file

from serve.bundle.bundle import (
    BENIGN,
    CALIBRATION,
    CLASSIFIER,
    EXPERTS,
    FEATURES,
    MANIFEST,
    RELEASED,
    Bundle,
    BundleError,
    write_evidence,
    write_manifest,
)
from serve.capability.breadth import CoverageNull
from serve.capability.coverage import CellCounts
from serve.features.prompt_scorer import HEADS, Evidence
from serve.features.session_features import Totals, assembled, compared, observe, place
from serve.io.discovery import InputError, discover, plan
from serve.io.reading import read
from serve.model.benign_profile import BenignProfile, benign_quantiles
from serve.model.calibration import MIN_DECIDABLE, Calibration
from serve.model.classifier import Classifier
from serve.model.refitting import ClassifierSettings, Rows, fit, score_map
from serve.model.ridge import Moments, moment, solve
from serve.scoring.scorer import CHUNK_PROMPTS
from serve.sessions.records import Sessions
from serve.sessions.sessionizing import Timeline, text_hashes
from serve.sessions.size_classes import SIZE_EDGES, size_class

MAX_TEXT_BYTES = 512 << 20
"""Text beyond which only a share of the accounts, drawn by hash, is looked at."""

MIN_ACCOUNTS = 40
MAX_HARVESTING_SHARE = 0.5
"""Share of accounts that score above one half, over which traffic can't be taken for benign."""

OWN_SHARE = 0.5
"""Share of the organic weight that the provider's own sessions have in what is learned from."""

EVIDENCE_SHARE = 0.3
"""Share of all weight that the provider's own prompts have where evidence is learned."""

SETTINGS = ClassifierSettings()
"""How the classifier is refitted."""

_MAX_CUT = 1500  # sessions of a size class and half that are made of longer ones
_N_FOLDS = 3
_SIDE = np.uint64(1 << 20)  # a low bit of the hash, since a sample of accounts is drawn by its high ones
_PART = np.uint64(1 << 21)  # of the accounts that are learned from, whose prompts weigh those of the others
_MAX_WEIGHED = 100  # prompts of a session that evidence is learned from
_UPPER = (*(edge - 1 for edge in SIZE_EDGES[1:]), 120)
_COLUMNS = ("y", "weight", "kind", "campaign", "n_exchanges", "dilution", "margin_left_out")


@dataclass(frozen=True)
class Adaptation:
    """What is to be done: learn `inputs` (files, folders) as benign beside what `bundle` was learned from, and write
    the folder `out`, whose bundle flags a share `fpr` of benign sessions.

    Raises:
        ValueError: when `fpr` is no share, or `out` is there already.
    """

    inputs: tuple[Path, ...]
    out: Path
    bundle: Path = RELEASED
    fpr: float = 0.01

    def __post_init__(self) -> None:
        if not 0.0 < self.fpr <= 0.5:
            raise ValueError(f"fpr is {self.fpr}, expected a share above 0 and at most 0.5")
        if self.out.exists():
            raise ValueError(f"{self.out}: is there already, expected a folder to make")
        if not self.out.absolute().parent.is_dir():
            raise ValueError(f"{self.out}: can't be made, there is no folder {self.out.absolute().parent}")


@dataclass(frozen=True, slots=True)
class Adapted:
    """What was done: ids of the new bundle and of its parent, rows read and rejected, accounts and sessions on each
    side, and the share of held-out sessions that the parent flagged at the same FPR."""

    bundle_id: str
    parent: str
    n_rows: int
    n_rejected: int
    n_accounts: int
    n_learned: int
    n_calibrated: int
    parent_flagged: float
    n_by_class: tuple[int, ...]


@dataclass(frozen=True)
class _Rows:
    """Feature rows of some sessions with their sizes, accounts (hashes) and cells; `is_whole` where nothing was cut."""

    X: NDArray[np.float64]
    n_exchanges: NDArray[np.int64]
    account: NDArray[np.uint64]
    is_whole: NDArray[np.bool_]
    cells: CellCounts

    def where(self, chosen: NDArray[np.bool_]) -> _Rows:
        position = np.cumsum(chosen) - 1
        own = chosen[self.cells.unit]
        cells = CellCounts(
            position[self.cells.unit[own]], self.cells.cell[own], self.cells.count[own], int(chosen.sum())
        )  # fmt: skip
        return _Rows(self.X[chosen], self.n_exchanges[chosen], self.account[chosen], self.is_whole[chosen], cells)


def adapt(job: Adaptation) -> Adapted:
    """Do it; the same traffic, in any order and files, makes the same bundle.

    Raises:
        BundleError: when the bundle can't be trusted or holds no training rows.
        InputError: when the traffic can't be read.
        ValueError: when the traffic is too small, or the bundle finds most of it harvesting.
    """
    bundle = Bundle.load(job.bundle)
    stored = bundle.training_rows()
    if missing := [name for name in _COLUMNS if name not in stored.column_names]:
        raise BundleError(f"{job.bundle / FEATURES} has no {', '.join(missing)}, expected labelled training rows")
    table, n_rows, n_rejected = _read(job.inputs)
    timeline = Timeline.of(table)
    before = _joined([_rows_of(sessions, bundle) for sessions in timeline.chunks(CHUNK_PROMPTS)])
    _check_size(before, job)
    p_value = _check_benign(before, bundle, job)
    heads = _heads(timeline, bundle)
    rows = _observed(timeline, heads)
    learned, aside = rows.where(_is_learned(rows.account)), rows.where(~_is_learned(rows.account))
    model = _refit(heads.served, stored, learned, aside)
    adapted_from = {
        "bundle": bundle.bundle_id, "traffic_sha256": _digest(rows), "fpr": job.fpr, "own_share": OWN_SHARE,
        "n_accounts": len(np.unique(rows.account)), "n_learned": len(learned.X), "n_calibrated": len(aside.X),
        "n_calibrated_by_class": _counts(model.calibrated_n).tolist(),
    }  # fmt: skip
    bundle_id = _write(heads, stored, learned, model, job, adapted_from)
    flagged = p_value[~_is_learned(before.account)] <= job.fpr
    return Adapted(
        bundle_id, bundle.bundle_id, n_rows, n_rejected, len(np.unique(rows.account)), int(learned.is_whole.sum()),
        int(aside.is_whole.sum()), float(flagged.mean()), tuple(_counts(model.calibrated_n).tolist()),
    )  # fmt: skip


def adaptation_text(adapted: Adapted, fpr: float) -> str:
    """What was done, as lines."""
    thin = [
        f"{low} to {high}" for low, high, n in zip(SIZE_EDGES, _UPPER, adapted.n_by_class, strict=True) if n < 1 / fpr
    ]
    lines = [
        f"read        {adapted.n_rows:,} rows, {adapted.n_rejected:,} rejected; {adapted.n_accounts:,} accounts",
        f"learned     {adapted.n_learned:,} sessions of half the accounts",
        f"calibrated  {adapted.n_calibrated:,} sessions of the other half",
        f"before      bundle {adapted.parent} flags {adapted.parent_flagged:.2%} of those at {fpr:.2%}",
        f"bundle      {adapted.bundle_id}",
    ]
    if thin:
        lines.append(f"too thin    sessions of {', '.join(thin)} exchanges are never flagged at {fpr:.2%}")
    return "\n".join(lines)


def _read(paths: Sequence[Path]) -> tuple[pa.Table, int, int]:
    """Usable rows, the number of rows, and of rejects."""
    found = discover(paths)
    share = min(1.0, MAX_TEXT_BYTES / max(found.text_bytes, 1))
    tables, n_rows, n_rejected = [], 0, 0
    for part in (part for group in plan(found.sources, MAX_TEXT_BYTES) for part in group):
        for batch in read(part):
            tables.append(batch.table if share == 1.0 else _sampled(batch.table, share))
            n_rows += batch.n_rows
            n_rejected += len(batch.rejects)
    if not sum(map(len, tables)):
        raise InputError(f"{', '.join(map(str, paths))}: 0 usable rows, expected exchanges")
    return pa.concat_tables(tables), n_rows, n_rejected


def _sampled(table: pa.Table, share: float) -> pa.Table:
    names = pc.unique(table.column("account_id"))
    kept = names.filter(pa.array(text_hashes(names) < share * 2.0**64))
    return table.filter(pc.is_in(table.column("account_id"), kept))


@dataclass(frozen=True)
class _Heads:
    """The bundle with heads that know the provider's prompts, what they were solved from, and for each part of the
    accounts that are learned from the bundle with heads that know only the other part's."""

    served: Bundle
    moments: Moments
    crossed: tuple[Bundle, Bundle]

    def of(self, account: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.bool_], Bundle]]:
        """Which of these accounts each bundle weighs."""
        learned, first = _is_learned(account), (account & _PART) > 0
        yield ~learned, self.served
        yield learned & first, self.crossed[0]
        yield learned & ~first, self.crossed[1]


def _heads(timeline: Timeline, bundle: Bundle) -> _Heads:
    """Evidence heads learned anew with the accounts that are learned from, as benign."""
    stored = bundle.moments()
    n_inputs = len(stored.scales) + 1
    sums, counts = np.zeros((2, n_inputs, n_inputs)), np.zeros(2)
    for sessions in timeline.chunks(CHUNK_PROMPTS):
        accounts = _account_hashes(sessions)
        for part, is_part in enumerate(((accounts & _PART) > 0, (accounts & _PART) == 0)):
            chosen = np.flatnonzero(_is_learned(accounts) & is_part).tolist()
            cuts = [(index, min(int(sessions.n_exchanges[index]), _MAX_WEIGHED)) for index in chosen]
            if cuts:
                own = _cut(sessions, cuts)
                inputs = place(own, bundle.encoder, bundle.capabilities, stored.vocabulary).inputs
                sums[part] += moment(inputs, stored.scales).astype(np.float64) * len(inputs.vectors)
                counts[part] += len(inputs.vectors)
    means = [total / max(count, 1.0) for total, count in zip(sums, counts, strict=True)]
    moments = stored.with_benign(sums.sum(axis=0) / max(counts.sum(), 1.0), EVIDENCE_SHARE)
    crossed = [stored.with_benign(mean, EVIDENCE_SHARE) if n else stored for mean, n in zip(means, counts, strict=True)]
    first, second = (replace(bundle, evidence=_harvest_anew(bundle.evidence, solve(own))) for own in crossed)
    served = replace(bundle, evidence=_harvest_anew(bundle.evidence, solve(moments)))
    return _Heads(served, moments, (second, first))


def _harvest_anew(known: Evidence, new: Evidence) -> Evidence:
    """The new head for harvest beside the known ones: benign traffic doesn't say who is a person and who a product."""
    head = np.array(HEADS) == "harvest"
    return Evidence(
        known.vocabulary, np.where(head, new.weights, known.weights), np.where(head, new.scales, known.scales),
        np.where(head, new.intercepts, known.intercepts),
    )  # fmt: skip


def _observed(timeline: Timeline, heads: _Heads) -> _Rows:
    """Feature rows of all sessions, and of beginnings of longer ones for each size class, one a session and class."""
    sizes = np.diff(timeline.offsets)
    hashes = _session_hashes(timeline)
    wanted: dict[int, list[int]] = {}
    for low, high in zip(SIZE_EDGES, _UPPER, strict=True):
        longer = np.flatnonzero(sizes > high)
        longer = longer[np.argsort(hashes[longer], kind="stable")][: 2 * _MAX_CUT]
        for index in longer.tolist():
            wanted.setdefault(index, []).append(low + int(hashes[index] >> np.uint64(32)) % (high - low + 1))
    parts, start = [], 0
    for sessions in timeline.chunks(CHUNK_PROMPTS):
        for chosen, bundle in heads.of(_account_hashes(sessions)):
            own = np.flatnonzero(chosen).tolist()
            whole = [(index, int(sessions.n_exchanges[index])) for index in own]
            if whole:
                parts.append(_rows_of(_cut(sessions, whole), bundle))
            cuts = [(index, n) for index in own for n in wanted.get(start + index, ())]
            parts += [_rows_of(_cut(sessions, group), bundle, is_whole=False) for group in _grouped(cuts)]
        start += len(sessions)
    return _joined(parts)


def _grouped(cuts: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    n_group = 4000
    return (cuts[start : start + n_group] for start in range(0, len(cuts), n_group))


def _cut(sessions: Sessions, cuts: list[tuple[int, int]]) -> Sessions:
    """The first n exchanges of session i for each (i, n)."""
    places = [np.arange(sessions.offsets[index], sessions.offsets[index] + n) for index, n in cuts]
    rows = np.concatenate(places)
    return Sessions(
        tuple(sessions.session_ids[index] for index, _ in cuts),
        tuple(sessions.account_ids[index] for index, _ in cuts),
        np.concatenate([[0], np.cumsum([n for _, n in cuts])]).astype(np.int64),
        tuple(sessions.prompts[row] for row in rows.tolist()),
        sessions.at[rows],
    )


def _rows_of(sessions: Sessions, bundle: Bundle, *, is_whole: bool = True) -> _Rows:
    prompts = observe(sessions, bundle.encoder, bundle.capabilities, bundle.evidence)
    totals = Totals.of(prompts)
    X = assembled(totals, compared(prompts), bundle.capabilities)
    return _Rows(X, sessions.n_exchanges, _account_hashes(sessions), np.full(len(sessions), is_whole), totals.cells)


def _account_hashes(sessions: Sessions) -> NDArray[np.uint64]:
    return text_hashes(pa.array(sessions.account_ids, pa.string()))


def _joined(parts: Sequence[_Rows]) -> _Rows:
    firsts = np.cumsum([0, *(part.cells.n_units for part in parts)])
    cells = CellCounts(
        np.concatenate([part.cells.unit + first for part, first in zip(parts, firsts, strict=False)]),
        np.concatenate([part.cells.cell for part in parts]),
        np.concatenate([part.cells.count for part in parts]),
        int(firsts[-1]),
    )
    return _Rows(
        np.concatenate([part.X for part in parts]), np.concatenate([part.n_exchanges for part in parts]),
        np.concatenate([part.account for part in parts]), np.concatenate([part.is_whole for part in parts]), cells,
    )  # fmt: skip


def _session_hashes(timeline: Timeline) -> NDArray[np.uint64]:
    return text_hashes(
        pc.binary_join_element_wise(timeline.account_ids, timeline.session_ids, pa.scalar("\n", pa.large_string()))
    )


def is_learned(account_ids: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each account is one of those to learn from, told by its hash; the others are calibrated on."""
    return _is_learned(text_hashes(pa.array(account_ids, pa.string())))


def _is_learned(account: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Each account is with all its sessions on one side."""
    return np.asarray((account & _SIDE) > 0)


def _check_size(rows: _Rows, job: Adaptation) -> None:
    n_accounts = len(np.unique(rows.account))
    if n_accounts < MIN_ACCOUNTS:
        raise ValueError(
            f"the traffic is of {n_accounts} accounts, expected at least {MIN_ACCOUNTS}: nobody may be both learned "
            "from and calibrated on"
        )
    needed = math.ceil(1.0 / job.fpr - 1e-9)
    n_usable = int((~_is_learned(rows.account) & (rows.n_exchanges >= MIN_DECIDABLE)).sum())
    if n_usable < needed:
        raise ValueError(
            f"the traffic is too small: {n_usable} sessions of at least {MIN_DECIDABLE} exchanges among the accounts "
            f"to calibrate on, expected {needed}, since no p-value of fewer can be {job.fpr:g} or less"
        )


def _check_benign(rows: _Rows, bundle: Bundle, job: Adaptation) -> NDArray[np.float64]:
    """The p-value of each session by the bundle as it is."""
    margins = bundle.classifier.margins(rows.X)
    chosen = rows.n_exchanges >= MIN_DECIDABLE
    _, own = np.unique(rows.account[chosen], return_inverse=True)
    high = np.bincount(own, weights=bundle.calibration.score(margins)[chosen] > 0.5) / np.bincount(own) > 0.5
    if high.mean() > MAX_HARVESTING_SHARE:
        raise ValueError(
            f"the bundle {job.bundle} finds {high.mean():.0%} of the accounts likelier harvesting than not, expected "
            f"at most {MAX_HARVESTING_SHARE:.0%}: this isn't benign traffic, or not traffic that this bundle can read"
        )
    return bundle.calibration.p_value(margins, rows.n_exchanges)


@dataclass(frozen=True)
class _Model:
    classifier: Classifier
    calibration: Calibration
    calibrated_n: NDArray[np.int64]
    reference: NDArray[np.float64]
    benign: BenignProfile
    weight: NDArray[np.float64]
    margins_left_out: NDArray[np.float64]


def _refit(bundle: Bundle, stored: pa.Table, learned: _Rows, aside: _Rows) -> _Model:
    """The classifier on stored and own rows; the score from margins left out; p-values from the accounts kept aside."""
    names = list(bundle.manifest["features"])
    X = np.concatenate([np.stack([stored[name].to_numpy() for name in names], axis=1), learned.X]).astype(np.float64)
    y = np.concatenate([stored["y"].to_numpy(), np.zeros(len(learned.X))]).astype(np.int64)
    weight = _weights(stored, learned)
    # Dilutions are stored in single precision, in which 0.9 is another number.
    diluted = np.concatenate([stored["dilution"].to_numpy(), np.zeros(len(learned.X))])
    dilution = np.asarray(np.round(diluted, 4), dtype=np.float64)
    rows = Rows(X, y, weight, dilution)
    classifier = fit(rows, names, SETTINGS, seed=0)
    part_of_stored = _parts(stored["campaign"].to_pylist(), stored["y"].to_numpy())
    part = np.concatenate([part_of_stored, ((learned.account >> np.uint64(32)) % _N_FOLDS).astype(np.int64)])
    left_out = np.zeros(len(X))
    for fold in range(_N_FOLDS):
        held = part == fold
        left_out[held] = fit(rows.where(~held), names, SETTINGS, seed=0).margins(X[held])
    margins = classifier.margins(aside.X)
    slope, intercept = score_map(left_out[y == 1], margins)
    whole = _enough(aside)
    calibration = Calibration.of_margins(slope, intercept, margins[whole], aside.n_exchanges[whole])
    areas = bundle.capabilities.areas
    null = CoverageNull.fit(aside.cells, bundle.capabilities.cell_areas, len(areas))
    benign = BenignProfile.fit(aside.X, names, calibration.p_value(margins, aside.n_exchanges), aside.n_exchanges, null)
    return _Model(
        classifier, calibration, aside.n_exchanges[whole],
        benign_quantiles(aside.X, aside.n_exchanges), benign, weight, left_out,
    )  # fmt: skip


def _enough(aside: _Rows) -> NDArray[np.bool_]:
    """Rows to calibrate on: whole sessions, and beginnings of longer ones too in size classes that lack whole ones."""
    classes = size_class(aside.n_exchanges)
    n_whole = np.bincount(classes[aside.is_whole], minlength=len(SIZE_EDGES))
    return np.asarray(aside.is_whole | (n_whole < _MAX_CUT)[classes])


def _weights(stored: pa.Table, learned: _Rows) -> NDArray[np.float64]:
    """Stored weights, with `OWN_SHARE` of the organic weight given to the provider's accounts, each with the square
    root of its share."""
    weight, y = stored["weight"].to_numpy().astype(np.float64), stored["y"].to_numpy()
    _, inverse, counts = np.unique(learned.account, return_inverse=True, return_counts=True)
    own = 1.0 / np.sqrt(counts[inverse])
    own *= OWN_SHARE * weight[y == 0].sum() / own.sum()
    return np.concatenate([np.where(y == 0, (1.0 - OWN_SHARE) * weight, weight), own])


def _parts(campaigns: Sequence[str], y: NDArray[np.int8]) -> NDArray[np.int64]:
    """A part for each row, by the first corpus group of its campaign or source; each label is dealt to all parts."""
    groups, parts = np.array([name.split("+")[0] for name in campaigns]), np.zeros(len(y), dtype=np.int64)
    for label in (0, 1):
        _, inverse = np.unique(groups[y == label], return_inverse=True)
        parts[y == label] = inverse % _N_FOLDS
    return parts


def _write(
    heads: _Heads, stored: pa.Table, learned: _Rows, model: _Model, job: Adaptation, adapted_from: Mapping[str, Any]
) -> str:
    """Write all files beside `job.out` and put the folder in place at the end."""
    bundle = heads.served
    with tempfile.TemporaryDirectory(dir=job.out.absolute().parent, prefix=".") as aside:
        folder = Path(aside) / "bundle"
        shutil.copytree(bundle.folder, folder, ignore=shutil.ignore_patterns("__*", MANIFEST))
        (folder / CLASSIFIER).write_text(model.classifier.booster.model_to_string(), encoding="utf-8")
        save_file(_contiguous(model.classifier.experts.arrays()), folder / EXPERTS)
        save_file(_contiguous(model.calibration.arrays()), folder / CALIBRATION)
        save_file(_contiguous(model.benign.arrays()), folder / BENIGN)
        write_evidence(bundle.evidence, heads.moments, model.reference, folder)
        names = list(bundle.manifest["features"])
        pq.write_table(
            _training_rows(names, stored, learned, model), folder / FEATURES, compression="zstd", compression_level=19,
            use_dictionary=["kind", "campaign"], use_byte_stream_split=names, store_schema=False,
        )  # fmt: skip
        kept = {key: bundle.manifest[key] for key in ("encoder", "features", "data", "metrics")}
        bundle_id = write_manifest(folder, {**kept, "fpr": job.fpr, "adapted_from": dict(adapted_from)})
        folder.rename(job.out)
    return bundle_id


def _training_rows(names: list[str], stored: pa.Table, learned: _Rows, model: _Model) -> pa.Table:
    """The stored rows and the provider's, so that what was adapted can be adapted again."""
    n = len(learned.X)
    own: dict[str, Any] = {name: learned.X[:, column].astype(np.float32) for column, name in enumerate(names)}
    own |= {
        "y": np.zeros(n, np.int8), "weight": np.zeros(n), "kind": ["provider"] * n, "campaign": ["provider"] * n,
        "n_exchanges": learned.n_exchanges.astype(np.int32), "dilution": np.zeros(n, np.float32),
        "margin_left_out": np.zeros(n),
    }  # fmt: skip
    schema = pa.schema([stored.schema.field(name) for name in (*names, *_COLUMNS)])
    table = pa.concat_tables([
        stored.select(schema.names),
        pa.table({name: pa.array(own[name]).cast(schema.field(name).type) for name in schema.names}, schema=schema),
    ])  # fmt: skip
    for name, values in (("weight", model.weight), ("margin_left_out", model.margins_left_out)):
        table = table.set_column(table.column_names.index(name), schema.field(name), pa.array(values))
    return table


def _digest(rows: _Rows) -> str:
    """Digest of what was read of the traffic."""
    return hashlib.sha256(np.ascontiguousarray(rows.X).tobytes() + rows.account.tobytes()).hexdigest()


def _counts(n_exchanges: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(size_class(n_exchanges), minlength=len(SIZE_EDGES))


def _contiguous(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}
