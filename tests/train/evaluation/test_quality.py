"""Summary: numbers that are known beforehand, and a page that says them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from train.config.settings import Settings
from train.evaluation.quality import boosting, left_out_metrics, mean_tpr, page, rates, tpr_growth, write_report
from train.experiments.run import bundled
from train.learning.bundling import BundlingSettings, Made
from train.learning.table import Table


@pytest.fixture(scope="module")
def made(tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("bundles")
    return bundled(replace(tiny_settings, bundling=BundlingSettings(str(folder))))


def table(y: list[int], dilution: list[float]) -> Table:
    n = len(y)
    kind = np.where(np.array(y) == 1, "harvest", "person")
    return Table(np.zeros((n, 1)), np.array(y), np.ones(n), np.full(n, 10), kind, kind, np.array(dilution))


def test_rates_are_measured_by_dilution_against_all_organic_sessions() -> None:
    found = rates(table([1, 1, 1, 1, 0, 0], [0, 0, 0.5, 0.5, 0, 0]), np.array([9.0, 8.0, 7.0, -9.0, 1.0, 0.0]))
    assert found == {
        "left_out.auroc.dilution_00": 1.0,
        "left_out.tpr.dilution_00": 1.0,
        "left_out.auroc.dilution_50": 0.5,
        "left_out.tpr.dilution_50": 0.5,
    }
    assert mean_tpr(table([1, 1, 0], [0, 0.5, 0]), np.array([2.0, 0.0, 1.0])) == 0.5


def test_a_part_with_one_label_only_measures_as_nothing() -> None:
    assert rates(table([1, 1], [0, 0]), np.zeros(2)) == {}
    assert mean_tpr(table([0, 0], [0, 0]), np.zeros(2)) == 0.0


def test_metrics_are_shares(made: Made) -> None:
    assert made.metrics == left_out_metrics(made.model)
    assert all(0.0 <= value <= 1.0 for value in made.metrics.values())
    assert "left_out.ece" in made.metrics


def test_curves_have_rising_steps_and_end_where_the_booster_does(made: Made) -> None:
    curve = boosting(made.model, made.model.inner[0])
    assert list(curve.steps) == sorted(set(curve.steps))
    assert curve.steps[-1] == made.model.inner[0].classifier.trees.booster.num_trees()
    own = made.model.inner[0]
    assert curve.values[-1] == mean_tpr(made.model.table.where(own.held), own.margins)
    grown = tpr_growth(made.model)
    assert list(grown.steps) == sorted(grown.steps)
    assert len(grown.steps) == len(grown.values)


def test_the_page_says_what_was_measured(made: Made, workplace: Path) -> None:
    report = write_report("tiny", made, Path("mlruns/held_out/x"))
    text = report.read_text(encoding="utf-8")
    assert text == page("tiny", made, Path("mlruns/held_out/x"))
    assert report == Path("mlruns/reports") / f"{made.folder.name}.md"
    auroc = made.metrics["left_out.auroc.dilution_00"]
    assert f"| 0 % | {auroc:.3f} | {made.metrics['left_out.tpr.dilution_00']:.3f} |" in text
    assert "mlruns/held_out/x" in text
    assert "Held-out" not in page("tiny", made, None)
