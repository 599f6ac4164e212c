"""Run page: a training run, or an exam, as one self-contained page with its figures and the numbers behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.analyst.rendering import environment
from train.learning.bundling import Made
from train.reports.plots import Plot

_RUN = (
    ("Detection", ("roc", "det", "lengths", "growth")),
    ("Campaigns and sources", ("campaigns", "sources")),
    ("Scores and features", ("scores", "calibration", "families")),
)


@dataclass(frozen=True)
class Section:
    """Plates under one heading."""

    title: str
    plots: tuple[Plot, ...]


def write_run_page(path: Path, name: str, made: Made, plots: Sequence[Plot]) -> None:
    """Write the page of a training run."""
    by_name = {plot.name: plot for plot in plots}
    _write(
        path, title=f"Training run {name}",
        lead=(f"Bundle {made.folder.name}.", "Each session is scored by a booster that never saw its campaign (or its "
              "organic source); lengths together where nothing else is said."),
        numbers=tuple(_numbers(made.metrics)),
        sections=tuple(Section(title, tuple(by_name[own] for own in names)) for title, names in _RUN),
        sources=made.data["sources"], n_prompts=made.data["n_prompts"], held_out=made.data["held_out"],
    )  # fmt: skip


def write_exam_page(path: Path, plots: Mapping[str, Sequence[Plot]]) -> None:
    """Write the page of an exam: plots by setting."""
    sections = tuple(Section(f"{name[0].upper()}{name[1:]}", tuple(own)) for name, own in plots.items())
    lead = ("Campaigns (and, for a new provider, organic sources) that nothing was learned from.",)
    _write(path, title="Exam", lead=lead, numbers=(), sections=sections, sources=(), n_prompts=0, held_out=())


def _numbers(metrics: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for name, value in metrics.items():
        if ".tpr." in name:
            yield f"TPR at 1 % FPR, {int(name.rpartition('_')[2])} % cover", f"{value:.3f}"
    yield "Calibration error", f"{metrics['left_out.ece']:.3f}"


def _write(path: Path, **values: Any) -> None:
    path.write_text(_ENVIRONMENT.get_template("training.html").render(**values), encoding="utf-8")


_ENVIRONMENT = environment("train.reports", "serve.analyst")
