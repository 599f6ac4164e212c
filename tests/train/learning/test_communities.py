from __future__ import annotations

import numpy as np
import pytest

from serve.features.prompt_scorer import PromptScorer
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.learning.communities import CommunitySettings, Plan, composed_communities, left_out_groups
from train.learning.evidence import EvidenceSettings
from train.learning.sketched_population import sketched
from train.synthesis.population import Population, PopulationSettings, populate

TINY = CommunitySettings(
    n_folds=2, n_benign=30, n_campaigns=1, accounts=(8, 12), exchanges=(12, 16),
    plans=(Plan((4, 8), None), Plan((4, 8), 0.0, True)), evidence=EvidenceSettings(n_columns=8, n_hidden=16),
)  # fmt: skip


def test_every_group_is_left_out_once_but_starter_campaigns_never(pool: Pool):
    found = left_out_groups(pool, 2, seed=0)
    campaigns = [name for held in found for name in held.campaigns]
    sources = [name for held in found for name in held.sources]
    assert sorted(campaigns) == ["katas", "maths", "seeds", "traces"]
    assert sorted(sources) == ["bot", "chats", "forum", "helpdesk", "shop", "starter/people"]
    assert left_out_groups(pool, 2, seed=0) == found


def test_fewer_groups_than_folds_are_refused(pool: Pool):
    with pytest.raises(ValueError, match="2 groups of kind product, expected at least 3"):
        left_out_groups(pool, 3, seed=0)


@pytest.fixture(scope="module")
def population(pool: Pool, topic: np.ndarray) -> Population:
    settings = PopulationSettings(20, 1, (6, 8), (12, 16))
    return populate(pool, np.flatnonzero(pool.labels == "organic"), ["katas"], topic, settings, seed=0)


def test_a_sketch_is_kept_of_every_account_in_order(
    pool: Pool, cache: PromptCache, population: Population, prompt_scorer: PromptScorer
):
    found = sketched(population, pool, cache, prompt_scorer)
    assert found.account_ids == tuple(f"a{index:06d}" for index in range(len(population)))
    assert found.n_exchanges.tolist() == np.diff(population.offsets).tolist()
    assert (found.n_sessions == 1).all()
    assert np.isnan(found.lowest).all()
    assert ((found.last_at - found.first_at) < 10 * 86_400).all()


def test_communities_come_from_every_fold_and_plan(pool: Pool, cache: PromptCache, monkeypatch):
    monkeypatch.setattr("train.learning.communities._MIN_PROMPTS", 50)
    parts = list(composed_communities(pool, cache, TINY, seed=0))
    assert len(parts) == 2 * 2
    assert not any(part.is_campaign.any() for part in parts[::2])
    for index, part in enumerate(parts):
        assert (part.fold == index // 2).all()
        assert (part.is_known == bool(index % 2)).all()
        assert set("+".join(part.source.tolist()).split("+")) - {""} <= set(pool.groups.tolist())
