"""Measures that are known beforehand: perfect, inverted and mixed verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from train.evaluation.measure import Judged, main, measures, read_judged

LABEL = np.repeat(["harvesting", "organic", "evaluation"], [40, 200, 5])
DILUTION = np.where((LABEL == "harvesting") & (np.arange(245) < 20), 0.5, 0.0)
KIND = np.where(LABEL == "harvesting", "harvest", np.where(LABEL == "organic", "person", "evaluation"))


def judged(score: np.ndarray) -> Judged:
    return Judged(score, score > 0.5, LABEL, KIND, DILUTION, np.full(245, 10))


def test_perfect_scores_measure_as_perfect() -> None:
    found = measures(judged(np.where(LABEL == "harvesting", 0.9, 0.1)))
    assert found["auroc.all"] == found["tpr.all"] == found["tpr.dilution_50"] == found["flagged.harvest"] == 1.0
    assert found["flagged.person"] == found["flagged.evaluation"] == 0.0


def test_inverted_scores_measure_as_nothing() -> None:
    found = measures(judged(np.where(LABEL == "harvesting", 0.1, 0.9)))
    assert found["auroc.all"] == found["tpr.all"] == 0.0
    assert found["flagged.person"] == 1.0


def test_dilutions_are_measured_apart() -> None:
    found = measures(judged(np.where((LABEL == "harvesting") & (DILUTION == 0.0), 0.9, 0.1)))
    assert found["auroc.dilution_00"] == 1.0
    assert found["auroc.dilution_50"] == 0.5
    assert found["auroc.all"] == 0.75
    assert found["tpr.all"] == 0.5


def test_at_most_one_in_a_hundred_organic_sessions_lies_above_the_limit() -> None:
    score = np.where(LABEL == "harvesting", 0.6, np.linspace(0, 0.59, 245))
    score[LABEL == "organic"] = np.r_[np.linspace(0, 0.5, 198), 0.7, 0.8]
    assert measures(judged(score))["tpr.all"] == 1.0


def test_verdicts_are_joined_by_session_and_account(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = [
        {"session_id": "s", "account_id": account, "score": score, "label": "organic"}
        for account, score in (("b", 0.2), ("a", 0.9), ("c", 0.1))
    ]
    labels = [
        {"session_id": "s", "account_id": account, "label": label, "kind": label, "dilution": 0.0, "n_exchanges": 1}
        for account, label in (("a", "harvesting"), ("b", "organic"))
    ]
    for name, rows in (("v.jsonl", verdicts), ("l.jsonl", labels)):
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert read_judged(tmp_path / "v.jsonl", tmp_path / "l.jsonl").score.tolist() == [0.9, 0.2]
    assert main([str(tmp_path / "v.jsonl"), str(tmp_path / "l.jsonl")]) == 0
    assert "auroc.all              1.0000" in capsys.readouterr().out
    assert main([str(tmp_path / "l.jsonl").replace("l.jsonl", "none.jsonl"), str(tmp_path / "l.jsonl")]) == 2
    (tmp_path / "v.jsonl").write_text(json.dumps(verdicts[0]), encoding="utf-8")
    assert main([str(tmp_path / "v.jsonl"), str(tmp_path / "l.jsonl")]) == 2
    assert "lacks 1 labelled sessions" in capsys.readouterr().err
