"""Community model: from the signs of accounts that ask alike to the log-odds that they are a campaign."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

MAX_SPREADS = 3.0
"""Scales from its mean beyond which a sign says no more."""

_PARTS = ("mean", "scale", "weight", "intercept", "threshold")


@dataclass(frozen=True, slots=True)
class CommunityFeatures:
    """Signs of one community, each high where it speaks for a campaign.

    `lean`: mean evidence for harvest of what the accounts share, less that for a person or a product, whichever is
    larger. `apart`: share of it that nobody outside sends too. `broad`: log of the cells that 50 of the shared prompts
    reach. `tied`: log of the median gain (nats) that ties an account. For all but the last, what was kept of an account
    counts by the square root of what it stands for.
    """

    lean: float
    apart: float
    broad: float
    tied: float


FEATURES = tuple(field.name for field in fields(CommunityFeatures))


@dataclass(frozen=True, slots=True)
class CommunityModel:
    """A logistic model of signs: means, scales and weights by sign, an intercept, and the log-odds from which a
    community is called a campaign."""

    mean: Mapping[str, float]
    scale: Mapping[str, float]
    weight: Mapping[str, float]
    intercept: float
    threshold: float

    def contributions(self, signs: CommunityFeatures) -> dict[str, float]:
        """Log-odds that each sign adds, above 0 where it speaks for a campaign."""
        return {name: self.weight[name] * self._spreads(name, getattr(signs, name)) for name in FEATURES}

    def log_odds(self, signs: CommunityFeatures) -> float:
        """Log-odds of a campaign where campaigns and other communities are equally frequent."""
        return self.intercept + sum(self.contributions(signs).values())

    def is_campaign(self, signs: CommunityFeatures) -> bool:
        """Whether a community is called a campaign."""
        return self.log_odds(signs) > self.threshold

    def _spreads(self, name: str, sign: float) -> float:
        """How many scales a sign lies from the mean, `MAX_SPREADS` at most either way."""
        return float(np.clip((sign - self.mean[name]) / self.scale[name], -MAX_SPREADS, MAX_SPREADS))

    def values(self) -> dict[str, Any]:
        """What `of_values` reads: numbers and objects of numbers, as JSON has them."""
        return {"mean": dict(self.mean), "scale": dict(self.scale), "weight": dict(self.weight),
                "intercept": self.intercept, "threshold": self.threshold}  # fmt: skip

    @classmethod
    def of_values(cls, given: object) -> Self:
        """Read from a bundle's JSON.

        Raises:
            ValueError: when parts or signs are missing or unknown, or a number isn't finite, or a scale not above 0.
        """
        if not isinstance(given, dict) or set(given) != set(_PARTS):
            raise ValueError(f"a community model is no object of {', '.join(_PARTS)}")
        mean, scale, weight = (_by_sign(name, given[name]) for name in ("mean", "scale", "weight"))
        if any(value <= 0.0 for value in scale.values()):
            raise ValueError("a community model has a scale that isn't above 0")
        return cls(mean, scale, weight, *(_number(name, given[name]) for name in ("intercept", "threshold")))


def _by_sign(part: str, given: object) -> dict[str, float]:
    if not isinstance(given, dict) or set(given) != set(FEATURES):
        raise ValueError(f"a community model's {part} is no object of {', '.join(FEATURES)}")
    return {name: _number(f"{part} of {name}", given[name]) for name in FEATURES}


def _number(name: str, given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise ValueError(f"a community model has {name} {str(given)[:20]}, expected a finite number")
    return float(given)


BUILT_IN = CommunityModel(
    mean={"lean": -0.8, "apart": 0.53, "broad": 2.89, "tied": 4.04},
    scale={"lean": 0.54, "apart": 0.31, "broad": 1.0, "tied": 1.34},
    weight={"lean": 3.17, "apart": 1.86, "broad": 0.56, "tied": 1.03},
    intercept=-11.5,
    threshold=0.0,
)
"""For bundles of a release that had no community model of their own."""
