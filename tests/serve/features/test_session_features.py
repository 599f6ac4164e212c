"""Feature rows: named, finite, and of one session alone, to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serve.capability.capability_map import CapabilityMap
from serve.embedding.encoders import Encoder
from serve.features.prompt_scorer import PromptScorer
from serve.features.session_features import (
    Evidenced,
    feature_names,
    feature_rows,
    observe,
)
from serve.features.similarity import MAX_PROMPTS, MAX_SCORED
from serve.sessions.normalization import Form
from serve.sessions.records import Exchange, Session, Sessions

Rows = Callable[[Sequence[Session]], NDArray[np.float64]]

# What must not depend on the order in which a session's prompts were sent; the other families may.
TIMELESS = ("size.", "area.", "coverage.", "geometry.pair", "geometry.nearest", "geometry.duplicate", "surface.words")


@pytest.fixture(scope="module")
def names(capabilities: CapabilityMap) -> tuple[str, ...]:
    return feature_names(capabilities.areas)


@pytest.fixture(scope="module")
def rows_of(encoder: Encoder, capabilities: CapabilityMap, prompt_scorer: PromptScorer) -> Rows:
    def rows(sessions: Sequence[Session]) -> NDArray[np.float64]:
        return feature_rows(observe(Sessions.of(sessions), encoder, capabilities, prompt_scorer), capabilities)

    return rows


def session_of(*prompts: str) -> Session:
    return Session("s", "a", tuple(map(Exchange, prompts)))


@pytest.fixture(scope="module")
def named(rows_of: Rows, names: tuple[str, ...]) -> Callable[..., dict[str, float]]:
    """The row of a session of these prompts, by name."""
    return lambda *prompts: dict(zip(names, rows_of([session_of(*prompts)])[0].tolist(), strict=True))


def test_names_are_distinct_and_say_their_family(names: tuple[str, ...], capabilities: CapabilityMap) -> None:
    assert len(set(names)) == len(names)
    assert all(name.count(".") == 1 and name == name.lower() for name in names)
    assert names[-len(capabilities.areas) - 1 :] == tuple(f"area.{area}" for area in (*capabilities.areas, "none"))


def test_every_name_has_a_column(rows_of: Rows, names: tuple[str, ...], sessions: tuple[Session, ...]) -> None:
    assert rows_of(sessions).shape == (len(sessions), len(names))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 9, 20, MAX_PROMPTS, MAX_PROMPTS + 1, MAX_SCORED + 1])
def test_rows_are_finite_from_one_exchange_up(rows_of: Rows, n: int) -> None:
    kinds = ("hello {}", "same text", "xyzzy", "👩‍👩‍👧 {}", "sort a list {}")
    assert all(np.isfinite(rows_of([session_of(*(kind.format(i) for i in range(n)))])).all() for kind in kinds)


def test_prompts_that_are_nowhere_near_any_area_give_a_row(named: Callable[..., dict[str, float]]) -> None:
    row = named("xyzzy", "qwx zzz", "👩‍👩‍👧")
    assert row["area.none"] == 1.0
    assert row["coverage.rarefied"] == 0.0


def test_a_row_is_the_same_to_the_last_bit_alone_and_in_any_batch(rows_of: Rows, sessions: tuple[Session, ...]) -> None:
    whole = rows_of(sessions)
    alone = np.concatenate([rows_of([session]) for session in sessions])
    assert np.array_equal(alone, whole)


@settings(max_examples=12)
@given(st.permutations(range(12)), st.integers(1, 12))
def test_a_row_is_the_same_to_the_last_bit_whatever_stands_beside_it(
    rows_of: Rows, sessions: tuple[Session, ...], order: list[int], n: int
) -> None:
    chosen = order[:n]
    assert np.array_equal(rows_of([sessions[index] for index in chosen]), rows_of(sessions[:12])[chosen])


def test_a_large_batch_of_equal_sessions_gives_equal_rows(rows_of: Rows, sessions: tuple[Session, ...]) -> None:
    many = rows_of([sessions[5]] * 700)
    assert (many == many[0]).all()
    assert np.array_equal(many[0], rows_of([sessions[5]])[0])


def test_names_ids_and_times_are_not_read(rows_of: Rows, sessions: tuple[Session, ...]) -> None:
    plain = sessions[5]
    renamed = Session("other", "other", tuple(Exchange(exchange.prompt, at=7.0) for exchange in plain.exchanges))
    assert np.array_equal(rows_of([plain]), rows_of([renamed]))


def test_the_surface_channel_of_a_sender_is_seen_through(rows_of: Rows) -> None:
    prompts = ("sort a list", "bake a cake", "is it raining", "find the bug", "thicken a soup", "good morning")
    loud = (f"Question:\n{prompt.upper()}?!" for prompt in prompts)
    assert np.array_equal(rows_of([session_of(*prompts)]), rows_of([session_of(*loud)]))


@settings(max_examples=12)
@given(st.permutations(range(13)))
def test_what_knows_no_order_is_the_same_when_prompts_are_shuffled(
    rows_of: Rows, names: tuple[str, ...], sessions: tuple[Session, ...], order: list[int]
) -> None:
    # A wrapper is told from a session's opening, so its prompts share no first or last word.
    prompts = [f"{index} {exchange.prompt} {index}" for index, exchange in enumerate(sessions[5].exchanges)]
    first, second = rows_of([session_of(*prompts)])[0], rows_of([session_of(*(prompts[index] for index in order))])[0]
    for name, before, after in zip(names, first, second, strict=True):
        if name.startswith(TIMELESS):
            assert after == pytest.approx(before, abs=1e-12), name


def test_shares_by_hand(named: Callable[..., dict[str, float]]) -> None:
    row = named("sort a list", "lemon cake recipe", "sort a list", "xyzzy")
    assert row["size.log_exchanges"] == pytest.approx(np.log(4))
    assert [row[f"area.{area}"] for area in ("coding", "cooking", "small_talk", "none")] == [0.5, 0.25, 0.0, 0.25]
    assert row["coverage.main_share"] == 0.5
    assert row["surface.text_repeated"] == 0.5
    assert row["surface.short_share"] == 1.0


def test_identical_and_unrelated_prompts_lie_at_the_ends(named: Callable[..., dict[str, float]]) -> None:
    same, apart = named(*["soup"] * 6), named("soup", "code", "weather", "morning", "recipe", "loop")
    assert same["geometry.pair_mean"] == pytest.approx(1.0, abs=0.01)
    assert abs(apart["geometry.pair_mean"]) < 0.15
    assert same["geometry.effective_rank"] == pytest.approx(1 / 6, abs=0.01)
    assert apart["geometry.effective_rank"] > 0.9
    assert (same["geometry.duplicate_share"], apart["geometry.duplicate_share"]) == (1.0, 0.0)


def test_prompts_that_follow_each_other_are_told_from_shuffled_ones(named: Callable[..., dict[str, float]]) -> None:
    words = ("soup", "code", "weather", "morning", "recipe", "loop")
    in_runs = named(*[word for word in words for _ in range(4)])
    in_turn = named(*words * 4)
    assert in_runs["geometry.consecutive_gain"] > 0.5 > 0.0 > in_turn["geometry.consecutive_gain"]
    assert in_runs["geometry.pair_mean"] == pytest.approx(in_turn["geometry.pair_mean"])


def test_shares_of_areas_add_up_to_1(rows_of: Rows, names: tuple[str, ...], sessions: tuple[Session, ...]) -> None:
    columns = [index for index, name in enumerate(names) if name.startswith("area.")]
    assert rows_of(sessions)[:, columns].sum(axis=1) == pytest.approx(1.0)


def with_one(base: Evidenced, n: int, place: int) -> Evidenced:
    """The first n prompts of a session, of which one looks like harvest and the others don't."""
    evidence = np.full((n, 3), -1.0)
    evidence[place, 0] = 5.0
    form = Form(*(getattr(base.form, field.name)[:n] for field in fields(base.form)))
    return replace(
        base, offsets=np.array([0, n]), vectors=base.vectors[:n], assigned=base.assigned.rows(np.arange(n)),
        evidence=evidence, form=form,
    )  # fmt: skip


def test_one_suspicious_prompt_of_a_thousand_is_seen_wherever_it_is(
    encoder: Encoder, capabilities: CapabilityMap, prompt_scorer: PromptScorer, names: tuple[str, ...]
) -> None:
    long = Sessions.of([session_of(*(f"hello {index}" for index in range(1500)))])
    base, column = observe(long, encoder, capabilities, prompt_scorer), names.index("evidence.harvest_max")
    places = ((300, 1, True), (1024, 1023, True), (1025, 1023, False), (1025, 1024, True), (1500, 7, False))
    for n, place, seen in places:
        assert (feature_rows(with_one(base, n, place), capabilities)[0, column] == 5.0) == seen, (n, place)
