"""Ranges: between which bounds each number of the settings lies, checked before any work starts.

A count is at least 1 and a share between 0 and 1, by its name; what differs is listed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_RANGES: Mapping[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "corpora.starter_prompts": (0, math.inf),
    "encoder.distill.n_texts": (0, math.inf),
    "evidence.n_parts": (2, math.inf),
    "evidence.n_sample": (0, math.inf),
    "classifier.num_leaves": (2, 131_072),
    "classifier.expert_share": (0, 1),
    "model.n_inner_folds": (2, math.inf),
    "split.n_folds": (2, math.inf),
    "split.n_source_folds": (2, math.inf),
    "exam.n_bootstrap": (0, math.inf),
    "exam.n_accounts": (0, math.inf),
    "exam.first_folds": (0, math.inf),
    "capabilities.floor": (0, 1),
    "bundling.fpr": (0, 1),
}
"""Lowest and highest value of settings that have a range of their own, by dotted key."""

_SHARES = ("_share", "_shares", "_dropout", "_fraction", "dilutions")


def out_of_range(values: Mapping[str, Any]) -> str | None:
    """What is wrong with the first number that lies out of its range, of plain values by dotted key; None where none
    does. The dimensions of a search have rules of their own."""
    for key, value in values.items():
        if key.startswith("search.dimensions"):
            continue
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            low, high = _range(key, is_whole=isinstance(number, int) and not key.endswith(_SHARES))
            if not low <= number <= high:
                return f"{key} is {number}, expected {_wording(low, high)}"
    return None


def _range(key: str, *, is_whole: bool) -> tuple[float, float]:
    own = _RANGES.get(key)
    if own is not None:
        return own
    if key.endswith(_SHARES):
        return 0, 1
    return (1 if is_whole else 0), math.inf


def _wording(low: float, high: float) -> str:
    return f"at least {low}" if high == math.inf else f"{low} to {high}"
