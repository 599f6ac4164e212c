from __future__ import annotations

import numpy as np
import pytest

from serve.campaigns.sketches import N_LOWEST, Items, Sketches
from serve.campaigns.synchrony import pivots, synchrony

DAY = 86_400.0


def sketches(first_at: np.ndarray, hours: np.ndarray) -> Sketches:
    n = len(first_at)
    nothing = np.zeros(0, np.int64)
    items = Items(
        owner=nothing, text=nothing.astype(np.uint64), count=nothing, priority=nothing.astype(float),
        evidence=np.zeros((0, 3), np.float32), vector=np.zeros((0, 4), np.int8), area=nothing.astype(np.int16),
        skill=nothing.astype(np.int16), cell=nothing.astype(np.int16), keys=np.zeros((0, 4), np.uint64),
        at=nothing.astype(float),
    )  # fmt: skip
    ones = np.ones(n, np.int64)
    return Sketches(
        account_ids=tuple(f"a{index:03d}" for index in range(n)), n_exchanges=ones, n_sessions=ones, first_at=first_at,
        last_at=np.full(n, np.nan), hours=hours, lowest=np.full((n, N_LOWEST), np.nan), limit=np.zeros(n), items=items,
    )  # fmt: skip


@pytest.fixture(scope="module")
def crowd() -> Sketches:
    """Two hundred accounts; the first ten begin within an hour and keep to two hours of the day."""
    rng = np.random.default_rng(0)
    first_at = rng.uniform(0, 30 * DAY, 200)
    first_at[:10] = 5 * DAY + rng.uniform(0, 3600, 10)
    hours = rng.multinomial(50, np.full(24, 1 / 24), size=200)
    hours[:10] = rng.multinomial(50, np.eye(24)[2] / 2 + np.eye(24)[3] / 2, size=10)
    return sketches(first_at, hours)


def test_accounts_that_begin_together_and_keep_hours_are_told_from_chance(crowd: Sketches):
    found = synchrony(crowd, np.arange(10))
    assert found.start == pytest.approx(1 / 500)
    assert found.hours == pytest.approx(1 / 500)


def test_others_are_as_chance_has_it(crowd: Sketches):
    found = synchrony(crowd, np.arange(20, 40))
    assert found.start is not None
    assert found.hours is not None
    assert min(found.start, found.hours) > 0.02


def test_where_no_time_is_known_nothing_is_said(crowd: Sketches):
    assert synchrony(crowd, np.arange(10)).stop is None


def test_a_turn_to_another_area_is_dated(crowd: Sketches):
    at = np.repeat(np.arange(20), 10) * DAY + 60.0
    area = np.where(at < 12 * DAY, 0, 1)
    found = pivots(at, area, np.arange(200) % 8, ("coding", "mathematics"))
    assert [(pivot.area, pivot.at / DAY) for pivot in found] == [("coding", 12.0), ("mathematics", 12.0)]
    assert found[0].share_before == pytest.approx(1.0)
    assert found[0].share_after == pytest.approx(0.0)


def test_a_steady_mix_has_no_pivot():
    rng = np.random.default_rng(1)
    at = np.repeat(np.arange(20), 10) * DAY
    assert pivots(at, rng.integers(2, size=200), np.arange(200) % 8, ("coding", "mathematics")) == ()
