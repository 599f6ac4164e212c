"""Classifier refit: trees, logistic models and calibration from stored training rows and a provider's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.adaptation.benign_rows import MAX_CUT, AccountRows
from serve.adaptation.provider_rows import Rows
from serve.bundle.bundle import Bundle
from serve.capability.breadth import CoverageNull
from serve.model import refitting
from serve.model.benign_profile import BenignProfile, benign_quantiles
from serve.model.calibration import Calibration
from serve.model.classifier import Classifier
from serve.model.refitting import ClassifierSettings, fit, score_map, with_confirmed
from serve.sessions.size_classes import ACCOUNT_EDGES, SIZE_EDGES, size_class

OWN_SHARE = 0.5
"""Share of the organic weight that the provider's own sessions have in what is learned from."""

CONFIRMED_SHARE = 0.5
"""Share of the harvesting weight that sessions of confirmed campaigns have."""

SETTINGS = ClassifierSettings(expert_strength=0.01, expert_share=0.85)
"""How the classifier is refitted: the provider's few accounts weigh as much as all stored ones, so the penalty is
stronger than where every source has many, and trees, which learn few accounts by heart, have less of a say."""

CONFIRMED_SETTINGS = ClassifierSettings(expert_strength=0.003)
"""The same for experts of confirmed campaigns, which see the provider's own rows alone, and their share with those."""

_N_FOLDS = 3


@dataclass(frozen=True)
class Refitted:
    """What judges after the refit; `weight` and `margins_left_out` of every row that it was learned from: the stored
    ones, the provider's, those of confirmed campaigns."""

    classifier: Classifier
    calibration: Calibration
    calibrated_n: NDArray[np.int64]
    reference: NDArray[np.float64]
    benign: BenignProfile
    weight: NDArray[np.float64]
    margins_left_out: NDArray[np.float64]
    accounts: Calibration


def refit(
    bundle: Bundle, stored: pa.Table, learned: Rows, aside: Rows, whole: AccountRows, confirmed: Rows | None
) -> Refitted:
    """The classifier on all rows; the score from margins left out; p-values from the accounts kept aside, by their
    sessions and as a `whole`."""
    names = list(bundle.manifest["features"])
    own = [learned] if confirmed is None else [learned, confirmed]
    X = np.concatenate([
        np.stack([stored[name].to_numpy() for name in names], axis=1), *(rows.X for rows in own)
    ]).astype(np.float64)  # fmt: skip
    labels = [np.zeros(len(learned), np.int64)] + [np.ones(len(rows), np.int64) for rows in own[1:]]
    y = np.concatenate([stored["y"].to_numpy().astype(np.int64), *labels])
    # Dilutions are stored in single precision, in which 0.9 is another number.
    diluted = np.concatenate([stored["dilution"].to_numpy(), *(rows.dilution for rows in own)])
    weight = _weights(stored, learned, confirmed)
    rows = refitting.Rows(X, y, weight, np.asarray(np.round(diluted, 4), dtype=np.float64))
    is_own = np.arange(len(X)) >= len(stored)

    def fitted(chosen: NDArray[np.bool_]) -> Classifier:
        found = fit(rows.where(chosen), names, SETTINGS, seed=0)
        return found if confirmed is None else with_confirmed(
            found, rows.where(chosen & is_own), names, CONFIRMED_SETTINGS
        )  # fmt: skip

    classifier = fitted(np.ones(len(X), np.bool_))
    part = np.concatenate([
        _parts(stored["campaign"].to_pylist(), stored["y"].to_numpy()),
        *(((own_rows.account >> np.uint64(32)) % _N_FOLDS).astype(np.int64) for own_rows in own),
    ])  # fmt: skip
    left_out = np.zeros(len(X))
    for fold in range(_N_FOLDS):
        held = part == fold
        left_out[held] = fitted(~held).margins(X[held])
    margins = classifier.margins(aside.X)
    slope, intercept = score_map(left_out[y == 1], margins)
    enough = _enough(aside)
    calibration = Calibration.of_margins(slope, intercept, margins[enough], aside.n_exchanges[enough])
    accounts = Calibration.of_margins(slope, intercept, classifier.margins(whole.X), whole.n_exchanges, ACCOUNT_EDGES)
    null = CoverageNull.fit(aside.cells, bundle.capabilities.cell_areas, len(bundle.capabilities.areas))
    benign = BenignProfile.fit(aside.X, names, calibration.p_value(margins, aside.n_exchanges), aside.n_exchanges, null)
    return Refitted(
        classifier, calibration, aside.n_exchanges[enough], benign_quantiles(aside.X, aside.n_exchanges), benign,
        weight, left_out, accounts,
    )  # fmt: skip


def _enough(aside: Rows) -> NDArray[np.bool_]:
    """Rows to calibrate on: whole sessions, and beginnings of longer ones too in size classes that lack whole ones."""
    classes = size_class(aside.n_exchanges)
    n_whole = np.bincount(classes[aside.is_whole], minlength=len(SIZE_EDGES))
    return np.asarray(aside.is_whole | (n_whole < MAX_CUT)[classes])


def _weights(stored: pa.Table, learned: Rows, confirmed: Rows | None) -> NDArray[np.float64]:
    """Stored weights, with `OWN_SHARE` of the organic weight given to the provider's accounts and `CONFIRMED_SHARE` of
    the harvesting one to confirmed campaigns', each account with the square root of its share."""
    weight, y = stored["weight"].to_numpy().astype(np.float64), stored["y"].to_numpy()
    parts = [weight.copy(), _by_account(learned) * OWN_SHARE * weight[y == 0].sum()]
    parts[0][y == 0] *= 1.0 - OWN_SHARE
    if confirmed is not None:
        parts.append(_by_account(confirmed) * CONFIRMED_SHARE * weight[y == 1].sum())
        parts[0][y == 1] *= 1.0 - CONFIRMED_SHARE
    return np.concatenate(parts)


def _by_account(rows: Rows) -> NDArray[np.float64]:
    """Weights that add up to 1, of each account in proportion to the square root of its number of rows."""
    _, inverse, counts = np.unique(rows.account, return_inverse=True, return_counts=True)
    own = 1.0 / np.sqrt(counts[inverse])
    return np.asarray(own / own.sum())


def _parts(campaigns: Sequence[str], y: NDArray[np.int8]) -> NDArray[np.int64]:
    """A part for each row, by the first corpus group of its campaign or source; each label is dealt to all parts."""
    groups, parts = np.array([name.split("+")[0] for name in campaigns]), np.zeros(len(y), dtype=np.int64)
    for label in (0, 1):
        _, inverse = np.unique(groups[y == label], return_inverse=True)
        parts[y == label] = inverse % _N_FOLDS
    return parts
