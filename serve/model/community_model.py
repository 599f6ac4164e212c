"""Community model: from the signs of accounts that ask alike to the log-odds that they are a campaign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

_BY_SIGN = ("mean", "scale", "weight", "low", "high")
_NUMBERS = ("intercept", "threshold")
_MOST = 1e6


@dataclass(frozen=True, slots=True)
class CommunityFeatures:
    """Signs of one community, each high where it speaks for a campaign.

    `lean`: mean evidence for harvest of what the accounts share, less that for a person or a product, whichever is
    larger. `apart`: share of it that nobody outside sends too. `broad`: log of the cells that 50 of the shared prompts
    reach. `tied`: log of the median gain (nats) that ties an account. `shared_out`: by how much the prompts of one
    account are less alike (mean cosine) than those of different ones; about 0 where accounts work off one queue, below
    where each has a subject or data of its own. `harvest`: evidence (log-odds) of what an account shares, the median
    account's. `rest`: less the evidence of everything else that it sends, the median account's, and near 0 where there
    is nothing else: a harvest hides in traffic that looks like people's; people whose hard questions meet ask hard
    questions throughout. `even`: less the log of the ratio between the upper and the lower quartile of the accounts'
    shares, 0 where all share alike. `size`: log of the number of accounts. What was kept of an
    account counts by the square root of what it stands for.
    """

    lean: float
    apart: float
    broad: float
    tied: float
    shared_out: float
    harvest: float
    rest: float
    even: float
    size: float


FEATURES = tuple(field.name for field in fields(CommunityFeatures))
_LATER = {"harvest", "rest", "even", "size"}
"""Signs that models of earlier releases know nothing of; they say nothing there."""
_SILENT = {"mean": 0.0, "scale": 1.0, "weight": 0.0, "low": -1.0, "high": 1.0}


@dataclass(frozen=True, slots=True)
class CommunityModel:
    """A logistic model of signs: means, scales and weights by sign, the values below and above which a sign says no
    more, an intercept, and the log-odds from which a community is called a campaign."""

    mean: Mapping[str, float]
    scale: Mapping[str, float]
    weight: Mapping[str, float]
    low: Mapping[str, float]
    high: Mapping[str, float]
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
        """How many scales a sign, within its bounds, lies from the mean."""
        return (min(max(sign, self.low[name]), self.high[name]) - self.mean[name]) / self.scale[name]

    def values(self) -> dict[str, Any]:
        """What `of_values` reads: numbers and objects of numbers, as JSON has them."""
        return {name: dict(getattr(self, name)) for name in _BY_SIGN} | {name: getattr(self, name) for name in _NUMBERS}

    @classmethod
    def of_values(cls, given: object) -> Self:
        """Read from a bundle's JSON.

        Raises:
            ValueError: when parts or signs are missing or unknown, or a number isn't finite, or a scale not above 0.
        """
        if not isinstance(given, dict) or set(given) != {*_BY_SIGN, *_NUMBERS}:
            raise ValueError(f"a community model is no object of {', '.join((*_BY_SIGN, *_NUMBERS))}")
        mean, scale, weight, low, high = (_by_sign(name, given[name]) for name in _BY_SIGN)
        if any(value < 1.0 / _MOST for value in scale.values()):
            raise ValueError("a community model has a scale that isn't above 0")
        if any(low[name] > high[name] for name in FEATURES):
            raise ValueError("a community model has a sign whose low lies above its high")
        return cls(mean, scale, weight, low, high, *(_number(name, given[name]) for name in _NUMBERS))


def _by_sign(part: str, given: object) -> dict[str, float]:
    if not isinstance(given, dict) or not set(FEATURES) - _LATER <= set(given) <= set(FEATURES):
        raise ValueError(f"a community model's {part} is no object of {', '.join(FEATURES)}")
    return {name: _number(f"{part} of {name}", given.get(name, _SILENT[part])) for name in FEATURES}


def _number(name: str, given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not -_MOST <= given <= _MOST:
        raise ValueError(f"a community model has {name} {str(given)[:20]}, expected a finite number up to {_MOST:g}")
    return float(given)


BUILT_IN = CommunityModel.of_values({
    "mean": {"lean": -0.8, "apart": 0.53, "broad": 2.89, "tied": 4.04, "shared_out": 0.0},
    "scale": {"lean": 0.54, "apart": 0.31, "broad": 1.0, "tied": 1.34, "shared_out": 1.0},
    "weight": {"lean": 3.17, "apart": 1.86, "broad": 0.56, "tied": 1.03, "shared_out": 0.0},
    "low": {"lean": -2.42, "apart": -0.4, "broad": -0.11, "tied": 0.02, "shared_out": -3.0},
    "high": {"lean": 0.82, "apart": 1.46, "broad": 5.89, "tied": 8.06, "shared_out": 3.0},
    "intercept": -11.5,
    "threshold": 0.0,
})  # fmt: skip
"""For bundles of a release that had no community model of their own."""
