from __future__ import annotations

import numpy as np
import pytest

from serve.model.community_model import FEATURES, CommunityFeatures
from train.learning.community_model import FittedCommunities, fit_communities, log_odds, passing_text, reliability
from train.learning.community_table import CommunityTable

N = 400


def table(*, n: int = N, seed: int = 0, apart: float = 4.0) -> CommunityTable:
    """Half campaigns, half benign in turn; only the first sign tells them apart, by some scales."""
    rng = np.random.default_rng(seed)
    is_campaign = np.arange(n) % 2
    signs = rng.normal(size=(n, len(FEATURES)))
    signs[:, 0] += apart * is_campaign
    share = is_campaign.astype(np.float64)
    return CommunityTable(
        signs, share, share.copy(), np.full(n, 10), np.array([f"s{index}" for index in range(n)]),
        np.full(n, 0.5), np.arange(n) // 2 % 4, np.zeros(n, np.bool_),
    )  # fmt: skip


def test_the_sign_that_tells_campaigns_apart_weighs_most():
    weight = fit_communities(table(), 0.01).model.weight
    assert max(weight, key=lambda name: abs(weight[name])) == FEATURES[0]
    assert weight[FEATURES[0]] > 0


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_at_most_the_rate_of_left_out_benign_communities_passes(rate: float):
    benign = table(apart=0.5)
    fitted = fit_communities(benign, rate)
    passed = fitted.left_out[benign.is_benign] > fitted.model.threshold
    assert passed.mean() <= rate
    assert passed.sum() >= rate * N / 2 - 2 or fitted.model.threshold == 0.0


def test_the_threshold_is_never_below_even_odds():
    assert fit_communities(table(apart=8.0), 0.5).model.threshold == 0.0


def test_a_fold_is_judged_by_a_model_that_never_saw_it():
    """Where one fold's labels are turned round, models of the others call its campaigns benign."""
    turned = table(apart=6.0)
    own = turned.fold == 0
    turned.signs[own, 0] = 6.0 - turned.signs[own, 0]
    left_out = fit_communities(turned, 0.01).left_out
    assert (left_out[own & turned.is_campaign] < left_out[own & turned.is_benign].min()).all()
    assert np.median(left_out[~own & turned.is_campaign]) > 0 > np.median(left_out[~own & turned.is_benign])


def test_mixed_communities_teach_nothing():
    plain = table()
    mixed = table(n=80, seed=1)
    mixed.signs[:] = 100.0
    mixed.task_share[:] = 0.5
    assert fit_communities(CommunityTable.joined([plain, mixed]), 0.05).model == fit_communities(plain, 0.05).model


def test_log_odds_of_a_table_are_those_of_each_community():
    model = fit_communities(table(), 0.05).model
    rows = np.random.default_rng(3).normal(scale=3.0, size=(2, len(FEATURES)))
    expected = [model.log_odds(CommunityFeatures(*row)) for row in rows]
    assert log_odds(model, rows) == pytest.approx(expected)


def test_campaigns_of_one_fold_alone_are_refused():
    alone = table()
    alone.task_share[alone.fold > 0] = 0.0
    alone.harvest_share[alone.fold > 0] = 0.0
    with pytest.raises(ValueError, match="no campaigns of two folds"):
        fit_communities(alone, 0.05)


def test_reliability_counts_both_kinds_alike():
    one = table(n=4)
    odds = np.array([-2.0, 3.0, 3.0, 3.0])  # benign, campaign, benign, campaign
    lines = reliability(odds, one, (0.0, 0.5, 1.0)).splitlines()
    assert lines[1].split() == ["0.00", "to", "0.50", "1", "0", "0.119", "0.000"]
    assert lines[2].split() == ["0.50", "to", "1.00", "3", "2", "0.953", "0.667"]


def test_no_sign_may_speak_for_innocence():
    turned = table()
    turned.signs[:, 1] = -turned.signs[:, 0]
    assert fit_communities(turned, 0.05).model.weight[FEATURES[1]] == 0.0


def test_communities_of_one_source_count_less_each_than_those_of_many():
    """Half of the benign communities are one source's, which looks like campaigns."""
    many, one = table(), table()
    for own in (many, one):
        own.signs[own.is_benign & (np.arange(N) % 4 == 0), 0] += 4.0
    one.source[one.is_benign & (np.arange(N) % 4 == 0)] = "the same"
    assert fit_communities(one, 0.05).model.weight[FEATURES[0]] > fit_communities(many, 0.05).model.weight[FEATURES[0]]


def test_what_passes_is_counted_by_kind_and_dilution():
    five = table(n=5)
    five.task_share[:] = five.harvest_share[:] = (1.0, 1.0, 0.0, 0.0, 0.5)
    five.n_accounts[:] = (10, 20, 30, 40, 50)
    five.dilution[:2] = (0.0, 0.9)
    model = fit_communities(table(), 0.05).model
    above = model.threshold + 1.0
    lines = passing_text(FittedCommunities(model, np.array([above, -9.0, above, -9.0, -9.0])), five).splitlines()
    assert [line.split()[:4] for line in lines[:3]] == [
        ["benign", "1", "of", "2"], ["mixed", "0", "of", "1"], ["campaigns", "1", "of", "2"]
    ]  # fmt: skip
    assert "30 accounts that are of no campaign" in lines[0]
    assert [" ".join(line.split()[:5]) for line in lines[3:]] == ["at 0% 1 of 1", "at 90% 0 of 1"]
