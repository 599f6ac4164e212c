"""The exam's report on results whose answer is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from train.config.settings import Settings
from train.evaluation.exam import ExamSettings, FoldScores
from train.reports import exam_report

EXAM = ExamSettings(lengths=(50,), dilutions=(0.0,), n_bootstrap=10)


def result(scores: dict[str, list[float]], p_values: list[float]) -> FoldScores:
    """Two campaign sessions, then 100 organic ones."""
    columns = {name: np.array([*own, *np.linspace(0, 1, 100)]) for name, own in scores.items()}
    return FoldScores(
        fold="known traffic 0", setting="known traffic", length=np.full(102, 50),
        kind=np.array(["harvest"] * 2 + ["person"] * 100), campaign=np.array(["c"] * 2 + ["s"] * 100),
        dilution=np.zeros(102), scores=columns, p_value=np.array([0.001, 0.5, *p_values]),
        score=np.array([1.0, 1.0, *np.zeros(100)]), detected_at=np.array([10, 0]),
    )  # fmt: skip


@pytest.fixture
def values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setattr(exam_report, "REPORTS", tmp_path)
    own = result({"ours": [2.0, 2.0], "prada": [-1.0, 2.0]}, [0.005, *[0.5] * 99])
    report = exam_report.write_exam([own], replace(Settings(), exam=EXAM))
    written = json.loads((tmp_path / "exam.json").read_text())
    assert (tmp_path / "exam.md").read_text() == report.markdown
    assert "| prada | 0.50 / 0.50 |" in report.markdown
    assert report.metrics == {"known_traffic.n50.d0.auroc": 1.0, "known_traffic.n50.d0.tpr_at_1_percent": 1.0}
    found: dict[str, object] = written["settings"]["known traffic"]
    return found


def test_realised_fpr_counts_organic_sessions_alone(values: dict[str, object]) -> None:
    assert values["realised_fpr"] == {"0.01": [0.01, 0.01, 0.01], "0.001": [0.0, 0.0, 0.0]}


def test_detection_says_how_many_are_ever_flagged_and_when(values: dict[str, object]) -> None:
    assert values["exchanges_until_detection"] == {
        "ever": 0.5, "first quarter": 10.0, "half": 10.0, "three quarters": 10.0,
    }  # fmt: skip


def test_calibration_error_of_a_perfect_score_is_zero(values: dict[str, object]) -> None:
    assert values["ece"] == 0.0


def test_precision_is_bayes() -> None:
    assert exam_report._precision(0.5, 0.01, 0.01) == pytest.approx(0.005 / (0.005 + 0.0099), abs=1e-4)
