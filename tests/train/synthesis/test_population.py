from __future__ import annotations

import numpy as np
import pytest

from train.corpora.pool import Pool, PromptRow, Source
from train.synthesis.population import Population, PopulationSettings, populate, without_twins

N = 400


@pytest.fixture(scope="module")
def pool() -> Pool:
    kinds = {"talk": "person", "shop": "product", "one": "harvest", "two": "harvest", "three": "harvest"}
    labels = {"person": "organic", "product": "organic", "harvest": "harvesting"}
    return Pool.of(
        (
            Source(name, labels[kind], kind, name),
            [PromptRow(f"{name} {row}", f"{row // 4}", row % 4) for row in range(N)],
        )
        for name, kind in kinds.items()
    )


def drawn(pool: Pool, *, seed: int = 0, **options: object) -> Population:
    settings = PopulationSettings(**{"n_benign": 60, "n_campaigns": 2, "accounts": (5, 8)} | options)  # type: ignore[arg-type]
    benign = np.flatnonzero(pool.labels == "organic")
    return populate(pool, benign, ["one", "two", "three"], np.arange(len(pool)) // 100, settings, seed=seed)


def test_a_population_has_the_accounts_it_was_told_to_have(pool: Pool):
    found = drawn(pool)
    names, counts = np.unique(found.campaign[found.campaign != ""], return_counts=True)
    assert (found.campaign == "").sum() == 60
    assert len(names) == 2
    assert ((counts >= 5) & (counts <= 8)).all()
    assert np.diff(found.offsets).min() >= 30
    assert np.diff(found.offsets).max() <= 100


def test_no_corpus_is_in_two_campaigns_and_no_benign_account_sends_one(pool: Pool):
    found = drawn(pool)
    groups = pool.groups[found.rows]
    campaign = found.campaign[found.owner]
    for name in ("one", "two", "three"):
        assert len(np.unique(campaign[groups == name])) <= 1
    assert (pool.labels[found.rows][campaign == ""] == "organic").all()


@pytest.mark.parametrize("dilution", [0.0, 0.5, 0.9])
def test_dilution_is_the_share_of_cover_traffic(pool: Pool, dilution: float):
    found = drawn(pool, dilution=dilution)
    inside = found.campaign[found.owner] != ""
    assert 1 - found.is_task[inside].mean() == pytest.approx(dilution, abs=0.02)
    assert (pool.labels[found.rows][found.is_task] == "harvesting").all()
    assert not found.is_task[~inside].any()


def test_a_seed_draws_the_same_population(pool: Pool):
    one, same, other = drawn(pool), drawn(pool), drawn(pool, seed=1)
    assert np.array_equal(one.rows, same.rows)
    assert not np.array_equal(one.rows[:50], other.rows[:50])


def test_more_campaigns_than_corpora_are_refused(pool: Pool):
    with pytest.raises(ValueError, match="3 campaign groups for 4 campaigns"):
        drawn(pool, n_campaigns=4)


def test_people_who_send_what_another_sent_are_left_out(pool: Pool):
    found = drawn(pool)
    alone = without_twins(found, pool)
    people = [
        set(alone.rows[alone.offsets[account] : alone.offsets[account + 1]].tolist())
        for account in np.flatnonzero(np.isin(alone.kind, ("person", "aggregator"))).tolist()
    ]
    assert 1 < len(people) < np.isin(found.kind, ("person", "aggregator")).sum()
    for index, own in enumerate(people):
        assert len(own & set().union(*people[:index])) <= 0.2 * len(own)
    assert (alone.campaign != "").sum() == (found.campaign != "").sum()
    assert (alone.kind == "product").sum() == (found.kind == "product").sum()


def test_a_population_of_some_accounts_is_theirs_alone(pool: Pool):
    found = drawn(pool)
    some = found.of_accounts(np.array([3, 1]))
    expected = [found.rows[found.offsets[account] : found.offsets[account + 1]] for account in (3, 1)]
    assert some.rows.tolist() == np.concatenate(expected).tolist()
    assert some.kind.tolist() == found.kind[[3, 1]].tolist()
    assert len(found.of_accounts(np.zeros(0, np.int64))) == 0
