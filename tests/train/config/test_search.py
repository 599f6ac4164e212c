"""Search: dimensions are checked, drawn within their bounds, and put where they belong."""

from __future__ import annotations

from typing import Any

import pytest

from train.config.search import Dimension, SearchSettings, dimensions, drawn, replaced


class Middle:
    """Draws the middle of everything, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self.asked.append((name, low, high, log))
        return (low + high) // 2

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked.append((name, low, high, log))
        return (low + high) / 2

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        self.asked.append((name, choices))
        return choices[len(choices) // 2]


def test_every_kind_of_dimension_is_drawn_by_its_own_rule() -> None:
    settings = SearchSettings(dimensions={
        "classifier.n_rounds": {"low": 10, "high": 30, "log": True, "whole": True},
        "classifier.lambda_l2": {"low": 1.0, "high": 2.0},
        "seed": {"choices": [1, 2, 3]},
    })  # fmt: skip
    trial = Middle()
    assert drawn(settings, trial) == {"classifier.n_rounds": 20, "classifier.lambda_l2": 1.5, "seed": 2}
    assert trial.asked == [
        ("classifier.lambda_l2", 1.0, 2.0, False), ("classifier.n_rounds", 10, 30, True), ("seed", (1, 2, 3)),
    ]  # fmt: skip


@pytest.mark.parametrize("raw", [3, {"lo": 1, "high": 2}, ["a"]])
def test_a_dimension_that_is_none_is_named(raw: Any) -> None:
    with pytest.raises(ValueError, match=r"search.dimensions: seed is .*, expected some of choices, high"):
        dimensions(SearchSettings(dimensions={"seed": raw}))


def test_a_dimension_needs_both_bounds() -> None:
    with pytest.raises(ValueError, match="seed has neither choices nor both low and high"):
        Dimension(low=1.0).draw("seed", Middle())


def test_values_are_replaced_where_they_are_and_nowhere_else() -> None:
    values = {"seed": 0, "encoder": {"source": "distil", "distill": {"n_dims": 256, "n_texts": 0}}}
    found = replaced(values, {"encoder.distill.n_texts": 7, "seed": 1})
    assert found == {"seed": 1, "encoder": {"source": "distil", "distill": {"n_dims": 256, "n_texts": 7}}}
    assert values["seed"] == 0
    assert values["encoder"]["distill"]["n_texts"] == 0  # type: ignore[index]


@pytest.mark.parametrize("name", ["nothing", "nothing.here", "seed.deeper"])
def test_a_setting_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="there is no setting"):
        replaced({"seed": 0}, {name: 1})
