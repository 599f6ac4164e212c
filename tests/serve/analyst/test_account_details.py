from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from serve.analyst.account_details import account_details, accounts_of, depths
from serve.scoring.accounts import suspects
from serve.scoring.scorer import Scorer
from serve.scoring.verdict import Verdicts
from serve.scoring.verdict_files import read_verdicts
from serve.sessions.records import Session, Sessions
from serve.sessions.size_classes import size_class


@pytest.fixture
def verdicts(tmp_path: Path, sessions: tuple[Session, ...], tiny_scorer: Scorer) -> Verdicts:
    pq.write_table(tiny_scorer.judge(Sessions.of(sessions), explain_all=True).table(), tmp_path / "v.parquet")
    return read_verdicts(tmp_path / "v.parquet")


def test_suspects_are_flagged_or_have_a_flagged_session_clearest_first(verdicts: Verdicts) -> None:
    everyone = accounts_of(verdicts, fpr=0.05)
    found = suspects(everyone, 1000).to_pylist()
    flagged = {name for name, f in zip(verdicts.account_ids, verdicts.is_flagged, strict=True) if f}
    flagged |= {row["account_id"] for row in everyone.to_pylist() if row["label"] == "harvesting"}
    assert {row["account_id"] for row in found} == flagged
    assert [row["p_value"] for row in found] == sorted(row["p_value"] for row in found)
    assert suspects(everyone, 1).to_pylist() == found[:1]


def test_details_are_of_the_clearest_session(verdicts: Verdicts, tiny_scorer: Scorer) -> None:
    rows = accounts_of(verdicts, fpr=0.05)
    for own in account_details(rows, verdicts, {"coding": "Coding"}, tiny_scorer.bundle, None):
        mine = [index for index, name in enumerate(verdicts.account_ids) if name == own.account_id]
        assert own.verdict.p_value == min(verdicts.p_value[mine])
        assert own.max_score == max(verdicts.score[mine])
        assert len(own.scores) == own.n_sessions == len(mine)
        assert sum(line.share for line in own.areas) == pytest.approx(1.0)
        names = list(tiny_scorer.bundle.manifest["features"])
        size = size_class(np.array([own.verdict.n_exchanges]))[0]
        for line in own.areas:
            if line.title == "Coding":
                band = tiny_scorer.bundle.reference[size, names.index("area.coding")].tolist()
                assert [line.low, line.high] == band
                assert line.is_outside == (line.share > band[1])


def test_without_the_bundle_there_is_no_benign_range(verdicts: Verdicts) -> None:
    for own in account_details(accounts_of(verdicts, fpr=0.05), verdicts, {}, None, None):
        assert all(line.low is None and line.high is None and not line.is_outside for line in own.areas)


def test_few_are_told_from_none() -> None:
    assert depths(np.array([0, 1, 100])).tolist() == [0.0, 0.1, 1.0]
    assert depths(np.zeros(2, np.int64)).tolist() == [0.0, 0.0]
