"""Evidence features: columns from the log-odds of a session's prompts: spread, tail, best run, mixture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serve.features import similarity as geometry

EVIDENCE = (
    *(
        f"evidence.{head}_{measure}"
        for head in ("harvest", "person", "product")
        for measure in ("mean", "q10", "q25", "q50", "q75", "q90")
    ),
    "evidence.harvest_max", "evidence.harvest_top2", "evidence.harvest_top5", "evidence.harvest_share",
    "evidence.harvest_strong_share", "evidence.harvest_probability", "evidence.harvest_run",
    "evidence.harvest_mixture", "evidence.harvest_mixture_share",
)  # fmt: skip
"""Names of the columns, in order."""

STRONG = 2.0
"""Log-odds from which a prompt looks strongly like harvest."""

_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
_GRID_STEP = 2.0**-20  # what exp and log give is rounded to, so that sums are the same in any order


def evidence_columns(weights: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Columns from evidence (n_sessions, n, n_heads) of one block."""
    columns: list[NDArray[np.float64]] = []
    for head in range(weights.shape[2]):
        own = np.ascontiguousarray(weights[:, :, head])
        columns += [geometry.mean(own), *geometry.quantiles(own, _QUANTILES).T]
    harvest = np.ascontiguousarray(weights[:, :, 0])
    ranked = -np.sort(-harvest, axis=1)
    probability = _on_grid(1.0 / (1.0 + np.exp(-harvest)))
    return [
        *columns, ranked[:, 0], *(geometry.mean(np.ascontiguousarray(ranked[:, :k])) for k in (2, 5)),
        (harvest > 0).mean(axis=1), (harvest > STRONG).mean(axis=1), geometry.mean(probability),
        _best_run(harvest), *_mixture(harvest),
    ]  # fmt: skip


def _mixture(harvest: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The highest log-likelihood ratio, a prompt, of "a share of these prompts is harvest" against "none is", and the
    share that has it: max over shares s of the mean of log(1 - s + s odds)."""
    odds = np.exp(harvest)
    ratios = np.stack([geometry.mean(_on_grid(np.log1p(share * (odds - 1.0)))) for share in _SHARES])
    return np.maximum(ratios.max(axis=0), 0.0), np.asarray(_SHARES)[ratios.argmax(axis=0)]


def _on_grid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(_GRID_STEP * np.rint(values / _GRID_STEP))


def _best_run(values: NDArray[np.float64], n_run: int = 8) -> NDArray[np.float64]:
    """Highest mean of a run of `n_run` consecutive prompts (a scan statistic); the session's where it is shorter."""
    n = values.shape[1]
    if n <= n_run:
        return geometry.mean(values)
    sums = np.cumsum(np.concatenate([np.zeros((len(values), 1)), values], axis=1), axis=1)
    return np.asarray((sums[:, n_run:] - sums[:, :-n_run]).max(axis=1) / n_run)
