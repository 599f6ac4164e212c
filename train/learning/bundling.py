"""Bundling: a learned model written as the folder that serving reads; the same model always makes the same bytes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from serve.bundle.files import MANIFEST, STATIC
from serve.bundle.manifest import write_manifest
from serve.bundle.writing import Fitted, write_capabilities, write_fitted
from serve.capability.capability_map import CapabilityMap
from serve.embedding.encoders import MINILM
from serve.features.session_features import feature_names
from train.corpora.pool import Pool
from train.learning.model import Model
from train.learning.split import Fold

MAX_BYTES = 25_000_000
"""Size that no bundle may reach, since one ships inside the package."""

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class BundlingSettings:
    """Where bundles are kept, each in a folder named by its id, and the share of benign sessions flagged by default."""

    dir: str = "mlruns/bundles"
    fpr: float = 0.01


@dataclass(frozen=True)
class Parts:
    """What a bundle is made of.

    `static` is the folder of its encoder, None for MiniLM; `data` its data card and `metrics` what was measured, both
    for the manifest.
    """

    model: Model
    static: Path | None
    capabilities: CapabilityMap
    data: Mapping[str, Any]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Made:
    """A bundle that was written, with the model in it, its data card, what was measured, and seconds by stage."""

    folder: Path
    model: Model
    data: Mapping[str, Any]
    metrics: Mapping[str, float]
    seconds: Mapping[str, float]


def write_bundle(parts: Parts, settings: BundlingSettings) -> Path:
    """Write a bundle below `settings.dir`; returns its folder, whose name is the bundle id.

    Raises:
        ValueError: when the bundle would be too large to ship.
    """
    root = Path(settings.dir)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".") as aside:
        folder = Path(aside) / "bundle"
        folder.mkdir()
        bundle_id = _write(parts, folder, settings.fpr)
        if (size := bundle_bytes(folder)) >= MAX_BYTES:
            raise ValueError(f"the bundle has {size:,} bytes, expected fewer than {MAX_BYTES:,}")
        target = root / bundle_id
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
    return target


def latest_bundle(settings: BundlingSettings) -> Path:
    """The bundle that was trained last.

    Raises:
        ValueError: when none was trained yet.
    """
    written = sorted(Path(settings.dir).glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime_ns)
    if not written:
        raise ValueError(f"{settings.dir} holds no bundle, expected one: python -m train experiment=release")
    return written[-1].parent


def data_card(pool: Pool, fold: Fold, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a model learned from: sources with label, kind, licence and number of prompts, and the run's settings."""
    used = pool.source[np.concatenate([fold.train, fold.calibrate])]
    counts = np.bincount(used, minlength=len(pool.sources)).tolist()
    sources = [
        {
            "name": source.name, "group": source.group, "label": source.label, "kind": source.kind,
            "licence": source.licence, "may_ship": source.may_ship, "n_prompts": count,
        }
        for source, count in zip(pool.sources, counts, strict=True)
        if count
    ]  # fmt: skip
    unseen_sources = fold.held_sources if fold.setting == "new provider" else ()
    file = Path(settings["capabilities"]["file"])
    if file.is_relative_to(_ROOT):  # the same card wherever the project lies
        settings = {**settings, "capabilities": {**settings["capabilities"], "file": str(file.relative_to(_ROOT))}}
    return {
        "sources": sources, "n_prompts": len(used), "held_out": [*fold.held_campaigns, *unseen_sources],
        "seed": settings["seed"], "settings": settings,
    }  # fmt: skip


def bundle_bytes(folder: Path) -> int:
    """Size of all files of a bundle."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _write(parts: Parts, folder: Path, fpr: float) -> str:
    model = parts.model
    names = feature_names(parts.capabilities.areas)
    write_capabilities(parts.capabilities, folder)
    if parts.static is not None:
        shutil.copytree(parts.static, folder / STATIC, ignore=shutil.ignore_patterns("__*", ".*", "README.md"))
    fitted = Fitted(
        model.classifier, model.calibration, model.benign, model.accounts, model.evidence.whole, model.evidence.sample,
        model.reference, training_rows(model, names),
    )  # fmt: skip
    write_fitted(fitted, names, folder)
    entries = {
        "encoder": MINILM if parts.static is None else STATIC, "features": list(names), "fpr": fpr,
        "data": dict(parts.data), "metrics": dict(parts.metrics),
    }  # fmt: skip
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return write_manifest(folder, entries)


def training_rows(model: Model, names: tuple[str, ...]) -> pa.Table:
    """Training feature rows, without any text: features by name, then label, weight, kind, campaign, size, dilution and
    the margin that a classifier which never saw the campaign gave."""
    table = model.table
    columns: dict[str, pa.Array] = {
        name: pa.array(table.X[:, column].astype(np.float32)) for column, name in enumerate(names)
    }
    columns |= {
        "y": pa.array(table.y.astype(np.int8)),
        "weight": pa.array(table.weight),
        "kind": pa.array(table.kind.tolist()),
        "campaign": pa.array(table.campaign.tolist()),
        "n_exchanges": pa.array(table.n_exchanges.astype(np.int32)),
        "dilution": pa.array(table.dilution.astype(np.float32)),
        "margin_left_out": pa.array(model.margins_left_out),
    }
    return pa.table(columns)
