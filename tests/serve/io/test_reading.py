from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.io import jsonl as lines
from serve.io.discovery import InputError, discover, plan
from serve.io.reading import read, select_session
from serve.io.timestamps import UNREADABLE
from serve.io.validation import CUT, REPLACED, SCHEMA, Batch
from serve.sessions.prompt_text import MAX_PROMPT_CHARS
from serve.sessions.records import text_fault

GOOD = {"account_id": "a1", "prompt": "how do I bake bread?"}
SECRET = "canary-7f3a"

BAD_LINES: dict[bytes, str] = {
    b"{": "not JSON",
    b"[" * 100_000: "not JSON",
    b'{"account_id": "a1", "prompt": "' + SECRET.encode() + b'\xff"}': "not UTF-8",
    b"[1]": "not a JSON object",
    b"null": "not a JSON object",
    b'{"prompt": "x"}': "account_id is missing",
    b'{"account_id": null, "prompt": "x"}': "account_id is missing",
    b'{"account_id": " ", "prompt": "x"}': "account_id is missing",
    b'{"account_id": true, "prompt": "x"}': "account_id is of type bool, expected str",
    b'{"account_id": "a1", "prompt": "x", "prompt": "y"}': "a key comes twice",
    b'{"account_id": "a1", "prompt": "x", "pr\\u006fmpt": "y"}': "a key comes twice",
    b'{"account_id": "a1"}': "prompt is missing",
    b'{"account_id": "a1", "prompt": ["x"]}': "prompt is of type list, expected str",
    b'{"account_id": "a1", "prompt": " \\u2003\\n"}': "prompt is blank",
    b'{"account_id": "a1", "prompt": "x", "session_id": [3]}': "session_id is of type list, expected str",
}


def batches(path: Path, n_bytes: int = 1 << 30) -> list[Batch]:
    return [batch for share in plan(discover([path]).sources, n_bytes) for part in share for batch in read(part)]


def rows(found: list[Batch]) -> list[dict[str, Any]]:
    return [row for batch in found for row in batch.table.to_pylist()]


def rejects(found: list[Batch]) -> dict[int, str]:
    return {line: reason for batch in found for line, reason in batch.rejects.items()}


def write(path: Path, *entries: bytes | dict[str, Any], end: bytes = b"\n") -> Path:
    path.write_bytes(end.join(entry if isinstance(entry, bytes) else json.dumps(entry).encode() for entry in entries))
    return path


def test_a_row_is_read_with_all_its_columns_and_strangers_are_ignored(tmp_path: Path) -> None:
    row = {"account_id": "a1", "session_id": "s1", "at": 5.0, "prompt": "grüß dich 🙂"}
    found = batches(write(tmp_path / "a.jsonl", row | {"system": "tools", "label": {"x": [1]}}, GOOD))
    assert rows(found)[0] == row
    assert rows(found)[1]["session_id"] is None
    assert found[0].table.schema == SCHEMA


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.items(), ids=BAD_LINES.values())
def test_a_bad_line_is_a_reject_with_its_number_and_the_others_are_read(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    found = batches(write(tmp_path / "a.jsonl", GOOD, b"", line, GOOD))
    assert rejects(found) == {3: reason}
    assert len(rows(found)) == 2
    assert (sum(batch.n_rows for batch in found), sum(batch.n_lines for batch in found)) == (3, 4)
    assert SECRET not in str(rejects(found))


def test_line_ends_marks_and_a_last_line_without_end_are_no_matter(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD, GOOD, GOOD, end=b"\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(rows(batches(path))) == 3
    assert rejects(batches(path)) == {}


@pytest.mark.parametrize(
    ("given_id", "read_as"),
    [("", None), (" ", None), (None, None), (7, "7"), (" s ", "s"), ("e\u0301", "é"), ("a\ud800", "a\ufffd")],
)
def test_ids_are_texts_without_blanks_around_them(tmp_path: Path, given_id: object, read_as: str | None) -> None:
    found = rows(batches(write(tmp_path / "a.jsonl", GOOD | {"session_id": given_id}, GOOD | {"session_id": "x"})))
    assert found[0]["session_id"] == read_as


@pytest.mark.parametrize(
    ("prompt", "stored", "note"),
    [
        ("x\0", "x\ufffd", REPLACED), ("x \udc00", "x \ufffd", REPLACED), ("\0 \udc00", "\ufffd \ufffd", REPLACED),
        ("y" * (MAX_PROMPT_CHARS + 1), "y" * 75_000 + " " + "y" * 24_999, CUT),
    ],
    ids=["nul", "surrogate", "both", "long"],
)  # fmt: skip
def test_no_prompt_is_left_out_for_its_characters_or_length(
    tmp_path: Path, prompt: str, stored: str, note: str
) -> None:
    pq.write_table(
        pa.table({"account_id": ["a1"], "prompt": pa.array([prompt.encode(errors="surrogatepass")])}),
        tmp_path / "a.parquet",
    )
    for path in (write(tmp_path / "a.jsonl", GOOD | {"prompt": prompt}), tmp_path / "a.parquet"):
        found = batches(path)
        assert rejects(found) == {}
        assert re.sub("\ufffd+", "\ufffd", rows(found)[0]["prompt"]) == stored
        assert +found[0].notes == {note: 1}


def test_an_unreadable_time_keeps_its_prompt(tmp_path: Path) -> None:
    found = batches(write(tmp_path / "a.jsonl", GOOD | {"at": "noon"}, GOOD | {"at": math.nan}, GOOD | {"at": 5}))
    assert [math.isnan(row["at"]) for row in rows(found)] == [True, True, False]
    assert +found[0].notes == {UNREADABLE: 2}


def test_what_nobody_reads_is_no_matter(tmp_path: Path) -> None:
    deep = json.dumps(GOOD)[:-1].encode() + b', "z": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    long = json.dumps(GOOD)[:-1].encode() + b', "n": ' + b"9" * 5000 + b"}"
    found = batches(write(tmp_path / "a.jsonl", deep, long))
    assert rejects(found) == {}
    assert len(rows(found)) == 2


@given(
    st.integers(1, 60), st.lists(st.sampled_from([*list(BAD_LINES)[:1], b"", json.dumps(GOOD).encode()]), max_size=12)
)
def test_lines_keep_their_numbers_however_a_file_is_cut(tmp_path: Path, n_bytes: int, entries: list[bytes]) -> None:
    path = write(tmp_path / "a.jsonl", *entries)
    parts = [part for share in plan(discover([path]).sources, n_bytes) for part in share]
    n_before, found = 0, []
    for part in parts:
        own = list(read(part))
        found += [n_before + line for batch in own for line in batch.rejects]
        n_before += sum(batch.n_lines for batch in own)
    assert found == [number for number, entry in enumerate(entries, 1) if entry == b"{"]


def test_a_line_beyond_the_limit_is_one_reject_and_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 64)
    found = batches(write(tmp_path / "a.jsonl", GOOD, b'{"prompt": "' + b"x" * 10_000 + b'"}', GOOD))
    assert rejects(found) == {2: "line is longer than 16 MiB"}
    assert len(rows(found)) == 2


@pytest.mark.parametrize("n_cut", [5, 200])
def test_truncated_gzip_is_said_and_what_came_before_was_read(tmp_path: Path, n_cut: int) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(
        gzip.compress(b"".join(json.dumps(GOOD | {"at": at}).encode() + b"\n" for at in range(5000)))[:-n_cut]
    )
    with pytest.raises(InputError, match=r"a\.jsonl\.gz: can't be read beyond line \d+: Compressed file ended"):
        batches(path)


def test_gzip_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jsonl\.gz: can't be read beyond line 0: Not a gzipped file"):
        batches(write(tmp_path / "a.jsonl.gz", GOOD))


def test_a_file_that_shrinks_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD, GOOD)
    ((part,),) = plan(discover([path]).sources, 1 << 20)
    write(path, GOOD)
    with pytest.raises(InputError, match=r"a\.jsonl: is \d+ bytes shorter than when the job began"):
        list(read(part))


def test_a_file_that_vanishes_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD)
    ((part,),) = plan(discover([path]).sources, 1 << 20)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.jsonl: can't be read beyond line 0: No such file or directory"):
        list(read(part))


# Parquet

TEXT_TYPES: tuple[Callable[[pa.Array], pa.Array], ...] = (
    lambda array: array,
    lambda array: array.cast(pa.large_string()),
    lambda array: array.cast(pa.binary()),
    lambda array: array.dictionary_encode(),
)


@pytest.mark.parametrize("cast", TEXT_TYPES)
def test_every_kind_of_text_column_is_read(tmp_path: Path, cast: Callable[[pa.Array], pa.Array]) -> None:
    accounts, prompts = pa.array(["a1", "a1", "a2"]), pa.array(["x", "🙂", "z"])
    pq.write_table(pa.table({"account_id": cast(accounts), "prompt": cast(prompts)}), tmp_path / "a.parquet")
    found = rows(batches(tmp_path / "a.parquet"))
    assert [(row["account_id"], row["prompt"]) for row in found] == [("a1", "x"), ("a1", "🙂"), ("a2", "z")]


def test_bad_rows_of_a_column_are_rejects_with_their_number(tmp_path: Path) -> None:
    prompts = [b"fine", b"\xff" + SECRET.encode(), None, b" ", b"fine", b"fine"]
    table = pa.table({
        "account_id": pa.array([b"a", b"a", b"a", b"a", None, b"\xff"], pa.binary()),
        "prompt": pa.array(prompts, pa.binary()),
        "at": pa.array([1.0] * 5 + [float("nan")]),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    found = rejects(batches(tmp_path / "a.parquet"))
    assert found == {
        3: "prompt is missing", 4: "prompt is blank", 5: "account_id is missing", 6: "account_id is not UTF-8",
    }  # fmt: skip
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": ["x"]}, "has no column account_id, expected account_id and prompt"),
        ({"account_id": ["x"]}, "has no column prompt, expected account_id and prompt"),
        ({"account_id": [1.5], "prompt": ["x"]}, "column account_id is double, expected string"),
        ({"account_id": ["a"], "prompt": [["x"]]}, "column prompt is list"),
        ({"account_id": ["a"], "prompt": ["x"], "at": [True]}, "column at is bool"),
    ],
)
def test_columns_that_can_not_be_exchanges_are_said(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=rf"a\.parquet: {message}"):
        batches(tmp_path / "a.parquet")


def test_a_corrupt_row_group_is_said_after_the_good_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"account_id": ["a"] * 2000, "prompt": [f"prompt {index * 7919 % 2000}" for index in range(2000)]})
    pq.write_table(table, path, row_group_size=1000, write_page_checksum=True, use_dictionary=False)
    data = bytearray(path.read_bytes())
    middle = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset + 60
    data[middle : middle + 40] = b"\x55" * 40
    path.write_bytes(bytes(data))
    ((part,),) = plan(discover([path]).sources, 1 << 20)
    found = read(part)
    assert next(found).table.num_rows == 1000
    with pytest.raises(InputError, match=r"a\.parquet: row group 1 can't be read"):
        list(found)


def test_a_column_may_come_from_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "account_id=a 9"
    folder.mkdir()
    pq.write_table(pa.table({"prompt": ["x"]}), folder / "a.parquet")
    write(folder / "b.jsonl", {"prompt": "y"}, {"prompt": "z", "account_id": "own"})
    found = [row for path in sorted(folder.iterdir()) for row in rows(batches(path))]
    assert [row["account_id"] for row in found] == ["a 9", "a 9", "own"]


@given(st.text(max_size=30))
def test_the_vectorised_check_agrees_with_the_door_of_sessions(tmp_path: Path, text: str) -> None:
    found = batches(write(tmp_path / "a.jsonl", {"account_id": "a1", "prompt": text}))
    assert rejects(found).get(1) == text_fault(text)


def test_select_finds_given_and_made_up_ids(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", GOOD, GOOD | {"session_id": "s1"}, GOOD | {"account_id": "a2", "session_id": "s1"}, b"{"
    )
    sources = discover([path]).sources
    assert select_session(sources, "s1").table.num_rows == 2
    assert select_session(sources, "s1-3").table.num_rows == 2
    made_up = select_session(sources, "a1/untimed")
    assert (made_up.table.num_rows, made_up.n_rejected) == (1, 1)
