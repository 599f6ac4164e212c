"""Families of features part the judged columns, and the table says what each choice scored."""

from __future__ import annotations

import numpy as np
import pytest

from serve.features.session_features import feature_names, n_judged
from train.evaluation.exam import FoldScores
from train.experiments.ablation import LENGTH, ablation_table, choices, main

AREAS = ("coding", "writing")


def test_families_part_the_judged_columns() -> None:
    found = {choice.name: choice.columns for choice in choices(AREAS)}
    n = n_judged(AREAS)
    alone = np.concatenate([columns for name, columns in found.items() if name.endswith(" alone")])
    assert sorted(alone) == list(range(n)) == found["all"].tolist()
    names = feature_names(AREAS)
    assert {names[column].split(".")[0] for column in found["evidence alone"]} == {"evidence"}
    assert sorted([*found["evidence alone"], *found["without evidence"]]) == list(range(n))


def test_table_knows_a_perfect_and_a_blind_choice() -> None:
    kind = np.array(["person"] * 100 + ["harvest"] * 10)
    scores = {"all": np.repeat([0.0, 1.0], [100, 10]), "size alone": np.zeros(110)}
    n = len(kind)
    result = FoldScores("0", "known traffic", np.full(n, LENGTH), kind, kind, np.zeros(n), scores)
    text = ablation_table({"known traffic": [result]}, [0.0])
    assert "| all | 1.00 / 1.00 |" in text
    assert "| size alone | 0.50 / 0.00 |" in text


def test_a_bundle_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment=demo"]) == 2
    assert "expected exam" in capsys.readouterr().err
