"""Leakage: what could be told from the surface alone, and whether labels that mean nothing teach nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import lightgbm
import numpy as np
from numpy.typing import NDArray

from train.learning.table import Table

SURFACE_NUMBERS = (
    "log length", "length spread", "upper-case share", "digit share", "sign share", "line breaks",
    "full stop at the end", "question mark at the end", "lower-case start",
    "upper-case start", "blank share", "mean word length",
)  # fmt: skip
_PARAMETERS = {
    "objective": "binary", "num_leaves": 7, "learning_rate": 0.05, "min_data_in_leaf": 50, "num_threads": 2,
    "deterministic": True, "force_row_wise": True, "verbosity": -1,
}  # fmt: skip


def surface_numbers(texts: Sequence[str], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Twelve numbers on the surface of each session's texts as they were sent, shape (n_sessions, 12)."""
    rows = np.array([_numbers(text) for text in texts])
    n = np.diff(offsets)[:, None]
    means = np.add.reduceat(rows, offsets[:-1], axis=0) / n
    squares = np.add.reduceat(rows[:, :1] ** 2, offsets[:-1], axis=0) / n
    means[:, 1] = np.sqrt(np.maximum(squares[:, 0] - means[:, 0] ** 2, 0.0))
    return np.asarray(means)


def surface_margins(
    X: NDArray[np.float64], y: NDArray[np.int64], weight: NDArray[np.float64], examined: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Margins of a model that reads nothing but surface numbers."""
    booster = lightgbm.train(_PARAMETERS, lightgbm.Dataset(X, y, weight=weight), num_boost_round=200)
    return np.asarray(booster.predict(examined, raw_score=True), dtype=np.float64)


def shuffled(learned: Table, *, seed: int) -> Table:
    """The same rows with their labels in an order that means nothing; a label takes its dilution along, which would
    tell whose it was."""
    order = np.random.default_rng(seed).permutation(len(learned))
    return replace(learned, y=learned.y[order], dilution=learned.dilution[order])


def _numbers(text: str) -> tuple[float, ...]:
    n = max(len(text), 1)
    n_blank = sum(map(str.isspace, text))
    bare = text.rstrip()
    return (
        float(np.log1p(len(text))), 0.0, sum(map(str.isupper, text)) / n, sum(map(str.isdigit, text)) / n,
        (len(text) - sum(map(str.isalnum, text)) - n_blank) / n, float(text.count("\n")), float(bare.endswith(".")),
        float(bare.endswith("?")), float(text[:1].islower()), float(text[:1].isupper()), n_blank / n,
        (n - n_blank) / (n_blank + 1),
    )  # fmt: skip
