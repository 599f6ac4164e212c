from __future__ import annotations

import json
from pathlib import Path

import pytest

from serve.jobs.checkpoint import Cost, JudgeDone, ReadDone, SliceCount, Work

JOB = {"input": [["a.jsonl", 5, 7]], "bundle": "b1"}
COST = Cost({"read": 0.5}, "host:1", 100)


def read_done(folder: Path, index: int) -> ReadDone:
    name = f"spill-{index}"
    (folder / name).write_text("data")
    return ReadDone(index, (SliceCount("a.jsonl", 3, 2, {"not JSON": 1}),), (1, 0), 0, {name: 4}, COST)


def begin(folder: Path) -> tuple[ReadDone, ReadDone, JudgeDone]:
    with Work.open(folder, JOB, resume=False) as work:
        done = read_done(folder, 0), read_done(folder, 1), JudgeDone(0, 1, 1, 1, 0, 0, {}, COST)
        for entry in done:
            work.add(entry)
    return done


def test_what_is_done_is_remembered_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    done = begin(folder)
    with Work.open(folder, JOB, resume=True) as work:
        assert work.done == done
        assert work.processes == {}


def test_a_torn_line_and_a_lost_or_cut_file_are_done_again(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    first, _, judged = begin(folder)
    (folder / "spill-1").write_text("cut")
    with (folder / "manifest.jsonl").open("a") as manifest:
        manifest.write('{"kind": "read", "ind')
    for _ in range(2):
        with Work.open(folder, JOB, resume=True) as work:
            assert work.done == (first, judged)


def test_without_resume_nothing_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    begin(folder)
    with Work.open(folder, JOB, resume=False) as work:
        assert work.done == ()
    assert sorted(entry.name for entry in folder.iterdir()) == ["job.json", "lock"]


def test_another_job_can_not_go_on(tmp_path: Path) -> None:
    begin(tmp_path / "work")
    with pytest.raises(ValueError, match="was begun with another bundle: run without --resume"):
        Work.open(tmp_path / "work", JOB | {"bundle": "b2"}, resume=True)


def test_two_jobs_can_not_share_a_folder(tmp_path: Path) -> None:
    with (
        Work.open(tmp_path / "work", JOB, resume=False),
        pytest.raises(ValueError, match="another job is at work there"),
    ):
        Work.open(tmp_path / "work", JOB, resume=True)


def test_a_strange_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    with pytest.raises(ValueError, match="is in the way"):
        Work.open(tmp_path / "work", JOB, resume=False)
    assert (tmp_path / "work" / "thesis.txt").exists()


def test_a_job_that_ended_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    begin(folder)
    with Work.open(folder, json.loads(json.dumps(JOB)), resume=True) as work:
        work.remove()
    assert not folder.exists()
