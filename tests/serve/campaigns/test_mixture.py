from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from serve.campaigns.mixture import Seeds, fit_mixture, merged


def hidden_campaign(*, seed: int = 0):
    """Forty accounts of 20 prompts: all send their own topic; the first ten hide 5 prompts of one common region in it.

    Prompts are points on a line, 20 a topic apart; the kernel knows those within 1 of another account.
    """
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(40), 20)
    topic = owner % 4
    place = 20.0 * topic + rng.uniform(-3, 3, len(owner))
    hidden = (owner < 10) & (np.arange(len(owner)) % 20 < 5)
    place[hidden] = 200.0 + rng.uniform(-1, 1, int(hidden.sum()))
    near = np.exp(-np.abs(place[:, None] - place[None]) / 0.5) * (owner[:, None] != owner[None])
    near[near < 0.1] = 0.0
    return scipy.sparse.csr_array(near.astype(np.float32)), owner, topic, hidden


@pytest.fixture(scope="module")
def fitted():
    kernel, owner, _, hidden = hidden_campaign()
    account = np.arange(40)
    labels = [np.where(account < 8, 0, -1), account % 4]
    claim = np.where(hidden, 0.95, 0.05)
    return fit_mixture(kernel, owner, np.ones(len(owner)), Seeds(labels, (claim, 1.0 - claim))), owner, hidden


def test_rows_sum_to_one(fitted):
    blended, _, _ = fitted
    assert blended.part.sum(axis=1) == pytest.approx(1.0, abs=1e-4)
    assert blended.share.sum(axis=1) == pytest.approx(1.0, abs=1e-4)


def test_a_hidden_part_is_found_from_most_of_its_accounts(fitted):
    blended, _, hidden = fitted
    community = blended.part[hidden].sum(axis=0).argmax()
    assert (blended.part[hidden, community] > 0.5).mean() > 0.95
    assert (blended.part[~hidden, community] > 0.5).mean() < 0.02


def test_the_gain_tells_members_from_others(fitted):
    blended, _, hidden = fitted
    community = blended.part[hidden].sum(axis=0).argmax()
    gain = blended.gain[:, community]
    assert gain[:10].min() > gain[10:].max()
    assert gain[:5].min() > 4.0 > 1.0 > gain[10:].max()


def test_the_share_is_what_was_hidden(fitted):
    blended, _, hidden = fitted
    community = blended.part[hidden].sum(axis=0).argmax()
    assert blended.share[:10, community] == pytest.approx(0.25, abs=0.1)


def test_the_share_is_of_all_that_was_sent_where_what_was_hidden_is_kept_first():
    kernel, owner, _, hidden = hidden_campaign()
    kept = np.flatnonzero(hidden | (np.arange(len(owner)) % 3 == 0))
    account = np.arange(40)
    claim, weight = np.where(hidden, 0.95, 0.05)[kept], np.where(hidden, 1.0, 3.0)[kept]
    seeds = Seeds([np.where(account < 8, 0, -1), account % 4], (claim, 1.0 - claim))
    blended = fit_mixture(kernel[kept][:, kept], owner[kept], weight, seeds)
    community = blended.part[hidden[kept]].sum(axis=0).argmax()
    assert blended.share[:10, community] == pytest.approx(0.25, abs=0.1)


def test_what_one_account_repeats_is_nobodys():
    kernel = scipy.sparse.csr_array((20, 20), dtype=np.float32)
    blended = fit_mixture(kernel, np.repeat([0, 1], 10), np.ones(20), Seeds([np.array([0, 0])], [np.ones(20)]))
    assert blended.gain.max(initial=0.0) < 1.0


def test_communities_as_near_to_each_other_as_to_themselves_are_merged():
    part = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    near = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    joined = merged(part, near)
    assert joined.shape[1] == 2
    assert joined[:, 0].tolist() == [1.0] * 10 + [0.0] * 5


def test_communities_far_apart_stay():
    part = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    assert merged(part, np.eye(3)).shape[1] == 3


def test_a_community_of_hardly_any_prompt_goes_to_everything_else():
    part = np.concatenate([np.repeat(np.eye(3, dtype=np.float32)[[0, 2]], 5, axis=0), np.eye(3, dtype=np.float32)[[1]]])
    joined = merged(part, np.eye(3))
    assert joined.shape[1] == 2
    assert joined[-1].tolist() == [0.0, 1.0]


def test_what_nobody_claims_is_everything_elses():
    parts = Seeds([np.array([0, -1])], [np.array([0.4, 1.0])]).parts(np.array([0, 1]))
    assert parts[0].tolist() == pytest.approx([0.4, 0.6])
    assert parts[1].tolist() == pytest.approx([0.0, 1.0])
