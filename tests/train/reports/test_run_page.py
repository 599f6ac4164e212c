"""Pages of runs and exams hold the numbers that were measured, load nothing and are the same every time."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from train.config.settings import Settings
from train.experiments.run import bundled
from train.learning.bundling import BundlingSettings, Made
from train.reports.exam_figures import exam_plots
from train.reports.plots import Plot, bars, blank
from train.reports.run_figures import FPRS, rates_at, run_plots
from train.reports.run_page import write_exam_page, write_run_page


@pytest.fixture(scope="module")
def made(tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("bundles")
    return bundled(replace(tiny_settings, bundling=BundlingSettings(str(folder))))


@pytest.fixture(scope="module")
def drawn(made: Made) -> tuple[Plot, ...]:
    return run_plots(made.model)


def test_rates_count_what_lies_above_the_threshold() -> None:
    negative = np.arange(100.0)
    found = rates_at(np.array([98.5, 99.5, 50.0, 0.0]), negative)
    assert found[0] == 0.25  # none of 100 may lie above: 99 is the threshold
    assert np.interp(0.011, FPRS, found) == pytest.approx(0.5)
    assert (np.diff(found) >= 0).all()


def test_a_run_s_page_holds_its_numbers_and_its_data(made: Made, drawn: tuple[Plot, ...], tmp_path: Path) -> None:
    write_run_page(tmp_path / "run.html", "<b>tiny", made, drawn)
    text = (tmp_path / "run.html").read_text()
    assert "<b>tiny" not in text
    for plot in drawn:
        assert plot.caption.split("'")[0] in text
        for row in plot.rows:
            for cell in row:
                assert f">{cell}</td>" in text
    for source in made.data["sources"]:
        assert source["name"] in text
    for name, value in made.metrics.items():
        if ".tpr." in name:
            assert f"<dd>{value:.3f}</dd>" in text
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert "<script" not in text


def test_families_share_all_the_gain(drawn: tuple[Plot, ...]) -> None:
    families = next(plot for plot in drawn if plot.name == "families")
    assert {"evidence", "geometry", "coverage"} <= {row[0] for row in families.rows}
    assert sum(float(row[1]) for row in families.rows) == pytest.approx(1.0, abs=0.01)


def test_a_figure_is_always_the_same_bytes() -> None:
    def plot() -> Plot:
        figure, axes = blank("a line", "y")
        axes.plot([0, 1], [0, 1])
        return Plot("a", "b", "c", figure, (), ())

    assert plot().source == plot().source
    assert b"a line" in base64.b64decode(plot().source.partition("base64,")[2])


def test_bars_are_sorted_and_may_be_none() -> None:
    own = bars("n", "t", "c", [("a", 0.2, 10), ("b", 0.9, 2_000)], "TPR")
    assert own.rows == (("b", "0.9000", "2,000"), ("a", "0.2000", "10"))
    assert bars("n", "t", "c", [], "TPR").rows == ()


def test_an_exam_s_page_has_every_model_of_every_setting(tmp_path: Path) -> None:
    cell = {
        "length": 50, "auroc": [0.9, 0.8, 1.0], "tpr@0.01": [0.5, 0.4, 0.6], "tpr@0.001": [0.1, 0.0, 0.2],
        "precision@0.01": {"0.01": 0.33},
    }  # fmt: skip
    own = {
        "cells": [{"model": m, "dilution": d, **cell} for m in ("ours", "prada") for d in (0.0, 0.5)],
        "tpr_by_campaign": {"katas": [0.25, 8]}, "fpr_by_source": {"person a": [0.125, 16], "person b": [0.0, 9]},
        "evaluation_rate": 0.5, "realised_fpr": {"0.01": [0.02, 0.0, 0.04]}, "ece": 0.1, "length": 50,
        "exchanges_until_detection": {"ever": 0.8, "first quarter": 5.0, "half": 10.0, "three quarters": float("nan")},
    }  # fmt: skip
    write_exam_page(tmp_path / "exam.html", exam_plots({"settings": {"known traffic": own, "new provider": own}}))
    text = (tmp_path / "exam.html").read_text()
    assert text.count("<h2") == 2
    for expected in ("0.900 (0.800–1.000)", ">prada</td>", "0.90 / 0.50", "0.2500", "0.1250", "0.0200 at 0.01"):
        assert text.count(expected) >= 2
    assert "person b" not in text
