"""A threshold lets as many organic sessions pass as its share allows, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from train.evaluation.thresholds import fpr_limit, fpr_limits


@pytest.mark.parametrize(("fpr", "n_above"), [(0.0, 0), (0.0099, 0), (0.01, 1), (0.5, 50), (0.999, 99)])
def test_as_many_lie_above_as_the_share_allows(fpr: float, n_above: int) -> None:
    scores = np.random.default_rng(0).permutation(100) / 100
    assert (scores > fpr_limit(scores, fpr)).sum() == n_above


def test_of_equal_scores_none_lies_above() -> None:
    assert (np.ones(10) > fpr_limit(np.ones(10), 0.3)).sum() == 0


def test_many_shares_give_what_each_gives() -> None:
    scores, fprs = np.random.default_rng(1).normal(size=77), (0.001, 0.01, 0.2)
    assert fpr_limits(scores, fprs).tolist() == [fpr_limit(scores, fpr) for fpr in fprs]
