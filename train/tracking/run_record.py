"""Run record: what a run tells MLflow of its settings, data, provenance, quality and bundle."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from train.config.settings import Settings, flat, plain
from train.evaluation.quality import boosting, rates, tpr_growth
from train.inputs.prepared_inputs import Inputs
from train.learning.bundling import Made
from train.reports.plots import Plot
from train.tracking import mlflow_runs as tracking
from train.tracking import registry
from train.tracking.provenance import code_digest, data_digests, provenance

SETTINGS_FILE, PROVENANCE_FILE = "settings.json", "provenance.json"
BUNDLE_TAG, DIGEST_TAG = "bundle_id", "settings_digest"


@contextlib.contextmanager
def tracked(settings: Settings, inputs: Inputs) -> Iterator[str | None]:
    """An open MLflow run that knows settings, data and provenance; gives its id, or None where tracking is off."""
    if not settings.tracking.enabled:
        yield None
        return
    digests = data_digests(inputs.pool)
    tags = {DIGEST_TAG: _digest(settings, inputs), "seed": str(settings.seed), "code": code_digest()}
    with tracking.tracked(settings.name, settings.tracking.experiment, flat(settings), tags) as run_id:
        tracking.log_json(plain(settings), SETTINGS_FILE)
        tracking.log_json({**provenance(), "data": dict(digests)}, PROVENANCE_FILE)
        for name, digest in digests.items():
            tracking.log_data(name, digest, "learning")
        yield run_id


def has_finished(settings: Settings, inputs: Inputs) -> bool:
    """Whether a run with the same settings, code and data came to its end."""
    return tracking.has_finished(settings.tracking.experiment, DIGEST_TAG, _digest(settings, inputs))


def keep(settings: Settings, made: Made, report: Path, plots: Sequence[Plot]) -> None:
    """Metrics, a child run for each inner fold with its boosting curve, figures, report, bundle, registered model."""
    if not settings.tracking.enabled:
        return
    model, grown = made.model, tpr_growth(made.model)
    tracking.log_metrics({**made.metrics, **{f"seconds.{name}": value for name, value in made.seconds.items()}})
    tracking.log_curve("left_out.tpr_by_exchanges", grown.steps, grown.values)
    for part in model.inner:
        with tracking.child(f"inner fold {part.fold}"):
            tracking.log_metrics(rates(model.table.where(part.held), part.margins))
            curve = boosting(model, part)
            tracking.log_curve("left_out.mean_tpr_by_round", curve.steps, curve.values)
    tracking.log_figures({plot.name: plot.figure for plot in plots})
    tracking.log_file(report)
    tracking.log_file(report.with_suffix(".html"))
    tracking.log_tags({BUNDLE_TAG: made.folder.name})
    if settings.tracking.keep_bundle:
        tracking.log_folder(made.folder, "bundle")
    if settings.tracking.register:
        registry.register(made.folder)


def _digest(settings: Settings, inputs: Inputs) -> str:
    """Digest of everything that a run's outcome depends on: settings, code and data."""
    values = {**plain(settings), "code": code_digest(), "data": dict(data_digests(inputs.pool))}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
