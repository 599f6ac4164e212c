"""Chunks are consecutive, whole and as large as they may be."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serve.sessions.chunking import chunk_bounds


def test_a_session_larger_than_a_chunk_is_one_by_itself() -> None:
    offsets = np.array([0, 2, 4, 14, 15])
    assert list(chunk_bounds(offsets, 4)) == [(0, 2), (2, 3), (3, 4)]
    assert list(chunk_bounds(offsets[:1], 4)) == []


@given(st.lists(st.integers(0, 9)), st.integers(1, 20))
def test_chunks_cover_all_sessions_and_none_has_room_for_the_next(sizes: list[int], n_prompts: int) -> None:
    bounds = list(chunk_bounds(np.append(0, np.cumsum(sizes, dtype=np.int64)), n_prompts))
    assert [index for start, stop in bounds for index in range(start, stop)] == list(range(len(sizes)))
    for start, stop in bounds:
        assert sum(sizes[start:stop]) <= n_prompts or stop == start + 1
    for (start, stop), _ in itertools.pairwise(bounds):
        assert sum(sizes[start : stop + 1]) > n_prompts
