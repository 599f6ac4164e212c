"""Special functions: scipy's values to the bit, wherever both are defined."""

from __future__ import annotations

import numpy as np
import scipy.special

from serve.capability.special_functions import expit, log_factorial


def test_expit_is_scipys_to_the_bit_from_end_to_end() -> None:
    x = np.concatenate([np.linspace(-800.0, 800.0, 4001), np.arange(-8192, 8193) / 1024.0, [np.inf, -np.inf, np.nan]])
    assert np.array_equal(expit(x), scipy.special.expit(x), equal_nan=True)
    assert expit(np.zeros((2, 3))).tolist() == [[0.5] * 3] * 2


def test_log_factorial_is_scipys_to_the_bit_in_the_table_and_beyond() -> None:
    n = np.arange(2048)
    assert np.array_equal(log_factorial(n), scipy.special.gammaln(n + 1.0))
    assert np.array_equal(log_factorial(np.array([3, 5000])), scipy.special.gammaln([4.0, 5001.0]))
    assert log_factorial(np.array([0, 1, 2])).tolist() == [0.0, 0.0, np.log(2.0)]
    assert log_factorial(np.zeros((0, 2), np.int64)).shape == (0, 2)
