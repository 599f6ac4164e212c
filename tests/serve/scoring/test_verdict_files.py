"""Verdicts read back are the verdicts that were written, and what is none is refused with its place."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.io.discovery import InputError
from serve.io.writers import writing
from serve.scoring.scorer import Scorer
from serve.scoring.verdict import Verdicts
from serve.scoring.verdict_files import read_verdicts
from serve.sessions.records import Session, Sessions


@pytest.fixture(scope="module")
def judged(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> Verdicts:
    return tiny_scorer.judge(Sessions.of(sessions))


@pytest.fixture(params=[".parquet", ".jsonl"])
def path(request: pytest.FixtureRequest, judged: Verdicts, tmp_path: Path) -> Path:
    path = tmp_path / f"verdicts{request.param}"
    table = judged.table()
    with writing(path, table.schema) as writer:
        writer.add(table)
    return path


def test_what_was_written_is_read(path: Path, judged: Verdicts) -> None:
    ledger = read_verdicts(path)
    assert sorted(ledger.session_ids) == sorted(judged.session_ids)
    for index, session_id in enumerate(ledger.session_ids):
        found, written = ledger.verdict(index), judged.verdict(judged.session_ids.index(session_id))
        for name in ("account_id", "n_exchanges", "started_at", "ended_at", "score", "p_value", "label", "threshold",
                     "reasons", "bundle"):  # fmt: skip
            assert getattr(found, name) == getattr(written, name)
        for name in ("coverage", "area_share"):
            assert {k: v for k, v in getattr(found, name).items() if v} == getattr(written, name)


def test_accounts_lie_together_whatever_the_order(judged: Verdicts, tmp_path: Path) -> None:
    table = judged.table()
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(len(table))))
    pq.write_table(shuffled, tmp_path / "v.parquet")
    accounts = read_verdicts(tmp_path / "v.parquet").account_ids
    changes = sum(one != other for one, other in itertools.pairwise(accounts))
    assert changes == len(set(accounts)) - 1


def test_no_verdict_is_no_fault(judged: Verdicts, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("\n")
    pq.write_table(judged.table().slice(0, 0), tmp_path / "none.parquet")
    for name in ("none.jsonl", "none.parquet"):
        ledger = read_verdicts(tmp_path / name)
        assert len(ledger) == 0
        assert ledger.area_share.shape[0] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": 1.5}, "column score holds numbers that are not from 0 to 1"),
        ({"score": float("nan")}, "column score holds numbers that are not from 0 to 1"),
        ({"label": "guilty"}, "1 other labels than organic, undecided, harvesting"),
        ({"n_exchanges": 0}, "column n_exchanges holds numbers below 1"),
        ({"account_id": None}, "column account_id has 1 nulls"),
        ({"area_share": {"coding": 7.0}}, "column area_share holds shares"),
        ({"p_value": "canary"}, "a value is not of its column's type"),
        ({"coverage": "canary"}, r"v\.jsonl:1: is no row"),
        ({"started_at": "canary"}, r"v\.jsonl:1: is no row"),
    ],
)
def test_what_is_no_verdict_is_refused_with_its_place(
    judged: Verdicts, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    row = judged.table().slice(0, 1).to_pylist(maps_as_pydicts="strict")[0] | {"started_at": None, "ended_at": None}
    path = tmp_path / "v.jsonl"
    path.write_text(json.dumps(row | change) + "\n")
    with pytest.raises(InputError, match=said) as caught:
        read_verdicts(path)
    assert "canary" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"account_id": "a"}\n')
    with pytest.raises(InputError, match=r"v\.jsonl:1: has no session_id, "):
        read_verdicts(tmp_path / "v.jsonl")
    (tmp_path / "v.parquet").write_text("no parquet")
    with pytest.raises(InputError, match=r"v\.parquet: "):
        read_verdicts(tmp_path / "v.parquet")
    for name in ("none.parquet", "none.jsonl"):
        with pytest.raises(InputError, match="is not there"):
            read_verdicts(tmp_path / name)
    with pytest.raises(InputError, match="neither Parquet nor JSON lines"):
        read_verdicts(tmp_path / "v.csv")
