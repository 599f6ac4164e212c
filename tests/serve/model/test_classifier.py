"""The classifier pools: each share alone is one of its two, and areas count for nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from serve.model.classifier import Classifier
from serve.scoring.scorer import Scorer
from serve.sessions.records import Session, Sessions


@pytest.fixture(scope="module")
def rows(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> np.ndarray:
    return tiny_scorer.judge(Sessions.of(sessions)).features


def shared(judge: Classifier, share: float) -> Classifier:
    return Classifier(judge.trees, replace(judge.experts, share=share))


def test_the_pool_lies_between_trees_and_experts_by_their_shares(tiny_scorer: Scorer, rows: np.ndarray) -> None:
    judge = tiny_scorer.bundle.classifier
    trees, experts = shared(judge, 0.0).margins(rows), shared(judge, 1.0).margins(rows)
    assert shared(judge, 0.25).margins(rows) == pytest.approx(0.75 * trees + 0.25 * experts)
    assert trees == pytest.approx(judge.trees.booster.predict(rows[:, : judge.n_features], raw_score=True))
    assert experts == pytest.approx(judge.experts.margins(rows[:, : judge.n_features]))


def test_areas_are_not_judged_by(tiny_scorer: Scorer, rows: np.ndarray) -> None:
    judge = tiny_scorer.bundle.classifier
    other = rows.copy()
    other[:, judge.n_features :] = 0.5
    assert np.array_equal(judge.margins(other), judge.margins(rows))
    assert not judge.contributions(rows, rows[:1], np.zeros(len(rows), np.int64))[:, judge.n_features :].any()


def test_trees_and_experts_that_read_different_features_are_refused(tiny_scorer: Scorer) -> None:
    judge = tiny_scorer.bundle.classifier
    fewer = replace(
        judge.experts, knots=judge.experts.knots[1:], scores=judge.experts.scores[1:],
        weights=judge.experts.weights[:, 1:],
    )  # fmt: skip
    with pytest.raises(ValueError, match="trees read"):
        Classifier(judge.trees, fewer)
