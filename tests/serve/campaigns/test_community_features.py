from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from serve.campaigns.community_features import MIN_ACCOUNTS, communities_of, measure
from serve.campaigns.mixture import Mixture
from serve.campaigns.sketches import Items
from serve.model.community_model import CommunityFeatures

N_PROMPTS = 10


def shared(n_accounts: int, *, text: object = None, cell: object = None, level: float = 0.5) -> tuple[Mixture, Items]:
    """Accounts of ten prompts, all of one community."""
    n = n_accounts * N_PROMPTS
    owner = np.repeat(np.arange(n_accounts), N_PROMPTS)
    evidence = np.tile(np.array([level, -0.2, -0.4], np.float32), (n, 1))
    zeros = np.zeros(n, np.int16)
    items = Items(
        owner=owner, text=np.asarray(np.arange(n) if text is None else text, np.uint64), count=np.ones(n, np.int64),
        priority=np.ones(n), evidence=evidence, vector=np.ones((n, 4), np.int8), area=zeros, skill=zeros,
        cell=np.asarray(zeros if cell is None else cell, np.int16), keys=np.zeros((n, 4), np.uint64),
        at=np.full(n, np.nan),
    )  # fmt: skip
    part = np.tile(np.array([1.0, 0.0], np.float32), (n, 1))
    share = np.tile(np.array([1.0, 0.0], np.float32), (n_accounts, 1))
    return Mixture(part, share, np.full((n_accounts, 1), 100.0)), items


def signs_of(blended: Mixture, items: Items, weight: NDArray[np.float64] | None = None) -> CommunityFeatures:
    weight = np.ones(len(items)) if weight is None else weight
    return measure(communities_of(blended, items), blended, items, weight)[0]


def test_lean_is_harvest_evidence_less_the_larger_of_the_others():
    assert signs_of(*shared(8, level=0.5)).lean == pytest.approx(0.7)


def test_an_item_counts_by_the_root_of_the_exchanges_that_it_stands_for():
    """One prompt in five looks like harvest; a sketch keeps all of those and a quarter of the others."""
    looks = np.arange(80) % 5 == 0
    blended, items = shared(8, cell=looks)
    items.evidence[:] = np.where(looks[:, None], (0.9, -0.2, -0.4), (-0.6, -0.2, -0.4))
    assert signs_of(blended, items).lean == pytest.approx(0.2 * 0.9 - 0.8 * 0.6 + 0.2)
    kept = np.flatnonzero(looks | (np.arange(80) % 5 == 1))
    part = Mixture(blended.part[kept], blended.share, blended.gain)
    found = signs_of(part, items.take(kept), np.where(looks[kept], 1.0, 4.0))
    assert found.lean == pytest.approx((0.9 - 2 * 0.6) / 3 + 0.2)
    assert found.broad == pytest.approx(np.log(2.0 - (2 / 3) ** 50 - (1 / 3) ** 50))
    assert signs_of(part, items.take(kept)).lean == pytest.approx((0.9 - 0.6) / 2 + 0.2)


def test_tied_is_the_log_of_the_median_gain():
    assert signs_of(*shared(8)).tied == pytest.approx(np.log(100.0))


def test_broad_is_the_log_of_distinct_cells_in_fifty_draws():
    assert signs_of(*shared(8)).broad == pytest.approx(0.0)
    two = signs_of(*shared(8, cell=np.arange(80) % 2)).broad
    assert two == pytest.approx(np.log(2 * (1 - 0.5**50)))


def test_apart_is_the_share_that_nobody_outside_sends():
    blended, items = shared(16, text=np.concatenate([np.arange(80), np.arange(40), 100 + np.arange(40)]))
    blended.part[80:] = (0.0, 1.0)
    blended.gain[8:] = 0.0
    assert signs_of(blended, items).apart == pytest.approx(0.5)


def test_fewer_accounts_than_make_a_campaign_are_no_community():
    assert communities_of(*shared(MIN_ACCOUNTS - 1)) == ()
    assert len(communities_of(*shared(MIN_ACCOUNTS))) == 1


def test_an_account_that_shares_far_less_than_is_usual_is_left_out():
    blended, items = shared(10)
    blended.share[9] = (0.2, 0.8)
    assert len(communities_of(blended, items)[0].accounts) == 10
    blended.part[90:] = (0.2, 0.8)
    assert communities_of(blended, items)[0].accounts.tolist() == list(range(9))


def test_an_account_that_is_tied_far_less_is_left_out():
    blended, items = shared(10)
    blended.gain[3] = 9.0
    assert 3 not in communities_of(blended, items)[0].accounts


def test_an_account_whose_share_looks_like_a_persons_is_left_out():
    blended, items = shared(10)
    items.evidence[20:30] = (-0.2, 0.4, -0.4)
    assert communities_of(blended, items)[0].accounts.tolist() == [0, 1, *range(3, 10)]


def test_accounts_with_subjects_of_their_own_share_nothing_out():
    """Eight accounts along eight axes: two prompts of one are the same, those of two have nothing in common."""
    blended, items = shared(8)
    vectors = np.zeros((80, 8), np.int8)
    vectors[np.arange(80), items.owner] = 100
    own = dataclasses.replace(items, vector=vectors)
    assert signs_of(blended, own).shared_out == pytest.approx(-1.0)


def test_accounts_that_work_off_one_queue_are_as_alike_as_their_own_prompts():
    blended, items = shared(8)
    vectors = np.zeros((80, 8), np.int8)
    vectors[np.arange(80), np.random.default_rng(0).integers(8, size=80)] = 100
    assert signs_of(blended, dataclasses.replace(items, vector=vectors)).shared_out == pytest.approx(0.0, abs=0.05)
    assert signs_of(blended, items).shared_out == pytest.approx(0.0)


def hiding(n_other: int, level: float) -> tuple[Mixture, Items]:
    """Eight accounts that share ten prompts (log-odds 2) and send others, of some evidence, that they don't share."""
    n_of = N_PROMPTS + n_other
    items = shared(8 * n_of // N_PROMPTS)[1]
    owner, is_shared = np.repeat(np.arange(8), n_of), np.arange(8 * n_of) % n_of < N_PROMPTS
    items.evidence[:, 0] = np.tanh(np.where(is_shared, 2.0, level) / 2.0)
    part = np.where(is_shared[:, None], (1.0, 0.0), (0.0, 1.0)).astype(np.float32)
    share = np.tile(np.float32([N_PROMPTS / n_of, n_other / n_of]), (8, 1))
    return Mixture(part, share, np.full((8, 1), 100.0)), dataclasses.replace(items, owner=owner)


def test_harvest_and_rest_are_the_evidence_of_what_accounts_share_and_of_all_else():
    found = signs_of(*hiding(10, -3.0))
    assert found.harvest == pytest.approx(2.0, abs=1e-4)
    assert found.rest == pytest.approx(3.0 * 10 / 13, abs=1e-4)
    assert signs_of(*hiding(30, -3.0)).rest == pytest.approx(3.0 * 30 / 33, abs=1e-4)
    assert signs_of(*hiding(10, 3.0)).rest == pytest.approx(-3.0 * 10 / 13, abs=1e-4)


def test_accounts_that_share_all_they_send_have_no_rest():
    assert signs_of(*hiding(0, 0.0)).rest == pytest.approx(0.0)


def test_one_account_unlike_the_others_changes_neither():
    blended, items = hiding(10, -3.0)
    items.evidence[:20, 0] = 0.999
    found = signs_of(blended, items)
    assert (found.harvest, found.rest) == pytest.approx((2.0, 30 / 13), abs=1e-4)


def test_evidence_without_bounds_stays_finite():
    blended, items = shared(8, level=1.0)
    assert signs_of(blended, items).harvest == pytest.approx(14.5, abs=0.1)


def test_even_is_0_where_all_share_alike_and_falls_with_the_ratio_of_quartiles():
    blended, items = shared(8)
    assert signs_of(blended, items).even == pytest.approx(0.0)
    blended.share[:4, 0] = 0.4
    assert signs_of(blended, items).even == pytest.approx(-np.log(1.0 / 0.4))
    blended.share[:4, 0] = 0.0
    assert signs_of(blended, items).even == pytest.approx(-np.log(1000.0))


def test_size_is_the_log_of_the_number_of_accounts():
    assert signs_of(*shared(8)).size == pytest.approx(np.log(8))
