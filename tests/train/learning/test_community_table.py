from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from serve.model.community_model import FEATURES, CommunityFeatures
from train.learning.community_table import CommunityTable


def table() -> CommunityTable:
    signs = [CommunityFeatures(*(float(row + column) for column in range(len(FEATURES)))) for row in range(4)]
    return CommunityTable.of(
        signs, task_share=np.array([0.9, 0.1, 0.4, 0.1]), harvest_share=np.array([1.0, 0.5, 0.5, 0.9]),
        n_accounts=np.arange(5, 9), source=np.array(["a", "b+c", "", "d"]), dilution=np.array([np.nan, 0.0, 0.5, 0.9]),
        fold=np.arange(4), is_known=np.array([True, False, True, False]),
    )  # fmt: skip


def test_a_table_is_read_as_it_was_written(tmp_path: Path):
    table().save(tmp_path / "deep" / "t.parquet")
    found = CommunityTable.load(tmp_path / "deep" / "t.parquet")
    for name in CommunityTable.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(table(), name))


def test_what_is_shared_tells_campaigns_from_benign_communities():
    assert table().is_campaign.tolist() == [True, False, False, False]
    assert table().is_benign.tolist() == [False, True, False, False]


def test_a_table_of_other_signs_is_refused(tmp_path: Path):
    table().save(tmp_path / "t.parquet")
    pq.write_table(pq.read_table(tmp_path / "t.parquet").drop(["lean", "fold"]), tmp_path / "old.parquet")
    with pytest.raises(ValueError, match=r"old\.parquet has no fold, lean"):
        CommunityTable.load(tmp_path / "old.parquet")
