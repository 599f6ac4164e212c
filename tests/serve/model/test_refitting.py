"""Fitting: normal scores by rank, one expert a degree of dilution, and directions that are kept."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from serve.model.logistic_ensemble import LogisticEnsemble
from serve.model.refitting import DEGREES, ClassifierSettings, Rows, fit, fit_experts, interactions, with_confirmed

N = 4000
RNG = np.random.default_rng(0)


def rows_of(X: np.ndarray, y: np.ndarray, dilution: np.ndarray | None = None) -> Rows:
    return Rows(X, y, np.ones(len(y)), np.zeros(len(y)) if dilution is None else dilution)


def test_scores_are_those_of_ranks_and_equal_values_share_theirs() -> None:
    X = np.stack([RNG.permutation(N), np.where(np.arange(N) < N // 2, 0.0, 1.0)], axis=1).astype(np.float64)
    experts = fit_experts(rows_of(X, np.arange(N) % 2), np.zeros(2, bool), strength=0.01, share=0.5)
    scores = experts.normal_scores(np.array([[N / 2, 0.0], [N * 0.9, 1.0], [-1.0, 0.0], [2.0 * N, 1.0]]))
    assert scores[:2, 0] == pytest.approx(ndtri([0.5, 0.9]), abs=0.02)
    assert scores[2:, 0].tolist() == [-4.0, 4.0]
    assert scores[:2, 1].tolist() == [-4.0, 4.0]


def test_one_expert_a_degree_finds_the_features_that_tell() -> None:
    y = np.arange(N) % 2
    dilution = np.where(y == 1, RNG.choice([0.0, 0.5, 0.75, 0.9], N), 0.0)
    X = RNG.normal(size=(N, 3))
    X[:, 0] += 3.0 * ((y == 1) & (dilution == 0.0))
    X[:, 1] += 3.0 * ((y == 1) & (dilution > 0.6))
    experts = fit_experts(rows_of(X, y, dilution), np.zeros(3, bool), strength=0.05, share=0.5)
    assert len(experts.weights) == len(DEGREES)
    assert np.abs(experts.weights[0]).argmax() == 0
    assert np.abs(experts.weights[2]).argmax() == 1
    assert np.abs(experts.weights[1]).max() < 0.2


def test_a_direction_that_is_certain_is_never_turned_round() -> None:
    y = np.arange(N) % 2
    X = RNG.normal(size=(N, 2)) - 2.0 * y[:, None]
    free = fit_experts(rows_of(X, y), np.zeros(2, bool), strength=0.05, share=0.5)
    bound = fit_experts(rows_of(X, y), np.array([True, False]), strength=0.05, share=0.5)
    assert (free.weights < 0).all()
    assert bound.weights[0, 0] == 0.0
    assert bound.weights[0, 1] < 0


def test_what_prompts_score_may_count_only_where_they_stand_apart() -> None:
    names = ["evidence.harvest_mean", "geometry.pair_q10"]
    assert interactions(names).tolist() == [[0, 1]]
    y = np.arange(N) % 2
    alike = RNG.random(N)
    X = np.stack([RNG.normal(size=N) + np.where(alike < 0.5, 3.0 * y, 0.0), alike], axis=1)
    rows = rows_of(X, y)
    plain = fit_experts(rows, np.zeros(2, bool), strength=0.05, share=0.5)
    crossed = fit_experts(rows, np.zeros(2, bool), strength=0.05, share=0.5, interactions=interactions(names))

    def told(found: LogisticEnsemble, at: float) -> float:
        return float(np.ptp(found.margins(np.array([[-2.0, at], [3.0, at]]))))

    assert told(crossed, 0.1) > 1.5 * told(crossed, 0.9)
    assert told(plain, 0.1) == pytest.approx(told(plain, 0.9), rel=0.2)


def test_experts_of_confirmed_campaigns_stand_beside_the_others_and_read_only_what_prompts_score() -> None:
    names = ["evidence.harvest_top5", "coverage.rarefied", "geometry.pair_mean"]
    y = np.arange(N) % 2
    X = RNG.normal(size=(N, 3))
    X[:, 1] += 2.0 * y
    settings = ClassifierSettings(n_rounds=5)
    general = fit(rows_of(X, y), names, settings, seed=0)
    own = RNG.normal(size=(400, 3))
    own[:, [0, 2]] += 3.0 * (np.arange(400) % 2)[:, None]
    dilution = np.where(np.arange(400) % 4 == 1, 0.9, 0.0)
    found = with_confirmed(general, rows_of(own, np.arange(400) % 2, dilution), names, settings)
    assert found.trees is general.trees
    assert np.array_equal(found.experts.weights[: len(general.experts.weights)], general.experts.weights)
    added = found.experts.weights[len(general.experts.weights) :]
    assert len(added) == 2
    assert (added[:, 0] > 0.5).all()
    assert (added[:, 1:] == 0.0).all()
    tasks = np.array([[3.0, 0.0, 0.0], [-3.0, 0.0, 0.0]])
    assert np.ptp(found.experts.margins(tasks)) > np.ptp(general.experts.margins(tasks)) + 1.0
