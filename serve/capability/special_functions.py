"""Special functions by the C library, one number at a time: numpy's own depend on a processor's vector instructions in
the last bit, and scipy's take longer to import than a few sessions to judge."""

from __future__ import annotations

import functools
import math
import sys

import numpy as np
from numpy.typing import NDArray

_TABLED = 2048
_LOWEST = -math.log(sys.float_info.max)  # below it exp(-x) overflows
_STIRLING = (
    8.11614167470508450300e-4, -5.95061904284301438324e-4, 7.93650340457716943945e-4, -2.77777777730099687205e-3,
    8.33333333333331927722e-2,
)  # fmt: skip
_FAR = (7.9365079365079365079365e-4, -2.7777777777777777777778e-3, 0.0833333333333333333333)
_HALF_LOG_TAU = 0.91893853320467274178


def expit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)) of each number, 0-1: what scipy.special gives, to the bit."""
    found = [1.0 / (1.0 + math.exp(-value)) if not value < _LOWEST else 0.0 for value in x.ravel().tolist()]
    return np.array(found, np.float64).reshape(x.shape)


def log_factorial(n: NDArray[np.int64]) -> NDArray[np.float64]:
    """Natural logarithm of n! of each whole number n, 0 or more: gammaln(n + 1) of scipy.special, to the bit."""
    if n.max(initial=0) < _TABLED:
        return _table()[n]
    from scipy.special import gammaln

    return np.asarray(gammaln(n + 1.0))


@functools.cache
def _table() -> NDArray[np.float64]:
    return np.array([_log_gamma(n + 1) for n in range(_TABLED)])


def _log_gamma(x: int) -> float:
    """The logarithm of (x - 1)!, by Stirling's series as Cephes (Moshier 1989) and so scipy adds it up."""
    if x < 13:
        return math.log(math.factorial(x - 1))
    series = functools.reduce(lambda total, term: total * (1.0 / (x * x)) + term, _STIRLING if x < 1000 else _FAR)
    return (x - 0.5) * math.log(x) - x + _HALF_LOG_TAU + series / x
