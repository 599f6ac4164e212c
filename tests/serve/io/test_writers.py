from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.io import writers as outputs
from serve.io.writers import check_places, check_suffix, join, replacing, writing

SCHEMA = pa.schema([
    ("name", pa.string()), ("at", pa.timestamp("ms", tz="UTC")), ("shares", pa.map_(pa.string(), pa.float64())),
])  # fmt: skip
MOMENT = datetime(2026, 2, 3, 12, 0, 0, 250_000, tzinfo=UTC)


def table(*names: str) -> pa.Table:
    return pa.table([list(names), [MOMENT] * len(names), [[("coding", 0.5)]] * len(names)], schema=SCHEMA)


def test_json_lines_have_iso_times_and_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with writing(path, SCHEMA) as writer:
        writer.add(table("ä", "b"))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {"name": "ä", "at": "2026-02-03T12:00:00.250Z", "shares": {"coding": 0.5}}
    assert len(lines) == 2


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_joined_parts_are_the_same_however_they_were_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(outputs, "ROWS_PER_GROUP", 4)
    names = [f"n{index}" for index in range(10)]
    wholes = []
    for step in (1, 3, 10):
        parts = []
        for start in range(0, 10, step):
            parts.append(tmp_path / f"{step}-{start}{suffix}")
            with writing(parts[-1], SCHEMA) as writer:
                writer.add(table(*names[start : start + step]))
        join(tmp_path / f"whole{suffix}", parts, SCHEMA)
        wholes.append((tmp_path / f"whole{suffix}").read_bytes())
    assert wholes[0] == wholes[1] == wholes[2]
    if suffix == ".parquet":
        assert pq.read_table(tmp_path / "whole.parquet").column("name").to_pylist() == names


def write_half(path: Path) -> None:
    with replacing(path) as part:
        part.write_text("half")
        raise OSError("full")


def test_nothing_is_there_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("old")
    with pytest.raises(OSError, match="full"):
        write_half(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jsonl"]


def test_no_rows_are_a_file_with_columns(tmp_path: Path) -> None:
    join(tmp_path / "a.parquet", [], SCHEMA)
    assert pq.read_table(tmp_path / "a.parquet").schema == SCHEMA


def test_a_name_must_say_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"a\.csv: output file must end in \.parquet or \.jsonl"):
        check_suffix(Path("a.csv"))


@pytest.mark.parametrize(
    ("outputs", "inputs", "said"),
    [
        (("log.jsonl",), ("log.jsonl",), "output file lies in the input"),
        (("logs/out.jsonl",), ("logs",), "output file lies in the input"),
        (("a.jsonl", "./a.jsonl"), ("log.jsonl",), "two outputs have the same name"),
        (("logs",), ("log.jsonl",), "is a folder"),
        (("gone/a.jsonl",), ("log.jsonl",), "there is no folder"),
    ],
)
def test_outputs_that_would_be_lost_or_lose_an_input_are_refused(
    tmp_path: Path, outputs: tuple[str, ...], inputs: tuple[str, ...], said: str
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "log.jsonl").write_text("{}")
    with pytest.raises(ValueError, match=said):
        check_places([tmp_path / name for name in outputs], [tmp_path / name for name in inputs])
