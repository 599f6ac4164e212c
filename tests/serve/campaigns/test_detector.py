from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from serve.campaigns.detector import _same_labels, campaigns_among, candidates, find, linked
from serve.campaigns.findings import MIN_MEMBER, PRIOR, Findings
from serve.campaigns.results import CampaignResult
from serve.campaigns.results import members as members_table
from serve.campaigns.sketches import N_LOWEST, Items, Sketches
from serve.capability.capability_map import CapabilityMap
from serve.embedding.encoders import quantise
from serve.infrastructure.account_metadata import AccountMetadata
from serve.model.community_model import BUILT_IN

N_DIMS = 64


def population(
    capabilities: CapabilityMap, sent: list[tuple[int, float]], *, n_items: int = 30, seed: int = 0
) -> Sketches:
    """Accounts that each send prompts around one topic with some harvest evidence; `sent` says which and how much.

    Every topic is a set of 40 directions, so that its prompts are broad; no two prompts are the same.
    """
    rng = np.random.default_rng(seed)
    n_topics = max((topic for topic, _ in sent), default=0) + 1
    centres = rng.normal(size=(n_topics, 1, N_DIMS)) + 0.6 * rng.normal(size=(n_topics, 40, N_DIMS))
    owner = np.repeat(np.arange(len(sent)), n_items)
    topic = np.array([topic for topic, _ in sent], dtype=np.int64)[owner]
    level = np.array([level for _, level in sent])[owner]
    n = len(owner)
    direction = rng.integers(40, size=n)
    vectors = quantise(centres[topic, direction] + 0.2 * rng.normal(size=(n, N_DIMS)))
    evidence = np.column_stack([level + 0.1 * rng.normal(size=n), -level, -level]).astype(np.float32)
    cells = (direction % len(capabilities.cells)).astype(np.int16)
    items = Items(
        owner=owner, text=rng.permutation(n).astype(np.uint64), count=np.ones(n, np.int64), priority=np.ones(n),
        evidence=evidence, vector=vectors, area=(cells // 3).astype(np.int16), skill=(cells // 2).astype(np.int16),
        cell=cells, keys=np.zeros((n, 4), np.uint64), at=1.77e9 + 86_400.0 * (np.arange(n) % n_items),
    )  # fmt: skip
    return sketches_of(items, len(sent))


def sketches_of(items: Items, n: int) -> Sketches:
    n_exchanges = np.bincount(items.owner, minlength=n)
    return Sketches(
        account_ids=tuple(f"a{index:04d}" for index in range(n)), n_exchanges=n_exchanges,
        n_sessions=np.ones(n, np.int64), first_at=np.full(n, 1.77e9), last_at=np.full(n, 1.78e9),
        hours=np.zeros((n, 24), np.int64), lowest=np.full((n, N_LOWEST), np.nan), limit=np.zeros(n), items=items,
    )  # fmt: skip


def others(n: int) -> list[tuple[int, float]]:
    """Benign accounts, eight of a topic."""
    return [(10 + index // 8, -0.6) for index in range(n)]


@pytest.fixture(scope="module")
def hidden(capabilities: CapabilityMap) -> tuple[Sketches, Findings]:
    """Twenty accounts that harvest one topic, a product of 20 customers, and 160 others."""
    sketches = population(capabilities, [(0, 0.8)] * 20 + [(1, -0.6)] * 20 + others(160))
    return sketches, find(sketches, capabilities)


def members(found: Findings) -> NDArray[np.int64]:
    return np.flatnonzero(found.campaign >= 0)


def test_accounts_that_harvest_one_topic_are_a_campaign_and_customers_of_a_product_are_none(hidden):
    _, found = hidden
    assert len(found.campaigns) == 1
    assert members(found).tolist() == list(range(20))


def test_a_campaign_says_what_it_is_without_text(hidden):
    sketches, found = hidden
    campaign = found.campaigns[0]
    assert campaign.n_exchanges == 600
    assert campaign.n_harvested == pytest.approx(600, rel=0.1)
    assert campaign.dilution == pytest.approx(0.0, abs=0.1)
    assert sum(campaign.areas.values()) == pytest.approx(1.0)
    assert campaign.n_active_days == 30
    assert (campaign.first_at, campaign.last_at) == (1.77e9, 1.78e9)
    assert campaign.account_ids == frozenset(sketches.account_ids[:20])
    assert list(campaign.growth.values()) == sorted(campaign.growth.values())


def test_an_account_is_as_suspicious_as_its_campaign_and_the_others_as_the_prior(hidden):
    _, found = hidden
    assert found.confidence[:20].min() > 0.5 > found.confidence[20:].max()
    assert (found.probability >= found.confidence).all()
    assert found.probability[40:].max() == pytest.approx(PRIOR)


def addresses(values: dict[int, int], n: int) -> AccountMetadata:
    """Accounts by index with an address each, everybody else with one of their own."""
    return AccountMetadata.of_pairs({f"a{index:04d}": {(0, values.get(index, 1000 + index))} for index in range(n)})


def turned_round(found: Findings, n: int) -> list[list[int]]:
    return [sorted(n - 1 - int(name[1:]) for name in own.account_ids) for own in found.campaigns]


def test_names_change_nothing(capabilities: CapabilityMap):
    sketches = population(capabilities, [(index // 10, 0.4 - 0.1 * (index // 20)) for index in range(120)], seed=3)
    turned = 119 - sketches.items.owner
    order = np.argsort(turned, kind="stable")
    items = dataclasses.replace(sketches.items.take(order), owner=turned[order])
    plain, again = (find(own, capabilities) for own in (sketches, dataclasses.replace(sketches, items=items)))
    assert turned_round(again, 120) == [sorted(int(name[1:]) for name in own.account_ids) for own in plain.campaigns]


def test_a_shared_address_speaks_for_those_who_ask_alike_and_for_nobody_else(capabilities: CapabilityMap):
    sketches = population(capabilities, [(0, 0.35)] * 20 + [(1, -0.6)] * 20 + others(160))
    offices = {index: 10 + (index - 20) // 20 for index in range(20, 200)}  # one of them has all customers of a product
    told = addresses(offices | {index: index % 2 for index in range(20)}, 200)
    compared = linked(sketches)
    found = compared.candidates(told)
    added = {
        int(own.accounts[0]): shared.log_odds for (own, _), shared in zip(found.communities, found.shared, strict=True)
    }
    assert {first for first, value in added.items() if value > 1.0} == {0, 20}
    odds = {int(own.accounts[0]): BUILT_IN.log_odds(signs) for own, signs in found.communities}
    model = dataclasses.replace(BUILT_IN, threshold=odds[0] + 1.0)
    campaigns = campaigns_among(sketches, found, capabilities, model).campaigns
    assert [own.account_ids for own in campaigns] == [frozenset(sketches.account_ids[:20])]
    assert campaigns[0].shared.log_odds == campaigns[0].contributions["infrastructure"] > 1.0
    assert {value.kind for value in campaigns[0].shared.values} == {"ip"}
    assert campaigns_among(sketches, compared.candidates(), capabilities, model).campaigns == ()
    some = compared.candidates(addresses(offices | {index: index % 2 for index in range(17)}, 200))
    campaigns = campaigns_among(sketches, some, capabilities, model).campaigns
    assert [own.account_ids for own in campaigns] == [frozenset(sketches.account_ids[:17])]


def test_addresses_that_nobody_shares_change_nothing(capabilities: CapabilityMap, hidden):
    sketches, plain = hidden
    found = linked(sketches.thinned(8)).candidates(addresses({}, len(sketches)))
    assert [own.log_odds for own in found.shared] == [0.0] * len(found.communities)
    assert not any(own.ties.any() for own in found.shared)
    assert plain.campaigns[0].shared.values == ()


def test_half_of_what_they_send_may_be_something_else(capabilities: CapabilityMap):
    task = population(capabilities, [(0, 0.8)] * 24)
    cover = population(capabilities, others(24), seed=1)
    rest = population(capabilities, others(200), seed=2)
    shifted = [
        task.items,
        dataclasses.replace(cover.items, text=cover.items.text + np.uint64(10_000)),
        dataclasses.replace(rest.items, owner=rest.items.owner + 24, text=rest.items.text + np.uint64(20_000)),
    ]
    items = Items.joined(shifted)
    items = items.take(np.argsort(items.owner, kind="stable"))
    found = find(sketches_of(items, 224), capabilities)
    assert members(found).tolist() == list(range(24))
    assert found.campaigns[0].dilution == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("n", [0, 1, 4])
def test_too_few_accounts_make_no_campaign(capabilities: CapabilityMap, n: int):
    found = find(population(capabilities, [(0, 0.8)] * n), capabilities)
    assert found.campaigns == ()
    assert len(found.campaign) == n


def test_one_community_that_is_like_many_does_not_link_those():
    same = np.eye(5, dtype=np.bool_)
    same[0] = same[:, 0] = True  # the first is like all others, of which only the second and third are alike
    same[1, 2] = same[2, 1] = True
    assert _same_labels(same).tolist() == [0, 0, 0, 3, 4]
    assert _same_labels(np.ones((4, 4), np.bool_)).tolist() == [0, 0, 0, 0]
    assert _same_labels(np.zeros((0, 0), np.bool_)).tolist() == []


def test_what_most_accounts_ask_is_no_campaign(capabilities: CapabilityMap, hidden, monkeypatch):
    sketches, _ = hidden
    monkeypatch.setattr("serve.campaigns.detector.MAX_ACCOUNT_SHARE", 0.09)  # the campaign has a tenth of all
    assert find(sketches, capabilities).campaigns == ()
    assert max(len(own.accounts) for own, _ in candidates(sketches).communities) <= 18


def test_candidates_of_many_prompts_are_those_of_a_thinned_population(monkeypatch: pytest.MonkeyPatch, hidden):
    items = hidden[0].items
    priority = 1.0 + np.random.default_rng(0).random(len(items))
    sketches = dataclasses.replace(hidden[0], items=dataclasses.replace(items, priority=priority))
    monkeypatch.setattr("serve.campaigns.detector.MAX_ITEMS", 2_000)
    found = candidates(sketches)
    assert len(found.sketches.items) == 200 * 10
    again = candidates(sketches.thinned(10))
    for (one, signs), (other, same) in zip(found.communities, again.communities, strict=True):
        assert one.accounts.tolist() == other.accounts.tolist()
        assert signs == same


def test_an_account_that_is_tied_weakly_is_listed_but_not_called_harvesting(hidden):
    sketches, found = hidden
    confidence = found.confidence.copy()
    confidence[:20] = MIN_MEMBER
    confidence[7] = MIN_MEMBER - 0.01
    changed = dataclasses.replace(found, confidence=confidence)
    table = members_table(CampaignResult(changed, sketches, 600, 0, 0, {}), 0.01)
    assert table.column("campaign_id").to_pylist()[7] == found.campaigns[0].campaign_id
    assert np.flatnonzero(changed.is_member).tolist() == [place for place in range(20) if place != 7]
    assert [label == "harvesting" for label in table.column("label").to_pylist()] == changed.is_member.tolist()


def test_one_giant_product_is_no_campaign(capabilities: CapabilityMap):
    assert find(population(capabilities, [(0, -0.4)] * 120), capabilities).campaigns == ()


def test_accounts_that_all_send_the_same_are_told_apart_from_nobody(capabilities: CapabilityMap):
    one = population(capabilities, [(0, 0.1)])
    items = Items.joined([one.items.owned(np.full(len(one.items), account)) for account in range(60)])
    assert find(sketches_of(items, 60), capabilities).campaigns == ()


def test_accounts_without_a_prompt_are_in_no_campaign(capabilities: CapabilityMap):
    nobody = population(capabilities, [])
    found = find(sketches_of(nobody.items, 8), capabilities)
    assert found.campaigns == ()
    assert found.campaign.tolist() == [-1] * 8
