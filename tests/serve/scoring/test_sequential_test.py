"""Capital follows its formula, and alarms of benign accounts stay rare however long they live."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from serve.scoring.sequential_test import EXPONENTS, alarms, capital, raised

N_ACCOUNTS, N_SESSIONS = 3000, 300
BEGINS = np.arange(N_ACCOUNTS) * N_SESSIONS


def test_capital_is_the_mean_of_products_of_bets() -> None:
    p = np.array([0.5, 0.01, 0.9, 0.02])
    found = capital(p, np.array([0, 3]))
    for stop, run in ((1, p[:1]), (2, p[:2]), (3, p[:3]), (4, p[3:])):
        assert found[stop - 1] == pytest.approx(np.mean([np.prod(k * run ** (k - 1)) for k in EXPONENTS]))


@pytest.mark.parametrize("k", EXPONENTS)
def test_a_bet_is_fair_for_even_p_values(k: float) -> None:
    assert quad(lambda p: k * p ** (k - 1), 0, 1)[0] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_even_p_values_ever_alarm_at_most_a_share_alpha_of_lives(alpha: float) -> None:
    p = np.random.default_rng(0).random(N_ACCOUNTS * N_SESSIONS)
    share = (alarms(capital(p, BEGINS), BEGINS, alpha) >= 0).mean()
    assert share <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / N_ACCOUNTS)


@pytest.mark.parametrize("n_calibration", [500, 750, 3000])
def test_the_luck_of_one_calibration_set_does_not_multiply(n_calibration: int) -> None:
    shares = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        margins, benign = np.sort(rng.normal(size=n_calibration)), rng.normal(size=N_ACCOUNTS // 10 * N_SESSIONS)
        p = (1.0 + n_calibration - np.searchsorted(margins, benign)) / (1.0 + n_calibration)
        begins = BEGINS[: N_ACCOUNTS // 10]
        shares.append((alarms(capital(raised(p), begins), begins, 0.01) >= 0).mean())
    assert np.mean(shares) <= 0.01


def test_an_account_that_harvests_is_found_after_a_few_sessions() -> None:
    p = raised(np.full(20, 0.01))
    assert 0 <= alarms(capital(p, np.array([0])), np.array([0]), 0.01)[0] <= 3


def test_an_alarm_is_the_first_of_its_own_run() -> None:
    found = alarms(np.array([1.0, 200.0, 300.0, 1.0, 5.0, 100.0]), np.array([0, 3, 4]), 0.01)
    assert found.tolist() == [1, -1, 5]


def test_raised_p_values_keep_their_order_and_stay_p_values() -> None:
    p = np.linspace(0.001, 1.0, 500)
    assert (np.diff(raised(p)) >= 0).all()
    assert (raised(p) >= p).all()
    assert raised(p).max() == 1.0
