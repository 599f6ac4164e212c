"""Learn a classifier: LightGBM and experts over feature rows, and their margins on campaigns left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.model import refitting as fitting
from serve.model.classifier import Classifier
from serve.model.refitting import ClassifierSettings, Rows
from train.learning.table import Table


@dataclass(frozen=True)
class LeftOut:
    """A classifier and the rows whose campaigns it never saw: a mask (n_sessions,) and their margins."""

    fold: int
    held: NDArray[np.bool_]
    margins: NDArray[np.float64]
    classifier: Classifier


def fit(table: Table, names: Sequence[str], settings: ClassifierSettings, *, seed: int) -> Classifier:
    """A classifier of the table's rows; the same table, settings and seed give the same one."""
    return fitting.fit(Rows(table.X, table.y, table.weight, table.dilution), names, settings, seed=seed)


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
