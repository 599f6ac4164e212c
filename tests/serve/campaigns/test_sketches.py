from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from serve.campaigns.sketches import Items, Sketches, sketch
from serve.capability.capability_map import CapabilityMap
from serve.embedding.encoders import Encoder
from serve.features.prompt_scorer import PromptScorer
from serve.features.session_features import observe
from serve.scoring.accounts import simes
from serve.sessions.records import Exchange, Session, Sessions


@pytest.fixture
def sketched(encoder: Encoder, capabilities: CapabilityMap, prompt_scorer: PromptScorer):
    def make(sessions, *, size: int = 96) -> Sketches:
        columns = Sessions.of(sessions)
        prompts = observe(columns, encoder, capabilities, prompt_scorer)
        p_value = np.linspace(0.01, 0.99, len(columns)) if len(columns) else np.zeros(0)
        return sketch(columns, prompts, p_value, size=size)

    return make


def session(account: str, prompts: list[str], *, name: str = "s", at: float | None = 1000.0) -> Session:
    exchanges = tuple(Exchange(text, None if at is None else at + 10 * turn) for turn, text in enumerate(prompts))
    return Session(name, account, exchanges)


def same(one: Sketches, other: Sketches) -> bool:
    return all(
        np.array_equal(
            getattr(a, field.name), getattr(b, field.name), equal_nan=getattr(a, field.name).dtype.kind == "f"
        )
        for a, b in ((one.items, other.items),)
        for field in dataclasses.fields(Items)
    )


def test_accounts_are_in_order_of_id_with_their_counts(sketched):
    found = sketched([session("b", ["bake a cake"]), session("a", ["fix the loop", "sort a list"], name="t")])
    assert found.account_ids == ("a", "b")
    assert found.n_exchanges.tolist() == [2, 1]
    assert found.n_sessions.tolist() == [1, 1]
    assert found.first_at.tolist() == [1000.0, 1000.0]
    assert found.last_at.tolist() == [1010.0, 1000.0]


def test_a_text_sent_again_is_one_item_counted(sketched):
    found = sketched([session("a", ["Bake a cake!", "bake a cake", "fix the loop"])])
    assert sorted(found.items.count.tolist()) == [1, 2]


def test_days_merge_into_the_sketch_of_both(sketched, sessions):
    whole = sketched(sessions)
    merged = Sketches.joined([sketched(sessions[:11]), sketched(sessions[11:])])
    assert merged.account_ids == whole.account_ids
    assert same(merged, whole)
    assert merged.n_exchanges.tolist() == whole.n_exchanges.tolist()
    assert merged.hours.tolist() == whole.hours.tolist()


def test_a_full_sketch_merges_into_the_top_of_both(sketched):
    prompts = [f"write a function number {word}" for word in "abcdefghijklmnopqrst"]
    whole = sketched([session("a", prompts)], size=6)
    halves = [
        sketched([session("a", part, at=at)], size=6) for part, at in ((prompts[:9], 1000.0), (prompts[9:], 1090.0))
    ]
    merged = Sketches.joined(halves, size=6)
    assert sorted(merged.items.text.tolist()) == sorted(whole.items.text.tolist())
    assert merged.limit.tolist() == whole.limit.tolist()


def test_weights_are_counts_until_the_sketch_is_full(sketched):
    found = sketched([session("a", ["bake a cake", "bake a cake", "soup with leeks"])])
    assert found.limit.tolist() == [0.0]
    assert sorted(found.weight.tolist()) == [1.0, 2.0]


def test_weights_of_a_full_sketch_add_up_to_what_was_sent(sketched):
    sent = [session(f"a{account}", [f"list {account} item{turn} soup" for turn in range(400)]) for account in range(40)]
    found = sketched(sent, size=50)
    totals = np.bincount(found.items.owner, weights=found.weight)
    assert len(found.items) == 40 * 50
    assert totals.mean() == pytest.approx(400, rel=0.08)


def test_thinning_keeps_the_highest_priorities(sketched):
    found = sketched([session("a", [f"soup {word}" for word in "abcdefgh"])])
    thin = found.thinned(3)
    assert set(thin.items.priority) == set(np.sort(found.items.priority)[-3:])
    assert thin.limit[0] == np.sort(found.items.priority)[-4]


def test_the_account_p_value_is_simes(sketched):
    found = sketched([session("a", ["bake a cake"], name=f"s{index}") for index in range(9)])
    assert found.p_value[0] == pytest.approx(simes(np.linspace(0.01, 0.99, 9), np.array([0]))[0])


def test_unknown_times_stay_unknown(sketched):
    found = sketched([session("a", ["bake a cake"], at=None)])
    assert np.isnan(found.first_at[0])
    assert found.hours.sum() == 0


def test_no_text_is_kept(sketched, sessions):
    found = sketched(sessions)
    columns = [getattr(found.items, field.name) for field in dataclasses.fields(Items)]
    assert all(column.dtype.kind in "iuf" for column in columns)


def test_nobody_makes_an_empty_sketch(sketched):
    found = Sketches.joined([sketched([]), sketched([])])
    assert len(found) == len(found.items) == 0
    assert len(found.p_value) == 0


def test_joining_nothing_is_refused():
    with pytest.raises(ValueError, match="no sketch to join"):
        Sketches.joined([])
