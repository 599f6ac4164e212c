"""Statements: sentences on one feature of a session, with units, beside what benign sessions have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """How many prompts a session has, how many of them have a place on the map, and how many are in its main area."""

    n: int
    n_placed: int
    n_main: int


@dataclass(frozen=True, slots=True)
class Unit:
    """How a value is shown: `number` turns it (with how many prompts it is measured on) into what is shown, and
    `text` writes that down."""

    number: Callable[[float, int], float]
    text: Callable[[float], str]


COUNT = Unit(lambda value, n: float(round(value * n)), lambda shown: f"{shown:,.0f}")
PERCENT = Unit(lambda value, _: float(round(100.0 * value)), lambda shown: f"{shown:.0f} %")
POINTS = Unit(lambda value, _: round(value, 1) + 0.0, lambda shown: f"{shown:+.1f}")
ALIKE = Unit(lambda value, _: round(value, 2) + 0.0, lambda shown: f"{shown:.2f}")
GAIN = Unit(lambda value, _: round(value, 2) + 0.0, lambda shown: f"{shown:+.2f}")
AMOUNT = Unit(lambda value, n: round(value * n, 1), lambda shown: f"{shown:,.1f}")
NUMBER = Unit(lambda value, _: round(value, 1) + 0.0, lambda shown: f"{shown:.1f}")


@dataclass(frozen=True, slots=True)
class Measure:
    """One feature of an idea, with its sentence; `base` is the field of `Size` that it is measured on.

    A session whose base is below `least` or above `most` is never described by it.
    """

    name: str
    unit: Unit
    sentence: str
    base: str = "n"
    least: int = 1
    most: int = 1 << 62

    def fits(self, size: Size) -> bool:
        """Whether the sentence can be true of a session of this size."""
        return self.least <= int(getattr(size, self.base)) <= self.most


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence on one value, and how far the value shown lies outside the benign range shown, in widths of that range
    (0 or less: inside)."""

    sentence: str
    outlying: float


def statement(measure: Measure, value: float, benign: Sequence[float], size: Size) -> Statement:
    """What a measure says of a value beside the range (low, high) of 90 % of benign sessions of like size."""
    base, unit = int(getattr(size, measure.base)), measure.unit
    shown = unit.number(value, base)
    low, high = (unit.number(bound, base) for bound in benign)
    text = measure.sentence.format(value=unit.text(shown), base=f"{base:,}")
    band = unit.text(low) if low == high else f"{unit.text(low)} to {unit.text(high)}"
    outlying = max(low - shown, shown - high) / max(high - low, 1e-3)
    return Statement(f"{text}; 90 % of benign sessions of this size have {band}.", outlying)
