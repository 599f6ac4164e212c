"""Sampling draws whole accounts, and the same ones everywhere."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from serve.sessions.sampling import account_hashes, in_sample, sampled
from serve.sessions.sessionizing import text_hashes

NAMES = [f"account {index}" for index in range(4_000)]


def test_a_sample_has_about_its_share_and_lies_in_a_larger_one() -> None:
    hashes = text_hashes(pa.array(NAMES))
    small, large = in_sample(hashes, 0.2), in_sample(hashes, 0.5)
    assert small.mean() == pytest.approx(0.2, abs=0.02)
    assert large.mean() == pytest.approx(0.5, abs=0.03)
    assert not (small & ~large).any()
    assert in_sample(hashes, 1.0).all()


def test_an_account_is_drawn_with_all_its_rows_or_not_at_all() -> None:
    table = pa.table({"account_id": pa.chunked_array([NAMES, NAMES[::-1]])})
    drawn = sampled(table, 0.3).column("account_id").to_pylist()
    assert all(drawn.count(name) == 2 for name in drawn[:50])
    expected = np.array(NAMES)[in_sample(text_hashes(pa.array(NAMES)), 0.3)]
    assert set(drawn) == set(expected.tolist())


def test_no_rows_are_no_fault() -> None:
    empty = pa.chunked_array([], pa.string())
    assert len(account_hashes(empty)) == 0
    assert len(sampled(pa.table({"account_id": empty}), 0.3)) == 0
