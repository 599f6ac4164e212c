"""Explanation: reasons that lead from a baseline to the log-odds of a score, and the prompts that weigh most."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

REASON = pa.struct([
    ("name", pa.string()), ("value", pa.float64()), ("benign_low", pa.float64()), ("benign_high", pa.float64()),
    ("contribution", pa.float64()), ("sentence", pa.string()), ("idea", pa.string()), ("is_weak", pa.bool_()),
])  # fmt: skip
EVIDENCE = pa.struct([("position", pa.int64()), ("log_odds", pa.float64())])


@dataclass(frozen=True, slots=True)
class Reason:
    """One idea that moved a score: the feature that shows it, its value, the range that 90 % of benign sessions of like
    size have, and how many log-odds all features of the idea added to the baseline (positive speaks for harvesting).

    `is_weak` where the value shown lies inside that range, or pulls the other way: benign sessions have it, too.
    """

    name: str
    value: float
    benign_low: float
    benign_high: float
    contribution: float
    sentence: str
    idea: str
    is_weak: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a score is what it is: `baseline`, the log-odds of a session of like size that has the middle value of benign
    ones in everything, and what `reasons` and the `rest` add to it (None where no reason was asked for)."""

    baseline: float | None
    reasons: tuple[Reason, ...]
    rest: float | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """One of the prompts that weigh most: its position in the session, 1 for the first, and its own log-odds of harvest
    (-8 to 8)."""

    position: int
    log_odds: float


@dataclass(frozen=True, slots=True)
class Sum:
    """An explanation as it is shown, rounded to hundredths so that what is shown adds up: `baseline`, one of
    `contributions` for each reason, and `rest` give `log_odds`."""

    baseline: float
    contributions: tuple[float, ...]
    rest: float
    log_odds: float

    @classmethod
    def of(cls, explanation: Explanation) -> Sum | None:
        """The sum that is shown of an explanation, None where there is none."""
        baseline, rest = explanation.baseline, explanation.rest
        if baseline is None or rest is None:
            return None
        parts = [reason.contribution for reason in explanation.reasons]
        total, first, *shown = (round(100.0 * value) for value in (baseline + sum(parts) + rest, baseline, *parts))
        left = total - first - sum(shown)
        return cls(first / 100.0, tuple(value / 100.0 for value in shown), left / 100.0, total / 100.0)
