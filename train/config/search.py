"""Search: which settings a sweep tries, and from which ranges; light, since every command reads settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol


class Suggesting(Protocol):
    """What draws values: an Optuna trial."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number from `low` to `high`, both included."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number from `low` to `high`."""
        ...

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        """One of the choices."""
        ...


@dataclass(frozen=True, slots=True)
class Dimension:
    """One setting's values: from `low` to `high` (on a log scale if `log`, whole numbers if `whole`), or `choices`."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def draw(self, name: str, trial: Suggesting) -> Any:
        """A value for the setting of this name.

        Raises:
            ValueError: when neither choices nor both bounds are given.
        """
        if self.choices:
            return trial.suggest_categorical(name, self.choices)
        if self.low is None or self.high is None:
            raise ValueError(f"search.dimensions: {name} has neither choices nor both low and high")
        if self.whole:
            return trial.suggest_int(name, round(self.low), round(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """A sweep: `dimensions` by dotted setting, searched in the Optuna study `study` until `n_trials` have ended, by
    `n_workers` processes; the first `n_startup` trials are drawn at random and never pruned."""

    study: str = "stillwatch"
    n_trials: int = 20
    n_workers: int = 1
    n_startup: int = 5
    dimensions: dict[str, Any] = field(default_factory=dict)


def dimensions(settings: SearchSettings) -> dict[str, Dimension]:
    """The dimensions by dotted setting, checked.

    Raises:
        ValueError: when one is no mapping, or has a key that is none of Dimension's.
    """
    valid = {entry.name for entry in fields(Dimension)}
    found = {}
    for name, raw in sorted(settings.dimensions.items()):
        if not isinstance(raw, Mapping) or set(raw) - valid:
            raise ValueError(f"search.dimensions: {name} is {raw}, expected some of {', '.join(sorted(valid))}")
        found[name] = Dimension(**{**raw, "choices": tuple(raw.get("choices", ()))})
    return found


def drawn(settings: SearchSettings, trial: Suggesting) -> dict[str, Any]:
    """A value for every dimension, by dotted setting."""
    return {name: dimension.draw(name, trial) for name, dimension in dimensions(settings).items()}


def replaced(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested plain values with some of them, by dotted key, set to others.

    Raises:
        ValueError: when a key is none of the settings.
    """
    found = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for name, value in changes.items():
        group, _, rest = name.partition(".")
        if group not in found or (rest and not isinstance(found[group], dict)):
            raise ValueError(f"search.dimensions: there is no setting {name!r}")
        found[group] = replaced(found[group], {rest: value}) if rest else value
    return found
