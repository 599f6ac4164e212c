"""Label files are read as they were written, and part traffic into what is benign and what was confirmed."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from serve.adaptation.label_files import Label, csv_lines, json_lines, part, read_labels
from serve.io.discovery import InputError

HOSTILE = '=HYPERLINK("http://x.example";"\u202eclick")'
LABELS = (
    Label("a1", "s1", "confirmed", "ann", 1.0, HOSTILE),
    Label(HOSTILE, "-1+1", "cleared"),
    Label("a2", "s2", "escalated"),
)


def test_json_lines_are_read_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_text("".join(json_lines(LABELS)))
    assert [(own.account_id, own.session_id, own.state) for own in read_labels(tmp_path / "l.jsonl")] == [
        (own.account_id, own.session_id, own.state) for own in LABELS
    ]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{",
        '{"account_id": "secret"}',
        '{"account_id": 1, "session_id": 2, "state": 3}',
        '{"account_id": "secret", "session_id": "s", "state": "harvesting"}',
    ],
)
def test_what_is_no_label_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text("\n" + line)
    with pytest.raises(InputError, match=r"l\.jsonl:2: is no label") as fault:
        read_labels(path)
    assert "secret" not in str(fault.value)


def test_a_file_without_a_label_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text("\n")
    with pytest.raises(InputError, match=r"l\.jsonl holds no label"):
        read_labels(path)


def test_no_cell_of_a_table_is_a_formula() -> None:
    rows = list(csv.reader(io.StringIO("".join(csv_lines(LABELS)))))
    assert rows[0][:3] == ["account_id", "session_id", "state"]
    assert rows[2][:2] == ["'" + HOSTILE, "'-1+1"]
    assert not [cell for row in rows for cell in row if cell[:1] in set("=+-@\t\r\n")]
    assert [row[-1] for row in rows[1:]] == ["harvesting", "organic", ""]


def test_traffic_is_parted_by_account_and_session(tmp_path: Path) -> None:
    rows = [
        {"account_id": account, "session_id": session, "prompt": f"{account} {session} {turn}"}
        for account, session in (
            ("a1", "s1"),
            ("a1", "other"),
            ("a2", "s2"),
            ("a2", "s3"),
            ("a3", "s1"),
            (HOSTILE, "-1+1"),
        )
        for turn in range(2)
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "no row\n")
    found = part([tmp_path / "in.jsonl"], LABELS, tmp_path)
    assert (found.n_left_out, found.n_rows, found.n_rejected) == (1, 13, 1)
    assert found.harvesting is not None
    assert pq.read_table(found.harvesting).column("prompt").to_pylist() == ["a1 s1 0", "a1 s1 1"]
    benign = pq.read_table(found.benign)
    assert set(benign.column("account_id").to_pylist()) == {"a3", HOSTILE}
    assert benign.column("at").to_pylist() == [None] * 4
    assert part([tmp_path / "in.jsonl"], LABELS[1:], tmp_path).harvesting is None
