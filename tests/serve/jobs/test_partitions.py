from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from serve.io.validation import SCHEMA
from serve.jobs import partitions as module
from serve.jobs.partitions import Spill, partition_of, read_partition
from serve.sessions.sessionizing import text_hashes

N_PARTITIONS = 7


def table(n_rows: int, first: int = 0) -> pa.Table:
    rows = range(first, first + n_rows)
    return pa.table(
        [[f"a{row % 50}" for row in rows], [None] * n_rows, [float(row) for row in rows], [f"p{row}" for row in rows]],
        schema=SCHEMA,
    )


@pytest.mark.parametrize("run_bytes", [1, 5_000, 1 << 30])
def test_every_row_comes_back_once_in_order_with_its_whole_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_bytes: int
) -> None:
    monkeypatch.setattr(module, "_RUN_BYTES", run_bytes)
    with (
        Spill(tmp_path / "1", n_partitions=N_PARTITIONS) as one,
        Spill(tmp_path / "2", n_partitions=N_PARTITIONS) as two,
    ):
        for first in range(0, 600, 200):
            one.add(table(200, first))
        two.add(table(100, 600))
        two.add(table(0))
    parts = [read_partition([tmp_path / "1", tmp_path / "2"], index, N_PARTITIONS) for index in range(N_PARTITIONS)]
    assert sorted(at for part in parts for at in part.column("at").to_pylist()) == [float(row) for row in range(700)]
    assert all(part.column("at").to_pylist() == sorted(part.column("at").to_pylist()) for part in parts)
    owners = [set(part.column("account_id").to_pylist()) for part in parts]
    assert sum(map(len, owners)) == len(set().union(*owners)) == 50
    assert (one.n_kept + two.n_kept).tolist() == [part.num_rows for part in parts]


def test_partitions_are_ranges_of_hashes() -> None:
    hashes = np.sort(text_hashes(pa.array([f"a{index}" for index in range(1000)])))
    parts = partition_of(hashes, N_PARTITIONS)
    assert (np.diff(parts) >= 0).all()
    assert np.bincount(parts).min() > 100


def test_a_sample_keeps_whole_accounts_and_a_larger_one_holds_a_smaller(tmp_path: Path) -> None:
    kept = []
    for sample in (0.2, 0.5):
        with Spill(tmp_path / "spill", n_partitions=1, sample=sample) as spill:
            spill.add(table(500))
        part = read_partition([tmp_path / "spill"], 0, 1)
        owners = part.column("account_id").to_pylist()
        assert all(owners.count(owner) == 10 for owner in owners)
        assert spill.n_left_out + len(owners) == 500
        kept.append(set(owners))
    assert set() < kept[0] < kept[1]
