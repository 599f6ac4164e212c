from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from serve.jobs.checkpoint import Checkpoint, Cost, JudgeDone, ReadDone, SliceCount

JOB = {"input": [["a.jsonl", 5, 7]], "bundle": "b1"}
COST = Cost({"read": 0.5}, "host:1", 100)


def read_done(folder: Path, index: int) -> ReadDone:
    name = f"spill-{index}"
    (folder / name).write_text("data")
    files = {name: hashlib.sha256(b"data").hexdigest()}
    return ReadDone(index, (SliceCount("a.jsonl", 3, 2, {"not JSON": 1}),), (1, 0), 0, files, COST)


def begin(folder: Path) -> tuple[ReadDone, ReadDone, JudgeDone]:
    with Checkpoint.open(folder, JOB, resume=False) as work:
        done = read_done(folder, 0), read_done(folder, 1), JudgeDone(0, 1, 1, 1, 0, 0, {}, COST)
        for entry in done:
            work.add(entry)
    return done


def test_what_is_done_is_remembered_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    done = begin(folder)
    with Checkpoint.open(folder, JOB, resume=True) as work:
        assert work.done == done
        assert work.processes == {}


def test_a_torn_line_and_a_lost_or_cut_file_are_done_again(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    first, _, judged = begin(folder)
    (folder / "spill-1").write_text("cut")
    with (folder / "manifest.jsonl").open("a") as manifest:
        manifest.write('{"kind": "read", "ind')
    for _ in range(2):
        with Checkpoint.open(folder, JOB, resume=True) as work:
            assert work.done == (first, judged)


def test_without_resume_nothing_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    begin(folder)
    with Checkpoint.open(folder, JOB, resume=False) as work:
        assert work.done == ()
    assert sorted(entry.name for entry in folder.iterdir()) == ["job.json", "lock"]


def test_another_job_can_not_go_on(tmp_path: Path) -> None:
    begin(tmp_path / "work")
    with pytest.raises(ValueError, match="was begun with another bundle: run without --resume"):
        Checkpoint.open(tmp_path / "work", JOB | {"bundle": "b2"}, resume=True)


def test_two_jobs_can_not_share_a_folder(tmp_path: Path) -> None:
    with (
        Checkpoint.open(tmp_path / "work", JOB, resume=False),
        pytest.raises(ValueError, match="another job is at work there"),
    ):
        Checkpoint.open(tmp_path / "work", JOB, resume=True)


def test_a_strange_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    with pytest.raises(ValueError, match="is in the way"):
        Checkpoint.open(tmp_path / "work", JOB, resume=False)
    assert (tmp_path / "work" / "thesis.txt").exists()


def test_a_job_that_ended_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    begin(folder)
    with Checkpoint.open(folder, json.loads(json.dumps(JOB)), resume=True) as work:
        work.remove()
    assert not folder.exists()


def test_a_changed_file_of_the_same_size_is_done_again(tmp_path: Path) -> None:
    first, _, judged = begin(tmp_path / "work")
    (tmp_path / "work" / "spill-1").write_text("dada")
    with Checkpoint.open(tmp_path / "work", JOB, resume=True) as work:
        assert work.done == (first, judged)


def test_a_changed_count_is_done_again(tmp_path: Path) -> None:
    _, second, judged = begin(tmp_path / "work")
    manifest = tmp_path / "work" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"n_rows": 2', '"n_rows": 3', 1))
    with Checkpoint.open(tmp_path / "work", JOB, resume=True) as work:
        assert work.done == (second, judged)


@pytest.mark.parametrize("content", ["[]", "{", "[" * 100_000, '"' + "x" * 10])
def test_a_broken_job_file_is_refused(tmp_path: Path, content: str) -> None:
    begin(tmp_path / "work")
    (tmp_path / "work" / "job.json").write_text(content)
    with pytest.raises(ValueError, match="run without --resume"):
        Checkpoint.open(tmp_path / "work", JOB, resume=True)


def test_only_the_owner_reads_the_folder(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir(mode=0o755)
    (tmp_path / "work" / "lock").touch()
    with Checkpoint.open(tmp_path / "work", JOB, resume=False):
        assert (tmp_path / "work").stat().st_mode & 0o777 == 0o700


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    begin(tmp_path / "elsewhere")
    (tmp_path / "work").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is a link"):
        Checkpoint.open(tmp_path / "work", JOB, resume=False)


def test_a_job_that_did_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Checkpoint.open(tmp_path / "work", JOB, resume=False):
        raise ZeroDivisionError
    assert not (tmp_path / "work").exists()
