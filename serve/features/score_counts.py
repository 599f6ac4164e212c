"""Score counts: how many of a unit's prompts have which score, head by head.

Counts add up, so those of an account are the sum of its sessions', in any order, and no prompt need be held for them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serve.features.prompt_scorer import HEADS

HARVEST_EDGES = np.array([
    -6.0, -5.0, -4.0, -3.5, -3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0,
    6.0, 7.0,
])  # fmt: skip
OTHER_EDGES = np.array([-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0])
N_COUNTS = (len(HARVEST_EDGES) + 1) + (len(HEADS) - 1) * (len(OTHER_EDGES) + 1)
"""Counts of a unit: of each bin of harvest scores from low to high, then of a person's and of a product's."""

HARVEST = slice(0, len(HARVEST_EDGES) + 1)
PERSON = slice(HARVEST.stop, HARVEST.stop + len(OTHER_EDGES) + 1)
PRODUCT = slice(PERSON.stop, PERSON.stop + len(OTHER_EDGES) + 1)


def score_counts(evidence: NDArray[np.float64], owner: NDArray[np.int64], n_sessions: int) -> NDArray[np.int64]:
    """Counts of each session, shape (n_sessions, N_COUNTS), from scores (n_prompts, n_heads) and the session that owns
    each prompt (n_prompts,)."""
    parts = []
    for head, edges in enumerate((HARVEST_EDGES, OTHER_EDGES, OTHER_EDGES)):
        n_bins = len(edges) + 1
        key = owner * n_bins + np.searchsorted(edges, evidence[:, head], side="right")
        parts.append(np.bincount(key, minlength=n_sessions * n_bins).reshape(n_sessions, n_bins))
    return np.concatenate(parts, axis=1)


def bin_values(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """The score that a bin stands for: its middle, or half a unit beyond the outermost edges."""
    return np.concatenate([[edges[0] - 0.5], (edges[1:] + edges[:-1]) / 2.0, [edges[-1] + 0.5]])
