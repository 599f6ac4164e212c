"""The starter corpus that ships: enough families, enough prompts, none too large, no prompt twice."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from serve.sessions.records import text_fault
from train.corpora.loading import CorporaSettings
from train.corpora.pool import PromptRow, Source
from train.corpora.starter.corpus import N_PERSONS, families, starter_corpora
from train.taxonomy.areas import DEFAULT, read_taxonomy

Corpora = list[tuple[Source, Sequence[PromptRow]]]
DIGITS = re.compile(r"\d+")
KINDS = Path(__file__).parents[2] / "bench" / "kinds"


@pytest.fixture(scope="module")
def corpora() -> Corpora:
    """All families at the default settings."""
    return starter_corpora(CorporaSettings().starter_prompts, seed=0)


@pytest.mark.parametrize(("kind", "n"), [("harvest", 25), ("person", 25), ("product", 15), ("evaluation", 4)])
def test_there_are_enough_families_of_each_kind(corpora: Corpora, kind: str, n: int) -> None:
    assert sum(source.kind == kind for source, _ in corpora) >= n


def test_there_are_thirty_thousand_distinct_prompts(corpora: Corpora) -> None:
    assert len({row.text for _, rows in corpora for row in rows}) >= 30_000


def test_no_family_makes_up_more_than_eight_percent(corpora: Corpora) -> None:
    total = sum(len(rows) for _, rows in corpora)
    assert [source.name for source, rows in corpora if len(rows) > 0.08 * total] == []


def test_no_family_runs_dry(corpora: Corpora) -> None:
    quota = CorporaSettings().starter_prompts // len(corpora)
    assert {source.name: len(rows) for source, rows in corpora if len(rows) < 0.9 * quota} == {}


def test_no_two_conversations_of_a_family_begin_alike_once_digits_are_removed(corpora: Corpora) -> None:
    for source, rows in corpora:
        begun = [DIGITS.sub("", row.text) for row in rows if row.turn == 0]
        twice = [text for text, count in Counter(begun).items() if count > 1]
        assert twice == [], source.name


def test_every_prompt_is_usable_and_no_token_is_left_unfilled(corpora: Corpora) -> None:
    left = re.compile(r"\{#\d+-\d+\}|\[\[.+?\|.+?\]\]")
    for source, rows in corpora:
        assert [row.text for row in rows if text_fault(row.text) or left.search(row.text)] == [], source.name


def test_people_have_details_of_their_own_and_conversations_with_follow_ups(corpora: Corpora) -> None:
    for source, rows in corpora:
        if source.kind == "person":
            assert len({row.person for row in rows}) == N_PERSONS, source.name
            sizes = Counter(row.conversation for row in rows)
            assert sum(size for size in sizes.values() if size > 1) / len(rows) > 0.4, source.name


def test_families_name_areas_of_the_map_and_harvest_all_of_them(corpora: Corpora) -> None:
    areas = set(read_taxonomy(DEFAULT).areas)
    assert {source.name: source.areas for source, _ in corpora if not set(source.areas) <= areas} == {}
    harvested = {area for source, _ in corpora if source.kind == "harvest" for area in source.areas}
    product_areas = {"customer_support", "device_assistant", "document_processing", "small_talk"}
    assert areas - product_areas - harvested == set()


def test_each_family_is_a_source_and_group_of_its_own_that_may_ship(corpora: Corpora) -> None:
    assert len({source.group for source, _ in corpora}) == len(corpora) == len(families())
    assert all(source.may_ship and source.name.startswith("starter/") for source, _ in corpora)


def test_the_seed_decides_what_is_said() -> None:
    few = [starter_corpora(800, seed=seed) for seed in (1, 1, 2)]
    assert few[0] == few[1]
    assert few[0] != few[2]


def test_openings_differ_within_a_family(corpora: Corpora) -> None:
    for source, rows in corpora:
        openings = Counter(" ".join(row.text.lower().split()[:4]) for row in rows)
        assert openings.most_common(1)[0][1] / len(rows) < 0.35, source.name


def test_nothing_is_learned_from_the_kinds_that_the_benchmark_judges() -> None:
    kinds = families(KINDS)
    assert len(kinds) > 100
    assert not {kind.name for kind in kinds} & {family.name for family in families()}
