"""Calibration: from the classifier's margin to a score, a conformal p-value and a threshold, by session size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serve.capability.special_functions import expit
from serve.sessions.size_classes import SIZE_EDGES, size_class

MIN_DECIDABLE = 5
"""Below this many exchanges a session that isn't flagged is `undecided`: there is too little evidence to clear it."""


MIN_CLASS = 100
"""Benign margins that a size class has at least, its neighbours' among them where it lacks own ones."""


BASE_RATE = 0.5
"""Share of harvesting that scores are calibrated for: both labels weigh the same in the logistic map."""


def posterior(score: float, prior: float) -> float:
    """The probability of harvesting that a score (0-1) means where a share `prior` (0-1) of all sessions harvests.

    Raises:
        ValueError: when the prior is not between 0 and 1.
    """
    from scipy.special import logit

    if not 0.0 < prior < 1.0:
        raise ValueError(f"prior is {prior}, expected a share between 0 and 1")
    return float(expit(np.asarray(logit(score) + logit(prior) - logit(BASE_RATE))))


@dataclass(frozen=True)
class Calibration:
    """`slope` and `intercept` of the logistic map from margin to score, and benign calibration margins, each size class
    sorted: class k owns `margins[offsets[k]:offsets[k + 1]]`."""

    slope: float
    intercept: float
    margins: NDArray[np.float64]
    offsets: NDArray[np.int64]
    edges: tuple[int, ...] = SIZE_EDGES
    _limits: dict[float, NDArray[np.float64]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of_margins(
        cls, slope: float, intercept: float, margins: NDArray[np.float64], n_exchanges: NDArray[np.int64],
        edges: tuple[int, ...] = SIZE_EDGES,
    ) -> Self:  # fmt: skip
        """From the margins and sizes of benign sessions of people that were never learned from. A class of fewer than
        `MIN_CLASS` borrows those of the classes next to it."""
        classes = size_class(n_exchanges, edges)
        parts = [np.sort(margins[_enough(classes, index, len(edges))]) for index in range(len(edges))]
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        return cls(slope, intercept, np.concatenate(parts), offsets, edges)

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[np.float64]], edges: tuple[int, ...] = SIZE_EDGES) -> Self:
        """Read from a bundle's arrays.

        Raises:
            ValueError: when the size classes aren't those of this release.
        """
        offsets = arrays["offsets"].astype(np.int64)
        if len(offsets) != len(edges) + 1 or offsets[-1] != len(arrays["margins"]):
            raise ValueError(f"calibration has {len(offsets) - 1} size classes, expected {len(edges)}")
        if offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise ValueError("calibration has size classes that overlap, expected offsets that rise from 0")
        slope, intercept = arrays["logistic"].tolist()
        found = cls(slope, intercept, arrays["margins"], offsets, edges)
        if not slope > 0.0 or any((np.diff(found._class(index)) < 0).any() for index in range(len(edges))):
            raise ValueError(f"calibration has slope {slope} or margins that fall, expected both to rise")
        return found

    def arrays(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """What `of_arrays` reads."""
        return {"logistic": np.array([self.slope, self.intercept]), "margins": self.margins, "offsets": self.offsets}

    def log_odds(self, margin: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-odds of the score."""
        return np.asarray(self.slope * margin + self.intercept, dtype=np.float64)

    def score(self, margin: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated probability of harvesting, 0-1, increasing in the margin, where half of all sessions harvest."""
        return np.asarray(expit(self.log_odds(margin)), dtype=np.float64)

    def p_value(self, margin: NDArray[np.float64], n_exchanges: NDArray[np.int64]) -> NDArray[np.float64]:
        """Conformal p-value, (1 + benign of like size that score as high) / (1 + benign of like size), in (0, 1].

        Source: Vovk, Gammerman & Shafer 2005; Bates et al. 2023 for its use against outliers.
        """
        p_value = np.ones(len(margin))
        classes = size_class(n_exchanges, self.edges)
        for index in np.unique(classes):
            own, rows = self._class(int(index)), classes == index
            above = len(own) - np.searchsorted(own, margin[rows], side="left")
            p_value[rows] = (1.0 + above) / (1.0 + len(own))
        return p_value

    def threshold(self, n_exchanges: NDArray[np.int64], fpr: float) -> NDArray[np.float64]:
        """Lowest score whose p-value is at most `fpr`, for each size; 1.0 where calibration is too small for it."""
        if fpr not in self._limits:
            limits = [self._limit(self._class(index), fpr) for index in range(len(self.edges))]
            self._limits[fpr] = np.array(limits)
        return self._limits[fpr][size_class(n_exchanges, self.edges)]

    def is_decidable(self, n_exchanges: NDArray[np.int64], fpr: float) -> NDArray[np.bool_]:
        """Whether there are benign margins enough of each size for any p-value to be `fpr` or less."""
        n_own = np.diff(self.offsets)[size_class(n_exchanges, self.edges)]
        return np.asarray(fpr * (n_own + 1) + 1e-9 >= 1.0)

    def _limit(self, margins: NDArray[np.float64], fpr: float) -> float:
        n_allowed = int(np.floor(fpr * (len(margins) + 1) + 1e-9)) - 1
        if n_allowed < 0:
            return 1.0
        highest = margins[len(margins) - 1 - n_allowed]
        return float(self.score(np.nextafter(np.array([highest]), np.inf))[0])

    def _class(self, index: int) -> NDArray[np.float64]:
        return self.margins[self.offsets[index] : self.offsets[index + 1]]


def _enough(classes: NDArray[np.int64], index: int, n_classes: int) -> NDArray[np.bool_]:
    """The members of a class, and of as many of the nearest other classes as it takes."""
    chosen = classes == index
    for distance in range(1, n_classes):
        if chosen.sum() >= MIN_CLASS:
            break
        chosen = np.abs(classes - index) <= distance
    return np.asarray(chosen)
