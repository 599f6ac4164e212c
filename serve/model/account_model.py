"""The account model: a whole account judged by how all its prompts score, and by its sessions' p-values.

What it reads adds up over sessions (see `features.score_counts`), so it costs next to nothing beside judging sessions.
A harvest that is spread thin over hundreds of exchanges shows here where no session alone does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from serve.features.score_counts import HARVEST, HARVEST_EDGES, OTHER_EDGES, PERSON, PRODUCT, bin_values
from serve.model.calibration import Calibration
from serve.model.logistic_ensemble import LogisticEnsemble
from serve.model.refitting import Rows, fit_experts, score_map
from serve.sessions.size_classes import ACCOUNT_EDGES

_SHARES = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0])
_TOPS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
_LEVELS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)

NAMES = (
    "log_exchanges", "log_sessions", *(f"harvest_top_{top:g}" for top in _TOPS), "harvest_mean",
    *(f"harvest_above_{level:g}" for level in _LEVELS), "harvest_mixture", "harvest_mixture_share", "harvest_excess",
    "person_mean", "product_mean", "product_above_2", "sessions_simes", "sessions_mean", "sessions_low_share",
    "areas_shannon", "areas_main",
)  # fmt: skip
"""Features of an account, in order."""

_RISING = ("harvest_", "sessions_")
_STRENGTH = 0.02


@dataclass(frozen=True)
class AccountRows:
    """What the model reads of accounts, as columns (n_accounts,) or (n_accounts, ...): exchanges, sessions, score
    counts, Simes' p-value, the mean of log10 p and the share of p-values below 0.05 over sessions, and area shares."""

    n_exchanges: NDArray[np.int64]
    n_sessions: NDArray[np.int64]
    counts: NDArray[np.int64]
    simes: NDArray[np.float64]
    mean_log_p: NDArray[np.float64]
    low_share: NDArray[np.float64]
    area_share: NDArray[np.float64]

    def features(self) -> NDArray[np.float64]:
        """Rows of `NAMES`, shape (n_accounts, n_features), always finite."""
        n = np.maximum(self.n_exchanges, 1).astype(np.float64)
        harvest, values = self.counts[:, HARVEST] / n[:, None], bin_values(HARVEST_EDGES)
        others = bin_values(OTHER_EDGES)
        mixture = np.stack([harvest @ np.log1p(share * (np.exp(values) - 1.0)) for share in _SHARES], axis=1)
        best = np.maximum(mixture.max(axis=1), 0.0)
        areas = np.clip(self.area_share, 1e-12, 1.0)
        columns = [
            np.log(n), np.log(np.maximum(self.n_sessions, 1)), *_tops(harvest, values), harvest @ values,
            *(harvest[:, values > level].sum(axis=1) for level in _LEVELS),
            np.log1p(best * n), _SHARES[mixture.argmax(axis=1)], harvest @ expit(values),
            self.counts[:, PERSON] @ others / n, self.counts[:, PRODUCT] @ others / n,
            self.counts[:, PRODUCT][:, others > 2.0].sum(axis=1) / n, -np.log10(np.maximum(self.simes, 1e-6)),
            -self.mean_log_p, self.low_share, -(areas * np.log(areas)).sum(axis=1), self.area_share.max(axis=1),
        ]  # fmt: skip
        return np.stack(columns, axis=1)


def _tops(harvest: NDArray[np.float64], values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Mean score of the highest shares of an account's prompts."""
    falling, from_top = values[::-1], np.cumsum(harvest[:, ::-1], axis=1)
    before = from_top - harvest[:, ::-1]
    columns = []
    for top in _TOPS:
        taken = np.clip(np.minimum(from_top, top) - before, 0.0, None)
        columns.append((taken @ falling) / np.maximum(taken.sum(axis=1), 1e-12))
    return columns


@dataclass(frozen=True)
class AccountModel:
    """Logistic models of an account's features, and their calibration on benign accounts by size."""

    experts: LogisticEnsemble
    calibration: Calibration

    @classmethod
    def fit(cls, rows: AccountRows, y: NDArray[np.int64], dilution: NDArray[np.float64], benign: AccountRows) -> Self:
        """Learn from accounts of campaigns and benign ones (`y`), and calibrate on benign ones kept aside."""
        X = rows.features()
        rising = np.array([name.startswith(_RISING) for name in NAMES])
        # Experts know dilutions up to 0.9; what is thinner is learned with it.
        learned = Rows(X, y, np.ones(len(y)), np.minimum(dilution, 0.9))
        experts = fit_experts(learned, rising, strength=_STRENGTH, share=1.0)
        slope, intercept = score_map(experts.margins(X)[y == 1], experts.margins(benign.features()))
        return cls(experts, cls._calibrated(experts, slope, intercept, benign))

    def recalibrated(self, benign: AccountRows) -> AccountModel:
        """The same model, with p-values and thresholds of these benign accounts."""
        old = self.calibration
        return AccountModel(self.experts, self._calibrated(self.experts, old.slope, old.intercept, benign))

    @staticmethod
    def _calibrated(experts: LogisticEnsemble, slope: float, intercept: float, benign: AccountRows) -> Calibration:
        margins = experts.margins(benign.features())
        return Calibration.of_margins(slope, intercept, margins, benign.n_exchanges, ACCOUNT_EDGES)

    def judged(self, rows: AccountRows, fpr: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Score and p-value of each account, (n_accounts,); Simes' p-value where there are too few benign accounts of
        its size for one of `fpr`."""
        if not len(rows.n_exchanges):
            return np.zeros(0), np.zeros(0)
        margins = self.experts.margins(rows.features())
        p_value = self.calibration.p_value(margins, rows.n_exchanges)
        decidable = self.calibration.is_decidable(rows.n_exchanges, fpr)
        return self.calibration.score(margins), np.where(decidable, p_value, rows.simes)

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read from a bundle's arrays.

        Raises:
            ValueError: when shapes don't fit.
            KeyError: when one is missing.
        """
        experts = LogisticEnsemble.of_arrays(
            {key[8:]: value for key, value in arrays.items() if key.startswith("experts.")}
        )
        if len(experts.knots) != len(NAMES):
            raise ValueError(f"account model reads {len(experts.knots)} features, expected {len(NAMES)}")
        own = {key[12:]: value for key, value in arrays.items() if key.startswith("calibration.")}
        return cls(experts, Calibration.of_arrays(own, ACCOUNT_EDGES))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `of_arrays` reads."""
        return {f"experts.{key}": value for key, value in self.experts.arrays().items()} | {
            f"calibration.{key}": value for key, value in self.calibration.arrays().items()
        }
