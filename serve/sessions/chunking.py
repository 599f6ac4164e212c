"""Chunking: consecutive sessions of about as many prompts as fit in memory at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def chunk_bounds(offsets: NDArray[np.int64], n_prompts: int) -> Iterator[tuple[int, int]]:
    """First session of each chunk and the one after its last: one session, or several of at most `n_prompts` prompts.

    `offsets` (n_sessions + 1,) says where each session's prompts begin; no session is cut.
    """
    start = 0
    while start < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[start] + n_prompts, side="right")) - 1
        yield start, max(stop, start + 1)
        start = max(stop, start + 1)
