from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.io.log_files import json_records
from serve.io.log_files.files import Log
from serve.io.log_files.opening import LogError

ROWS = [{"a": 1, "text": "eins"}, {"a": 2, "text": "zwei\r\n\u2028drei"}, {"a": 3, "text": "四"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def read(path):
    return [record.value if not record.fault else record.fault for record in Log(path).records()]


@pytest.mark.parametrize(
    "data",
    [
        LINES.encode(),
        LINES.replace("\n", "\r\n").encode(),
        LINES.replace("\n", "\r").encode(),
        b"\xef\xbb\xbf" + LINES.encode(),
        LINES.encode("utf-16"),
        LINES.encode("utf-16-le"),
        LINES.encode("utf-16-be"),
        gzip.compress(LINES.encode(), mtime=0),
        gzip.compress(LINES[:20].encode(), mtime=0) + gzip.compress(LINES[20:].encode(), mtime=0),
        pa.compress(LINES.encode(), codec="zstd", asbytes=True),
        json.dumps(ROWS).encode(),
        json.dumps(ROWS, indent=1).encode(),
        json.dumps({"data": ROWS, "meta": {"page": 1}}).encode(),
        json.dumps({"meta": {"page": 1}, "data": ROWS}, indent=2).encode(),
        json.dumps({"data": ROWS}, indent=2).encode(),
        "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
        "".join(json.dumps(row) for row in ROWS).encode(),
        (json.dumps(ROWS[:2]) + "\n" + json.dumps(ROWS[2:])).encode(),
    ],
)
def test_every_layout_gives_the_same_rows(tmp_path, data):
    path = tmp_path / "log.bin"
    path.write_bytes(data)
    assert read(path) == ROWS


def test_parquet_by_content(tmp_path):
    path = tmp_path / "log.jsonl"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    assert read(path) == ROWS


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_csv(tmp_path, mark):
    path = tmp_path / "log"
    path.write_text(f'a{mark}text\n1{mark}"one\nand ""two"""\n2{mark}x{mark}too many\n\n3{mark}y\n')
    assert read(path) == [{"a": "1", "text": 'one\nand "two"'}, "has 3 fields, expected 2", {"a": "3", "text": "y"}]


@pytest.mark.parametrize("header", ["Who Is It,the text,At = When?", ",user,text", "cost ($),100 %,#!"])
def test_csv_may_have_columns_of_any_name(tmp_path, header):
    path = tmp_path / "log"
    path.write_text(f"{header}\n0,u1,hello\n")
    assert Log(path).kind == "csv"
    assert read(path) == [dict(zip(header.split(","), ["0", "u1", "hello"], strict=True))]


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)])
def test_empty(tmp_path, data):
    path = tmp_path / "log"
    path.write_bytes(data)
    assert Log(path).kind == "empty"
    assert read(path) == []


def test_faults_are_counted_and_the_rest_is_read(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b'{"a": 1}\n{"a": "cut...(truncated)\n\n{"a": "\xff"}\n{"a": 2}\n')
    assert read(path) == [{"a": 1}, json_records.NOT_JSON, json_records.NOT_UTF8, {"a": 2}]
    assert [record.line for record in Log(path).records()] == [1, 2, 4, 5]


def test_cut_array_gives_what_is_whole(tmp_path):
    path = tmp_path / "log"
    path.write_text(json.dumps(ROWS, indent=1)[:-20])
    assert read(path) == [*ROWS[:2], json_records.NOT_JSON]


def test_pretty_values_with_a_broken_one_go_on(tmp_path):
    path = tmp_path / "log"
    path.write_text('{\n "a": 1\n}\n{\n "a": oops\n}\n{\n "a": 3\n}\n')
    assert read(path) == [{"a": 1}, json_records.NOT_JSON, {"a": 3}]


def test_array_beyond_one_block_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(json_records, "_BLOCK_CHARS", 64)
    path = tmp_path / "log"
    rows = [{"a": index, "text": "x" * (index * 7 % 200)} for index in range(200)]
    path.write_text(json.dumps(rows))
    assert read(path) == rows


def test_faults_of_files_name_them_and_quote_nothing(tmp_path):
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(b'{"a": "secret"}\n' * 5000)[:-20])
    with pytest.raises(LogError, match=r"cut\.gz: can't be read") as caught:
        read(path)
    assert "secret" not in str(caught.value)
    with pytest.raises(LogError, match="can't be opened"):
        read(tmp_path / "missing")


def test_deep_and_huge_values_are_faults_or_read(tmp_path):
    path = tmp_path / "log"
    path.write_text('{"a": 1}\n' + "[" * 100_000 + "\n" + '{"a": ' + "9" * 5000 + "}\n")
    assert read(path)[:2] == [{"a": 1}, json_records.NOT_JSON]
    assert len(read(path)) == 3


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_a_traceback(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "log"
    path.write_bytes(data)
    try:
        log = Log(path)
        list(log.records())
        _ = log.sample
    except LogError:
        pass


@pytest.mark.parametrize(
    "data",
    [LINES.encode() * 200, json.dumps(ROWS * 200).encode(), gzip.compress(LINES.encode(), mtime=0)],
    ids=["lines", "array", "gzip"],
)
def test_a_watcher_hears_how_far_a_file_is_read(tmp_path, data):
    path = tmp_path / "log"
    path.write_bytes(data)
    heard = []
    assert len(list(Log(path, heard.append).records())) % 3 == 0
    assert heard == sorted(heard)
    assert 0 < heard[-1] <= len(data)
