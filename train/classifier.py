"""Classifier: LightGBM over feature rows, and its margins on campaigns left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import lightgbm
import numpy as np
from numpy.typing import NDArray

from train.table import Table


@dataclass(frozen=True, slots=True)
class ClassifierSettings:
    """Booster parameters, by LightGBM's names where it has one."""

    n_rounds: int = 600
    learning_rate: float = 0.04
    num_leaves: int = 7
    min_data_in_leaf: int = 60
    feature_fraction: float = 0.4
    bagging_fraction: float = 0.7
    lambda_l2: float = 5.0
    monotone: bool = True
    n_threads: int = 2


@dataclass(frozen=True)
class LeftOut:
    """A booster and the rows whose campaigns it never saw: a mask (n_sessions,) and their margins."""

    fold: int
    held: NDArray[np.bool_]
    margins: NDArray[np.float64]
    booster: lightgbm.Booster


# Features whose direction is certain: more evidence of harvest never makes a session more innocent.
_INCREASING = ("evidence.harvest_", "subset.half_evidence", "subset.quarter_evidence", "subset.tenth_evidence")


def fit(table: Table, names: Sequence[str], settings: ClassifierSettings, *, seed: int) -> lightgbm.Booster:
    """Boost trees on the table; the same table, settings and seed give the same trees."""
    data = lightgbm.Dataset(table.X, table.y, weight=table.weight, feature_name=_plain(names), free_raw_data=False)
    return lightgbm.train(_parameters(names, settings, seed), data, num_boost_round=settings.n_rounds)


def margins(booster: lightgbm.Booster, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raw log-odds of feature rows."""
    return np.asarray(booster.predict(X, raw_score=True), dtype=np.float64)


def left_out(
    table: Table, names: Sequence[str], settings: ClassifierSettings, *, n_folds: int, seed: int
) -> Iterator[LeftOut]:
    """Boosters that each leave the campaigns (and organic sources) of one part out, as they are ready."""
    part = campaign_parts(table.campaign, n_folds, seed)
    for fold in range(n_folds):
        held = part == fold
        if held.any():
            booster = fit(table.where(~held), names, settings, seed=seed)
            yield LeftOut(fold, held, margins(booster, table.X[held]), booster)


def margins_left_out(
    table: Table, names: Sequence[str], settings: ClassifierSettings, *, n_folds: int, seed: int
) -> NDArray[np.float64]:
    """Margin of each row from a booster that never saw its campaign (or its organic source), shape (n_sessions,)."""
    return joined_margins(tuple(left_out(table, names, settings, n_folds=n_folds, seed=seed)))


def joined_margins(parts: Sequence[LeftOut]) -> NDArray[np.float64]:
    """Margins of all rows from the boosters that left them out, shape (n_sessions,)."""
    found = np.zeros(len(parts[0].held))
    for part in parts:
        found[part.held] = part.margins
    return found


def campaign_parts(campaign: NDArray[np.str_], n_parts: int, seed: int) -> NDArray[np.int64]:
    """A part for each session, by the first corpus group of its campaign or source."""
    first = np.array([name.split("+")[0] for name in campaign])
    names, inverse = np.unique(first, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    return np.asarray((order % n_parts)[inverse])


def _parameters(names: Sequence[str], settings: ClassifierSettings, seed: int) -> Mapping[str, object]:
    return {
        "objective": "binary",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.num_leaves,
        "min_data_in_leaf": settings.min_data_in_leaf,
        "feature_fraction": settings.feature_fraction,
        "bagging_fraction": settings.bagging_fraction,
        "bagging_freq": 1,
        "lambda_l2": settings.lambda_l2,
        "monotone_constraints": [int(settings.monotone and name.startswith(_INCREASING)) for name in names],
        "num_threads": settings.n_threads,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _plain(names: Sequence[str]) -> list[str]:
    return [name.replace(".", "_") for name in names]
