"""Adaptation is measured on people that no side shares, and its outcome adds up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from train.config.settings import HoldOut, Settings
from train.experiments.adaptation import EXAM, adaptation_table, outcome, people_halves
from train.experiments.run import compose
from train.inputs.prepared_inputs import prepare
from train.synthesis.composition import Composition


def test_people_are_on_one_side_and_campaigns_are_examined(tiny_settings: Settings) -> None:
    base = prepare(replace(tiny_settings, hold_out=HoldOut.new_provider).inputs)
    fold = base.inputs.fold
    assert fold is not None
    own, examined = people_halves(base, fold, seed=0)
    pool = base.inputs.pool
    assert not set(pool.person[own].tolist()) & set(pool.person[examined].tolist())
    assert (pool.labels[own] == "organic").all()
    assert sorted([*own, *examined]) == sorted(fold.test)


def test_outcomes_are_shares_of_their_own_sessions() -> None:
    n = 200
    kind = np.array(["person"] * n + ["harvest"] * 4 * 10)
    dilution = np.concatenate([np.zeros(n), np.repeat(EXAM.dilutions, 10)])
    composition = Composition(
        np.arange(len(kind)), np.arange(len(kind) + 1), kind, kind, dilution, (), np.zeros(len(kind))
    )  # fmt: skip
    score = np.concatenate([np.linspace(0, 1, n), np.full(10, 2.0), np.full(30, -1.0)])
    flagged = np.concatenate([np.arange(n) < 5, np.arange(40) < 5])
    found = outcome(score, flagged, composition)
    assert found.realised_fpr == pytest.approx(5 / n)
    assert (found.tpr[0.0], found.tpr[0.5]) == (1.0, 0.0)
    assert (found.auroc[0.0], found.auroc[0.5]) == (1.0, 0.0)
    assert found.flagged[0.0] == 0.5
    assert "| adapted | 0.0250 | 1.00 | 0.00 |" in adaptation_table({"adapted": found})


def test_settings_are_those_of_a_run() -> None:
    assert compose(["experiment=corpora"]).corpora.dir is not None
