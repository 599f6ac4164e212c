"""Composed sessions are what they claim to be: whose prompts, how many, in which order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from train.corpora.pool import Pool
from train.synthesis.arrival_times import Timing
from train.synthesis.compose import DILUTIONS, LENGTHS, ORGANIC_KINDS, Composer, ComposeSettings
from train.synthesis.composition import Composition


def composer_of(pool: Pool, topic: np.ndarray, *, rows: np.ndarray | None = None, seed: int = 0) -> Composer:
    return Composer(pool, np.arange(len(pool)) if rows is None else rows, topic, Timing.default(), seed=seed)


@pytest.fixture(scope="module")
def mixed(pool: Pool, topic: np.ndarray) -> Composition:
    return composer_of(pool, topic).mixed(800, ComposeSettings(min_exchanges=5, max_exchanges=40))


def rows_by_session(composition: Composition) -> list[np.ndarray]:
    return np.split(composition.rows, composition.offsets[1:-1])


def same(first: Composition, second: Composition) -> bool:
    columns = ("rows", "offsets", "kind", "campaign", "dilution", "at")
    equal = all(np.array_equal(getattr(first, name), getattr(second, name)) for name in columns)
    return equal and first.channel == second.channel


def test_the_same_seed_composes_the_same_sessions_and_another_does_not(pool: Pool, topic: np.ndarray) -> None:
    made = [composer_of(pool, topic, seed=seed).mixed(60, ComposeSettings()) for seed in (1, 1, 2)]
    assert same(made[0], made[1])
    assert not same(made[0], made[2])


def test_shares_are_those_of_the_settings(pool: Pool, topic: np.ndarray) -> None:
    settings = ComposeSettings(
        harvest_share=0.25, dilution_shares=(0.7, 0.3, 0.0, 0.0), person_share=0.5, aggregator_share=0.3
    )
    made = composer_of(pool, topic).mixed(2000, settings)
    kinds = {kind: float((made.kind == kind).mean()) for kind in ("harvest", *ORGANIC_KINDS)}
    assert kinds["harvest"] == 0.25
    assert [kinds[kind] / 0.75 for kind in ORGANIC_KINDS] == pytest.approx([0.5, 0.3, 0.2], abs=0.05)
    dilutions = made.dilution[made.is_harvesting]
    assert np.unique(dilutions).tolist() == [0.0, 0.5]
    assert (dilutions == 0.5).mean() == pytest.approx(0.3, abs=0.07)


def test_no_session_is_longer_than_allowed_and_every_kind_reaches_the_bounds(mixed: Composition) -> None:
    sizes = np.diff(mixed.offsets)
    assert sizes.max() <= 40
    assert sizes.min() >= 1
    assert (sizes[mixed.kind != "person"] >= 5).all() or (sizes[mixed.is_harvesting & (mixed.dilution == 0)] >= 5).all()


def test_an_organic_session_holds_no_task_and_a_campaign_at_least_one(mixed: Composition, pool: Pool) -> None:
    kinds = pool.kinds
    for rows, kind in zip(rows_by_session(mixed), mixed.kind, strict=True):
        has_task = bool((kinds[rows] == "harvest").any())
        assert has_task == (kind == "harvest")
        assert not (kinds[rows] == "evaluation").any()


@pytest.mark.parametrize("dilution", DILUTIONS)
@pytest.mark.parametrize("n", [10, 25, 60])
def test_a_diluted_session_sends_so_many_tasks(pool: Pool, topic: np.ndarray, dilution: float, n: int) -> None:
    made = composer_of(pool, topic).fixed("harvest", 30, n, dilution)
    tasks = [int((pool.kinds[rows] == "harvest").sum()) for rows in rows_by_session(made)]
    assert set(tasks) == {max(1, round(n * (1 - dilution)))}


def test_a_campaign_is_named_by_the_groups_of_its_tasks(mixed: Composition, pool: Pool) -> None:
    for rows, kind, campaign in zip(rows_by_session(mixed), mixed.kind, mixed.campaign, strict=True):
        if kind == "harvest":
            groups = set(pool.groups[rows[pool.kinds[rows] == "harvest"]])
            assert groups <= set(str(campaign).split("+"))
            assert str(campaign) == "+".join(sorted(str(campaign).split("+")))


def test_a_named_person_speaks_first_and_alike_people_make_up_the_size(pool: Pool, topic: np.ndarray) -> None:
    named = [index for index, own in enumerate(pool.sources) if own.name in ("forum", "helpdesk", "starter/people")]
    composer = composer_of(pool, topic, rows=np.flatnonzero(np.isin(pool.source, named)))
    for n in (3, 12, 500):
        for _ in range(20):
            rows = composer.organic("person", n).rows
            assert len(rows) == n
            own = np.cumprod(pool.person[rows] == pool.person[rows[0]]).astype(bool)
            assert (np.diff(rows[own]) > 0).all() or n == 500  # a person's rows are in order, and drawn once


def test_a_product_is_one_source_and_an_aggregator_many_people(mixed: Composition, pool: Pool) -> None:
    persons = []
    for rows, kind in zip(rows_by_session(mixed), mixed.kind, strict=True):
        if kind == "product":
            assert set(pool.kinds[rows]) == {"product"}
            assert len(set(pool.source[rows].tolist())) == 1
        if kind == "aggregator":
            assert set(pool.kinds[rows]) == {"person"}
            persons.append(len(set(pool.person[rows].tolist())))
    assert np.median(persons) >= 3


def test_an_interleaved_aggregator_keeps_each_conversation_in_order(mixed: Composition, pool: Pool) -> None:
    interleaved = 0
    for rows, kind in zip(rows_by_session(mixed), mixed.kind, strict=True):
        if kind == "aggregator":
            codes = pool.conversation[rows]
            changes = int((np.diff(codes) != 0).sum()) + 1
            interleaved += changes > len(set(codes.tolist())) + 2
    assert interleaved > 10


def test_a_benchmark_is_run_in_order(pool: Pool, topic: np.ndarray) -> None:
    composer = composer_of(pool, topic)
    assert composer.has_evaluations
    for rows in rows_by_session(composer.fixed("evaluation", 20, 25)):
        assert set(pool.kinds[rows]) == {"evaluation"}
        assert (np.diff(rows) == 1).all()


def test_cover_traffic_is_in_its_own_order_and_so_are_the_tasks_of_a_shard(pool: Pool, topic: np.ndarray) -> None:
    made = composer_of(pool, topic).fixed("harvest", 60, 20, 0.5)
    in_order = [(np.diff(rows[pool.kinds[rows] == "harvest"]) == 1).all() for rows in rows_by_session(made)]
    assert 5 < sum(in_order) < 60


def test_only_rows_that_may_be_used_are_used(pool: Pool, topic: np.ndarray) -> None:
    allowed = np.flatnonzero(np.random.default_rng(0).random(len(pool)) < 0.5)
    made = composer_of(pool, topic, rows=allowed).mixed(300, ComposeSettings(max_exchanges=30))
    assert set(made.rows.tolist()) <= set(allowed.tolist())


def test_a_side_without_campaigns_composes_none(pool: Pool, topic: np.ndarray) -> None:
    organic = np.flatnonzero(pool.labels == "organic")
    composer = composer_of(pool, topic, rows=organic)
    assert not composer.mixed(100, ComposeSettings()).is_harvesting.any()
    assert not composer.has_evaluations


def test_a_side_without_products_makes_people_and_aggregators(pool: Pool, topic: np.ndarray) -> None:
    people = np.flatnonzero(np.isin(pool.kinds, ("person", "harvest")))
    made = composer_of(pool, topic, rows=people).mixed(300, ComposeSettings())
    assert set(made.kind) == {"harvest", "person", "aggregator"}


def test_a_side_without_people_makes_products_and_one_without_anybody_is_refused(pool: Pool, topic: np.ndarray) -> None:
    products = np.flatnonzero(pool.kinds == "product")
    made = composer_of(pool, topic, rows=products).mixed(40, ComposeSettings(harvest_share=0.0))
    assert set(made.kind.tolist()) == {"product"}
    with pytest.raises(ValueError, match="nobody organic"):
        composer_of(pool, topic, rows=np.flatnonzero(pool.kinds == "harvest")).mixed(10, ComposeSettings())


def test_fixed_sessions_go_round_all_campaigns_and_organic_kinds(pool: Pool, topic: np.ndarray) -> None:
    composer = composer_of(pool, topic)
    harvest = composer.fixed("harvest", 60, 10)
    n_sources = sum(own.kind == "harvest" for own in pool.sources)
    first = [pool.sources[pool.source[rows]].name for rows in harvest.rows[harvest.offsets[:-1]][:, None][:, 0]]
    assert len(set(first)) == n_sources
    organic = composer.fixed("organic", 60, 10)
    assert [(organic.kind == kind).sum() for kind in ORGANIC_KINDS] == [20, 20, 20]


def test_half_of_the_lengths_are_the_standard_ones(pool: Pool, topic: np.ndarray) -> None:
    made = composer_of(pool, topic).mixed(
        1500, ComposeSettings(harvest_share=1.0, dilution_shares=(1.0, 0.0, 0.0, 0.0))
    )
    sizes = np.diff(made.offsets)
    assert np.isin(sizes, LENGTHS).mean() == pytest.approx(0.5, abs=0.08)
    assert np.median(np.log(sizes[~np.isin(sizes, LENGTHS)])) == pytest.approx(np.log(np.sqrt(5 * 120)), abs=0.25)


def test_parts_joined_are_the_whole(mixed: Composition) -> None:
    cuts = (0, 1, 300, 301, len(mixed))
    assert same(Composition.joined([mixed.part(*pair) for pair in itertools.pairwise(cuts)]), mixed)


def test_texts_are_the_pool_s_seen_through_the_channel_of_the_session(mixed: Composition, pool: Pool) -> None:
    texts = mixed.texts(pool)
    owner = np.repeat(np.arange(len(mixed)), np.diff(mixed.offsets))
    for row in range(0, len(texts), 53):
        assert texts[row] == mixed.channel[owner[row]].apply(pool.texts[mixed.rows[row]])


def test_sessions_are_in_the_public_format(mixed: Composition, pool: Pool) -> None:
    sessions = mixed.sessions(pool, prefix="x")
    assert (len(sessions), len(set(sessions.session_ids))) == (len(mixed), len(mixed))
    assert sessions.session_ids[7] == "x000007"
    assert np.array_equal(sessions.offsets, mixed.offsets)
    assert np.array_equal(sessions.at, mixed.at)


def test_a_source_of_which_a_few_prompts_are_left_is_not_drawn_over_and_over(pool: Pool, topic: np.ndarray) -> None:
    people = np.flatnonzero(pool.kinds == "person")
    first = pool.source[people[0]]
    own, others = people[pool.source[people] == first], people[pool.source[people] != first]
    composed = composer_of(pool, topic, rows=np.concatenate([own[:2], others])).fixed("organic", 60, 10)
    assert not np.isin(own[:2], composed.rows).any()
    alone = composer_of(pool, topic, rows=own[:2]).fixed("organic", 5, 10)
    assert np.isin(own[:2], alone.rows).any()
