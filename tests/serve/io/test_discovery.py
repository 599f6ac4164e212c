from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.io.discovery import InputError, discover, plan


def write_lines(path: Path, n: int, width: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{index:0{width}d}\n" for index in range(n)))
    return path


def test_files_of_folders_come_by_name_and_strangers_are_counted(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/z.ndjson", "a/c.jsonl", "notes.txt", "_SUCCESS", ".hidden.jsonl", "_old.work/x.jsonl"):
        write_lines(tmp_path / name, 1)
    found = discover([tmp_path])
    assert [Path(source.path).relative_to(tmp_path).as_posix() for source in found.sources] == [
        "a/c.jsonl", "a/z.ndjson", "b.jsonl",
    ]  # fmt: skip
    assert found.n_ignored == 1


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", 1)
    (tmp_path / "link.jsonl").symlink_to(path)
    assert len(discover([path, tmp_path, path]).sources) == 1


def test_folders_may_name_columns(tmp_path: Path) -> None:
    write_lines(tmp_path / "day=2026-02-03" / "account_id=a%2F1" / "x.jsonl", 1)
    assert discover([tmp_path]).sources[0].fixed == (("account_id", "a/1"),)


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none doesn't exist"):
        discover([tmp_path / "none"])
    with pytest.raises(InputError, match=r"no file ends with \.jsonl"):
        discover([tmp_path])
    with pytest.raises(InputError, match=r"notes\.txt: exchanges are read from files that end with \.jsonl"):
        discover([write_lines(tmp_path / "notes.txt", 1)])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(1, 50), st.booleans())
def test_ranges_of_lines_cut_no_line_and_lose_none(
    tmp_path: Path, lengths: list[int], n_bytes: int, ends: bool
) -> None:
    data = b"\n".join(b"x" * length for length in lengths) + (b"\n" if ends else b"")
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    parts = [part for share in plan(discover([path]).sources, n_bytes) for part in share]
    assert b"".join(data[part.start : part.stop] for part in parts) == data
    assert all(part.start == 0 or data[part.start - 1 : part.start] == b"\n" for part in parts)


def test_many_small_files_share_a_task_and_a_large_one_has_several(tmp_path: Path) -> None:
    for index in range(10):
        write_lines(tmp_path / f"{index}.jsonl", 10)
    write_lines(tmp_path / "large.jsonl", 100)
    shares = plan(discover([tmp_path]).sources, 400)
    assert [len(share) for share in shares] == [3, 3, 3, 1, 1, 1, 1]


def test_row_groups_are_shared_out_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": list(range(100))}), path, row_group_size=10)
    parts = [part for share in plan(discover([path]).sources, 250) for part in share]
    assert [parts[0].start, parts[-1].stop] == [0, 10]
    assert [part.stop for part in parts[:-1]] == [part.start for part in parts[1:]]
    assert len(parts) > 1


def test_a_gzip_file_is_one_part(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"x\n" * 10_000))
    assert len(plan(discover([path]).sources, 10)) == 1


def test_a_parquet_file_that_is_none_is_said(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.parquet", 3)
    with pytest.raises(InputError, match=r"a\.parquet: Parquet magic bytes not found"):
        plan(discover([path]).sources, 100)
