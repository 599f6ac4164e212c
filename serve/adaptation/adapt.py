"""Adapt: a provider's own benign traffic, and campaigns that it has confirmed, in; a bundle that knows both out.

Half of the benign accounts are learned from as organic, by the prompt scorer beside the bundle's stored sample and by
the classifier beside its stored training rows; the other half only give the benign margins that p-values rest on. So
the false-positive rate is kept on people that neither ever saw.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve.adaptation.benign_rows import UPPER, benign_rows
from serve.adaptation.checks import check_benign, check_confirmed, check_size, check_told_apart
from serve.adaptation.classifier_refit import OWN_SHARE, Refitted, refit
from serve.adaptation.community_threshold import CommunityThreshold, community_threshold
from serve.adaptation.prompt_refit import refit_scorers
from serve.adaptation.provider_rows import CrossBundles, Rows, harvesting_rows, is_learned, rows_of
from serve.bundle.bundle import Bundle
from serve.bundle.files import FEATURES, RELEASED, BundleError
from serve.bundle.manifest import write_manifest
from serve.bundle.writing import Fitted, copy_parts, write_community_model, write_fitted
from serve.io.discovery import InputError, discover
from serve.io.reading import read_all
from serve.io.writers import folder_fault
from serve.model.calibration import MIN_CLASS
from serve.scoring.scorer import CHUNK_PROMPTS
from serve.sessions.sessionizing import Timeline, text_hashes
from serve.sessions.size_classes import SIZE_EDGES, size_class
from serve.sessions.wording import counted

MAX_TEXT_BYTES = 512 << 20
"""Text beyond which only a share of the accounts, drawn by hash, is looked at."""

_COLUMNS = ("y", "weight", "kind", "campaign", "n_exchanges", "dilution", "margin_left_out")


@dataclass(frozen=True)
class Adaptation:
    """What is to be done: learn `inputs` (files, folders) as benign, and `harvesting` as campaigns, beside what
    `bundle` was learned from, and write the folder `out`, whose bundle flags a share `fpr` of benign sessions.

    Raises:
        ValueError: when `fpr` is no share, or `out` is there already.
    """

    inputs: tuple[Path, ...]
    out: Path
    bundle: Path = RELEASED
    fpr: float = 0.01
    harvesting: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 < self.fpr <= 0.5:
            raise ValueError(f"fpr is {self.fpr}, expected a share above 0 and at most 0.5")
        if self.out.exists():
            raise ValueError(f"{self.out}: is there already, expected a folder to make")
        if fault := folder_fault(self.out.absolute()):
            raise ValueError(f"{self.out}: can't be made, {fault}")


@dataclass(frozen=True, slots=True)
class Adapted:
    """What was done: ids of the new bundle and of its parent, rows read and rejected, accounts and sessions on each
    side, the share of held-out sessions that the parent flagged at the same FPR, sessions that each size class is
    calibrated on and whether such can be judged, accounts of confirmed campaigns, and from what log-odds accounts that
    ask alike are a campaign."""

    bundle_id: str
    parent: str
    n_rows: int
    n_rejected: int
    n_accounts: int
    n_learned: int
    n_calibrated: int
    parent_flagged: float
    n_by_class: tuple[int, ...]
    is_decidable: tuple[bool, ...]
    n_confirmed: int = 0
    campaigns: CommunityThreshold | None = None


def adapt(job: Adaptation, progress: Callable[[str], None] = lambda stage: None) -> Adapted:
    """Do it; the same traffic, in any order and files, makes the same bundle. `progress` hears what comes next.

    Raises:
        BundleError: when the bundle can't be trusted or holds no training rows.
        InputError: when the traffic can't be read.
        ValueError: when the traffic is too small, the bundle finds most of it harvesting, or confirmed campaigns are
            too few, overlap the benign accounts or can't be separated from them.
    """
    bundle = Bundle.load(job.bundle)
    stored = bundle.training_rows()
    if missing := [name for name in _COLUMNS if name not in stored.column_names]:
        raise BundleError(f"{job.bundle / FEATURES} has no {', '.join(missing)}, expected labelled training rows")
    progress("reading")
    table, n_rows, n_rejected = _read(job.inputs)
    timeline = Timeline.of(table)
    campaigns = Timeline.of(_read(job.harvesting)[0]) if job.harvesting else None
    n_confirmed = 0 if campaigns is None else check_confirmed(campaigns, timeline)
    progress("judging with the bundle as it is")
    before = Rows.joined([rows_of(sessions, bundle) for sessions in timeline.chunks(CHUNK_PROMPTS)])
    check_size(before, job.fpr)
    p_value = check_benign(before, bundle)
    progress("training the prompt scorer")
    bundles = refit_scorers(timeline, campaigns, bundle)
    progress("scoring sessions")
    benign = benign_rows(timeline, bundles)
    rows = benign.sessions
    confirmed = None if campaigns is None else _confirmed_rows(campaigns, timeline, bundles)
    learned, aside = rows.where(is_learned(rows.account)), rows.where(~is_learned(rows.account))
    if confirmed is not None:
        check_told_apart(bundle.manifest["features"], learned, confirmed)
    progress("fitting the classifier")
    fitted = refit(bundles.served, stored, learned, aside, benign.accounts, confirmed)
    progress("linking benign accounts")
    communities = community_threshold(timeline, bundles.served)
    bundles = replace(bundles, served=replace(bundles.served, communities=communities.model))
    adapted_from = {
        "bundle": bundle.bundle_id, "traffic_sha256": _digest(rows), "fpr": job.fpr, "own_share": OWN_SHARE,
        "n_accounts": len(np.unique(rows.account)), "n_learned": len(learned), "n_calibrated": len(aside),
        "n_calibrated_by_class": _counts(fitted.calibrated_n).tolist(), "n_confirmed_accounts": n_confirmed,
        "n_communities": communities.n_communities,
    }  # fmt: skip
    progress("writing")
    bundle_id = _write(bundles, stored, (learned, confirmed), fitted, job, adapted_from)
    flagged = p_value[~is_learned(before.account)] <= job.fpr
    return Adapted(
        bundle_id, bundle.bundle_id, n_rows, n_rejected, len(np.unique(rows.account)), int(learned.is_whole.sum()),
        int(aside.is_whole.sum()), float(flagged.mean()), tuple(_counts(fitted.calibrated_n).tolist()),
        tuple(fitted.calibration.is_decidable(np.array(SIZE_EDGES), job.fpr).tolist()), n_confirmed, communities,
    )  # fmt: skip


def adaptation_text(adapted: Adapted, fpr: float) -> str:
    """What was done, as lines."""
    sizes = [f"{low} to {high}" for low, high in zip(SIZE_EDGES, UPPER, strict=True)]
    thin = [size for size, is_decidable in zip(sizes, adapted.is_decidable, strict=True) if not is_decidable]
    few = [size for size, n in zip(sizes, adapted.n_by_class, strict=True) if n < MIN_CLASS and size not in thin]
    lines = [
        f"read        {counted(adapted.n_rows, 'row')}, {adapted.n_rejected:,} rejected; "
        f"{counted(adapted.n_accounts, 'account')}",
        f"learned     {counted(adapted.n_learned, 'session')} of half the accounts",
        f"calibrated  {counted(adapted.n_calibrated, 'session')} of the other half",
        f"before      bundle {adapted.parent} flags {adapted.parent_flagged:.2%} of those at {fpr:.2%}",
        f"bundle      {adapted.bundle_id}",
    ]
    if adapted.n_confirmed:
        lines.insert(3, f"confirmed   {counted(adapted.n_confirmed, 'account')} of campaigns")
    if adapted.campaigns is not None:
        lines.append(_campaigns_text(adapted.campaigns))
    if few:
        lines.append(
            f"few         sessions of {', '.join(few)} exchanges are judged by benign ones of other sizes, too"
        )
    if thin:
        lines.append(f"too thin    sessions of {', '.join(thin)} exchanges are undecided at {fpr:.2%}")
    return "\n".join(lines)


def _campaigns_text(campaigns: CommunityThreshold) -> str:
    if not campaigns.n_communities:
        return "campaigns   judged as before: too few benign accounts ask alike to set their threshold"
    return (
        f"campaigns   called so above log-odds {campaigns.model.threshold:g}, where none of "
        f"{counted(campaigns.n_communities, 'community', 'communities')} of benign accounts lies"
    )


def _read(paths: Sequence[Path]) -> tuple[pa.Table, int, int]:
    """Usable rows, the number of rows, and of rejects."""
    found = discover(paths)
    share = min(1.0, MAX_TEXT_BYTES / max(found.text_bytes, 1))
    tables, n_rows, n_rejected = [], 0, 0
    for batch in read_all(found.sources):
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


def _confirmed_rows(campaigns: Timeline, benign: Timeline, bundles: CrossBundles) -> Rows:
    """Rows of confirmed campaigns, hidden in the first chunk of benign traffic."""
    cover = next(benign.chunks(CHUNK_PROMPTS))
    return Rows.joined([harvesting_rows(part, cover, bundles) for part in campaigns.chunks(CHUNK_PROMPTS)])


def _write(
    bundles: CrossBundles, stored: pa.Table, own: tuple[Rows, Rows | None], fitted: Refitted, job: Adaptation,
    adapted_from: Mapping[str, Any],
) -> str:  # fmt: skip
    """Write all files beside `job.out` and put the folder in place at the end."""
    bundle = bundles.served
    with tempfile.TemporaryDirectory(dir=job.out.absolute().parent, prefix=".") as aside:
        folder = Path(aside) / "bundle"
        copy_parts(bundle.folder, folder)
        names = list(bundle.manifest["features"])
        parts = Fitted(
            fitted.classifier, fitted.calibration, fitted.benign, fitted.accounts, bundle.prompt_scorer,
            bundle.prompt_sample(), fitted.reference, _training_rows(names, stored, own, fitted),
        )  # fmt: skip
        write_fitted(parts, names, folder)
        write_community_model(bundle.communities, folder)
        kept = {key: bundle.manifest[key] for key in ("encoder", "features", "data", "metrics")}
        bundle_id = write_manifest(folder, {**kept, "fpr": job.fpr, "adapted_from": dict(adapted_from)})
        folder.rename(job.out)
    return bundle_id


def _training_rows(names: list[str], stored: pa.Table, own: tuple[Rows, Rows | None], fitted: Refitted) -> pa.Table:
    """The stored rows and the provider's, so that what was adapted can be adapted again."""
    schema = pa.schema([stored.schema.field(name) for name in (*names, *_COLUMNS)])
    tables = [stored.select(schema.names)]
    for rows, kind, label in ((own[0], "provider", 0), (own[1], "confirmed", 1)):
        if rows is not None:
            tables.append(_as_table(rows, kind, label, names, schema))
    table = pa.concat_tables(tables)
    for name, values in (("weight", fitted.weight), ("margin_left_out", fitted.margins_left_out)):
        table = table.set_column(table.column_names.index(name), schema.field(name), pa.array(values))
    return table


def _as_table(rows: Rows, kind: str, label: int, names: list[str], schema: pa.Schema) -> pa.Table:
    n = len(rows)
    own: dict[str, Any] = {name: rows.X[:, column].astype(np.float32) for column, name in enumerate(names)}
    own |= {
        "y": np.full(n, label, np.int8), "weight": np.zeros(n), "kind": [kind] * n, "campaign": [kind] * n,
        "n_exchanges": rows.n_exchanges.astype(np.int32), "dilution": rows.dilution.astype(np.float32),
        "margin_left_out": np.zeros(n),
    }  # fmt: skip
    return pa.table({name: pa.array(own[name]).cast(schema.field(name).type) for name in schema.names}, schema=schema)


def _digest(rows: Rows) -> str:
    """Digest of what was read of the traffic."""
    return hashlib.sha256(np.ascontiguousarray(rows.X).tobytes() + rows.account.tobytes()).hexdigest()


def _counts(n_exchanges: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(size_class(n_exchanges), minlength=len(SIZE_EDGES))
