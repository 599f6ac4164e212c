"""Learn a classifier: LightGBM and experts over feature rows, and their margins on campaigns left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import lightgbm
import numpy as np
from numpy.typing import NDArray

from serve.classifier import Classifier
from train.experts import fit_experts
from train.table import Table


@dataclass(frozen=True, slots=True)
class ClassifierSettings:
    """Booster parameters, by LightGBM's names where it has one; and how strongly data weigh against the experts' L2
    penalty, and the experts' share in the pooled log-odds."""

    n_rounds: int = 600
    learning_rate: float = 0.04
    num_leaves: int = 7
    min_data_in_leaf: int = 60
    feature_fraction: float = 0.4
    bagging_fraction: float = 0.7
    lambda_l2: float = 5.0
    monotone: bool = True
    n_threads: int = 2
    expert_strength: float = 0.01
    expert_share: float = 0.7


@dataclass(frozen=True)
class LeftOut:
    """A classifier and the rows whose campaigns it never saw: a mask (n_sessions,) and their margins."""

    fold: int
    held: NDArray[np.bool_]
    margins: NDArray[np.float64]
    classifier: Classifier


# Features whose direction is certain: more evidence of harvest never makes a session more innocent.
_INCREASING = ("evidence.harvest_", "subset.half_evidence", "subset.quarter_evidence", "subset.tenth_evidence")


def fit(table: Table, names: Sequence[str], settings: ClassifierSettings, *, seed: int) -> Classifier:
    """Boost trees and fit experts on the features of the table that are judged by; the same table, settings and seed
    give the same classifier."""
    judged = [name for name in names if not name.startswith("area.")]
    X = np.ascontiguousarray(table.X[:, : len(judged)])
    data = lightgbm.Dataset(X, table.y, weight=table.weight, feature_name=_plain(judged), free_raw_data=False)
    booster = lightgbm.train(_parameters(judged, settings, seed), data, num_boost_round=settings.n_rounds)
    rising = np.array([name.startswith(_INCREASING) for name in judged])
    experts = fit_experts(table, rising, strength=settings.expert_strength, share=settings.expert_share)
    return Classifier(booster, experts)


def left_out(
    table: Table, names: Sequence[str], settings: ClassifierSettings, *, n_folds: int, seed: int
) -> Iterator[LeftOut]:
    """Classifiers that each leave the campaigns (and organic sources) of one part out, as they are ready."""
    part = campaign_parts(table.campaign, n_folds, seed)
    for fold in range(n_folds):
        held = part == fold
        if held.any():
            fitted = fit(table.where(~held), names, settings, seed=seed)
            yield LeftOut(fold, held, fitted.margins(table.X[held]), fitted)


def margins_left_out(
    table: Table, names: Sequence[str], settings: ClassifierSettings, *, n_folds: int, seed: int
) -> NDArray[np.float64]:
    """Margin of each row from a classifier that never saw its campaign (or its organic source), shape (n_sessions,)."""
    return joined_margins(tuple(left_out(table, names, settings, n_folds=n_folds, seed=seed)))


def joined_margins(parts: Sequence[LeftOut]) -> NDArray[np.float64]:
    """Margins of all rows from the classifiers that left them out, shape (n_sessions,)."""
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
