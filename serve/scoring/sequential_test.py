"""Sequential test: evidence against an account that may be looked at after every session, without a correction.

Each p-value becomes a bet, k p^(k - 1), that a small one is due; capital is the product of bets so far, the
mean over several k (Vovk & Wang 2021; Shafer 2021). Where each p-value is valid given what came before, capital is a
nonnegative supermartingale that starts at 1: the chance that it ever reaches 1 / alpha is at most alpha (Ville 1939).

Conformal p-values of one bundle share a calibration set, and its luck would multiply with every session. So each is
raised to the upper end of a binomial band before it is bet on. What no such test can see is a benign person who is
unusual in every session: an alarm says that the sessions aren't like those of benign people in general.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EXPONENTS = np.array([0.2, 0.35, 0.5, 0.65, 0.8])
"""k of each bet."""

N_CALIBRATION = 500
"""Calibration sessions of like size that p-values are taken to rest on; the band is wider for fewer."""

_BAND = 2.0
"""Half-width of the band in standard deviations."""


def raised(p_value: NDArray[np.float64], n_calibration: int = N_CALIBRATION) -> NDArray[np.float64]:
    """Upper end of the binomial band around p-values, at most 1."""
    width = _BAND * np.sqrt(p_value * (1.0 - p_value) / n_calibration)
    return np.minimum(p_value + width + 1.0 / n_calibration, 1.0)


def capital(p_value: NDArray[np.float64], begins: NDArray[np.int64]) -> NDArray[np.float64]:
    """Capital after each p-value of each run that begins at `begins`, in the order of the run, above 0.

    Never more than 1e300.
    """
    bets = np.log(EXPONENTS)[None, :] + (EXPONENTS - 1.0)[None, :] * np.log(p_value)[:, None]
    # One run after the other: a difference of sums over all runs would depend on who else is there, in its last bits.
    runs = np.split(bets, begins[1:])
    own = np.concatenate([np.cumsum(run, axis=0) for run in runs]) if len(bets) else bets
    return np.asarray(np.exp(np.clip(own, -690.0, 690.0)).mean(axis=1))


def alarms(capital: NDArray[np.float64], begins: NDArray[np.int64], alpha: float) -> NDArray[np.int64]:
    """Position of the first value of each run that is 1 / alpha or more, -1 where there is none."""
    positions = np.where(capital >= 1.0 / alpha, np.arange(len(capital)), len(capital))
    first = np.minimum.reduceat(positions, begins)
    return np.where(first < len(capital), first, -1)
