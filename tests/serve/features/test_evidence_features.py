"""Evidence of a session from the log-odds of its prompts."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.capability.capability_map import CapabilityMap
from serve.features.evidence_features import _GRID_STEP, _SHARES, EVIDENCE, STRONG, evidence_columns
from serve.features.session_features import feature_names

SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
odds_lists = st.lists(st.integers(-8 * 1024, 8 * 1024), min_size=1, max_size=40).map(
    lambda steps: [step / 1024 for step in steps]
)


@pytest.fixture(scope="module")
def names(capabilities: CapabilityMap) -> tuple[str, ...]:
    return feature_names(capabilities.areas)


def of_harvest(names: tuple[str, ...], odds: Sequence[float]) -> dict[str, float]:
    """Columns of one session whose prompts have these log-odds of harvest, without their family."""
    heads = np.stack([np.array(odds), np.zeros(len(odds)), -np.array(odds)], axis=1)
    own = [name.removeprefix("evidence.") for name in EVIDENCE]
    assert {f"evidence.{name}" for name in own} <= set(names)
    return dict(zip(own, (float(column[0]) for column in evidence_columns(heads[None])), strict=True))


def mixture(odds: Sequence[float]) -> list[float]:
    """The log-likelihood ratio, a prompt, of each share."""
    return [float(np.mean([np.log(1 - share + share * np.exp(own)) for own in odds])) for share in SHARES]


def test_evidence_by_hand(names: tuple[str, ...]) -> None:
    row = of_harvest(names, [-1.0, 4.0, 0.5, STRONG, -8.0, 2.5, -1.0, -1.0, -1.0, -1.0])
    assert row["harvest_mean"] == pytest.approx(-0.4)
    assert (row["harvest_max"], row["harvest_top2"], row["harvest_top5"]) == (4.0, 3.25, pytest.approx(8 / 5))
    assert (row["harvest_share"], row["harvest_strong_share"]) == (0.4, 0.2)
    assert [row[f"harvest_{q}"] for q in ("q10", "q25", "q50", "q75", "q90")] == [-1.0, -1.0, -1.0, 2.0, 4.0]
    assert (row["person_mean"], row["product_q90"]) == (0.0, 8.0)
    assert row["harvest_run"] == -0.25  # the eight from the first or the second on
    shares = 1 / (1 + np.exp(-np.array([-1, 4, 0.5, 2, -8, 2.5, -1, -1, -1, -1])))
    assert row["harvest_probability"] == pytest.approx(shares.mean(), abs=1e-6)


def test_fewer_prompts_than_the_top_five_are_all_of_it(names: tuple[str, ...]) -> None:
    row = of_harvest(names, [1.0])
    assert [row[f"harvest_{name}"] for name in ("mean", "max", "top2", "top5", "run")] == [1.0] * 5
    row = of_harvest(names, [1.0, 3.0, -1.0])
    assert [row[f"harvest_{name}"] for name in ("max", "top2", "top5", "run")] == [3.0, 2.0, 1.0, 1.0]


@pytest.mark.parametrize("n", [1, 10, 1000])
def test_a_session_of_equal_odds_is_all_harvest_or_none(names: tuple[str, ...], n: int) -> None:
    row = of_harvest(names, [3.0] * n)
    assert (row["harvest_mixture"], row["harvest_mixture_share"]) == (pytest.approx(3.0, abs=1e-5), 1.0)
    assert of_harvest(names, [-3.0] * n)["harvest_mixture"] == 0.0


@pytest.mark.parametrize("n_harvest", [2, 10, 50])
def test_the_share_of_the_mixture_is_that_of_the_suspicious_prompts(names: tuple[str, ...], n_harvest: int) -> None:
    row = of_harvest(names, [8.0] * n_harvest + [-8.0] * (100 - n_harvest))
    assert row["harvest_mixture_share"] == n_harvest / 100
    share = n_harvest / 100
    expected = share * np.log(1 - share + share * np.exp(8)) + (1 - share) * np.log(1 - share + share * np.exp(-8))
    assert row["harvest_mixture"] == pytest.approx(expected, abs=1e-5)
    assert row["harvest_mixture"] > 0.0


@given(odds_lists)
def test_the_mixture_is_the_best_of_all_shares(names: tuple[str, ...], odds: list[float]) -> None:
    row, ratios = of_harvest(names, odds), mixture(odds)
    assert row["harvest_mixture"] == pytest.approx(max(0.0, *ratios), abs=1e-5)
    assert ratios[SHARES.index(row["harvest_mixture_share"])] == pytest.approx(max(ratios), abs=1e-5)


@given(odds_lists, st.randoms())
def test_what_knows_no_order_is_the_same_to_the_last_bit_in_any(
    names: tuple[str, ...], odds: list[float], random: Random
) -> None:
    before = of_harvest(names, odds)
    random.shuffle(odds)
    after = of_harvest(names, odds)
    del before["harvest_run"], after["harvest_run"]
    assert after == before


@given(odds_lists, st.integers(0, 39), st.integers(1, 4000))
def test_no_prompt_that_looks_more_like_harvest_lowers_a_column(
    names: tuple[str, ...], odds: list[float], place: int, steps: int
) -> None:
    raised = list(odds)
    raised[place % len(odds)] = min(8.0, raised[place % len(odds)] + steps / 1024)
    before, after = of_harvest(names, odds), of_harvest(names, raised)
    measures = [name for name in before if name.startswith("harvest_") and name != "harvest_mixture_share"]
    assert all(after[name] >= before[name] for name in measures)


def test_the_best_run_is_found_wherever_it_is(names: tuple[str, ...]) -> None:
    for start in (0, 5, 12):
        odds = np.full(20, -1.0)
        odds[start : start + 8] = 2.0
        assert of_harvest(names, odds.tolist())["harvest_run"] == 2.0


def test_no_last_bit_of_exp_changes_a_column() -> None:
    """Over all log-odds that a scorer gives, what is rounded lies further from the middle of two steps than any exp and
    log err."""
    odds = np.arange(-8192, 8193) / 1024.0
    values = [1.0 / (1.0 + np.exp(-odds)), *(np.log1p(share * np.expm1(odds)) for share in _SHARES[:-1])]
    assert min(np.abs(own / _GRID_STEP % 1.0 - 0.5).min() for own in values) > 1e-8
