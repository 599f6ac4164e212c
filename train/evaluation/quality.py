"""Quality: what a training run itself knows of its quality, from margins of campaigns that were left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.sessions.size_classes import SIZE_EDGES, size_class
from train.evaluation.exam import FoldScores, auroc, tpr
from train.learning.bundling import Made
from train.learning.calibration import expected_calibration_error
from train.learning.classifier import LeftOut
from train.learning.model import Model
from train.learning.table import Table
from train.synthesis.compose import DILUTIONS

FPR = 0.01
REPORTS = Path("mlruns") / "reports"
_NAME = "model"
_N_STAGES = 12


@dataclass(frozen=True, slots=True)
class Curve:
    """A number that changes over steps."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


def left_out_metrics(model: Model) -> dict[str, float]:
    """AUROC and TPR at 1 % FPR by dilution over training sessions of every length, each scored by a classifier that
    never saw its campaign, and the calibration error of scores of such campaigns and of as many benign sessions of
    people kept aside."""
    found = rates(model.table, model.margins_left_out)
    parts = (model.calibration.margins, model.margins_left_out[model.table.y == 1])
    n = min(map(len, parts))
    even = [np.sort(part)[np.linspace(0, len(part) - 1, n).astype(np.int64)] for part in parts]
    found["left_out.ece"] = expected_calibration_error(
        model.calibration.score(np.concatenate(even)), np.repeat([0, 1], n)
    )  # fmt: skip
    return found


def rates(table: Table, margins: NDArray[np.float64]) -> dict[str, float]:
    """AUROC and TPR at 1 % FPR of margins, for each dilution that the table holds beside organic sessions."""
    found: dict[str, float] = {}
    result = fold_scores(table, margins)
    for dilution in _dilutions(table):
        place = f"dilution_{round(100 * dilution):02d}"
        found[f"left_out.auroc.{place}"] = auroc([result], _NAME, 0, dilution, 0).value
        found[f"left_out.tpr.{place}"] = tpr([result], _NAME, 0, dilution, FPR, 0).value
    return found


def mean_tpr(table: Table, margins: NDArray[np.float64]) -> float:
    """Mean over the dilutions of the TPR at 1 % FPR, 0-1: the one number that a search maximises."""
    found = [value for name, value in rates(table, margins).items() if ".tpr." in name]
    return float(np.mean(found)) if found else 0.0


def tpr_growth(model: Model) -> Curve:
    """TPR at 1 % FPR of undiluted campaigns, left out, by the number of exchanges that a session has at least."""
    classes = size_class(model.table.n_exchanges)
    steps, values = [], []
    for index, edge in enumerate(SIZE_EDGES):
        own = model.table.where(classes == index)
        if 0.0 in _dilutions(own):
            steps.append(edge)
            values.append(
                tpr([fold_scores(own, model.margins_left_out[classes == index])], _NAME, 0, 0.0, FPR, 0).value
            )
    return Curve(tuple(steps), tuple(values))


def boosting(model: Model, part: LeftOut) -> Curve:
    """Mean TPR on the campaigns that a booster never saw, as it grows."""
    own, judge = model.table.where(part.held), part.classifier
    n_rounds = judge.trees.booster.num_trees()
    steps = np.unique(np.linspace(1, n_rounds, min(_N_STAGES, n_rounds)).astype(int)).tolist()
    values = [mean_tpr(own, judge.margins(own.X, n_trees=step)) for step in steps]
    return Curve(tuple(steps), tuple(values))


def write_report(name: str, made: Made, held_out: Path | None) -> Path:
    """Write a run's page of Markdown; returns the file."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    report = REPORTS / f"{made.folder.name}.md"
    report.write_text(page(name, made, held_out), encoding="utf-8")
    return report


def page(name: str, made: Made, held_out: Path | None) -> str:
    """The run as a page of Markdown."""
    sources, n_prompts = len(made.data["sources"]), made.data["n_prompts"]
    held = [f"Held-out traffic, which nothing was learned from: `{held_out}`.", ""] if held_out else []
    return "\n".join([
        f"# Training run *{name}*", "",
        f"Bundle `{made.folder.name}`, learned from {sources} sources, {n_prompts:,} prompts.", "",
        "Each session is scored by a classifier that never saw its campaign (or its organic source); lengths together.",
        "", "| dilution | AUROC | TPR at 1 % FPR |", "|---|---|---|", *_rows(made.metrics), "",
        f"Expected calibration error of the score: {made.metrics['left_out.ece']:.3f}.", "", *held,
    ])  # fmt: skip


def _rows(metrics: Mapping[str, float]) -> Iterator[str]:
    for name, value in metrics.items():
        if ".auroc." in name:
            dilution = int(name.rpartition("_")[2])
            yield f"| {dilution} % | {value:.3f} | {metrics[name.replace('.auroc.', '.tpr.')]:.3f} |"


def fold_scores(table: Table, margins: NDArray[np.float64]) -> FoldScores:
    """Margins as an exam's one result, lengths together (as length 0)."""
    lengths = np.zeros(len(table), np.int64)
    return FoldScores(
        _NAME, "left out", lengths, table.kind, table.campaign, table.dilution, {_NAME: margins}
    )  # fmt: skip


def _dilutions(table: Table) -> tuple[float, ...]:
    """Dilutions of the table's campaigns; none where there is nothing organic to compare with."""
    if not (table.y == 0).any():
        return ()
    return tuple(share for share in DILUTIONS if np.isclose(table.dilution[table.y == 1], share).any())
