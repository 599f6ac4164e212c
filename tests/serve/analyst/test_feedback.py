"""Marks are kept and become labels; the store holds no prompt, the export holds those of marked sessions alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from serve.analyst.feedback import Feedback, Mark, export
from serve.cli import main

MARK = Mark("a1", "s1", "harvesting", "confirmed", 0.9, 0.001, "b")


@pytest.fixture
def exchanges(tmp_path: Path) -> Path:
    rows = [
        {"account_id": f"a{i % 3}", "session_id": f"s{i % 3}", "prompt": f"canary {i}", "at": 1_767_225_600 + i}
        for i in range(9)
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("verdict", "mark", "label"),
    [("harvesting", "confirmed", "harvesting"), ("harvesting", "wrong", "organic"),
     ("organic", "confirmed", "organic"), ("organic", "wrong", "harvesting")],
)  # fmt: skip
def test_a_wrong_verdict_means_the_other_label(verdict: str, mark: str, label: str) -> None:
    assert replace(MARK, verdict=verdict, mark=mark).label == label


@pytest.mark.parametrize(
    "change", [{"mark": "maybe"}, {"verdict": "undecided"}, {"account_id": ""}, {"note": "x" * 501}]
)
def test_other_marks_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"mark|verdict|account_id|note"):
        replace(MARK, **change)


def test_the_last_mark_of_a_session_counts_also_after_closing(tmp_path: Path) -> None:
    hostile = replace(MARK, account_id="'); DROP TABLE marks; --", at=1.0)
    for mark in (replace(MARK, at=2.0), hostile, replace(MARK, mark="wrong", at=3.0)):
        Feedback(tmp_path / "f.db").add(mark)
    assert Feedback(tmp_path / "f.db").marks() == (replace(MARK, mark="wrong", at=3.0), hostile)


def test_a_mark_without_a_time_gets_one(tmp_path: Path) -> None:
    feedback = Feedback(tmp_path / "f.db")
    feedback.add(MARK)
    assert feedback.marks()[0].at > 1_700_000_000


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.db").write_text("no database" * 100)
    with pytest.raises(ValueError, match="store of feedback"):
        Feedback(tmp_path / "f.db")


def test_prompts_of_marked_sessions_are_joined_in_order(exchanges: Path, tmp_path: Path) -> None:
    marks = [MARK, replace(MARK, account_id="a2", session_id="s2", mark="wrong"), replace(MARK, account_id="gone")]
    found = export(marks, [exchanges], tmp_path / "out")
    assert (found.n_sessions, found.n_prompts, found.n_missing) == (
        {"harvesting": 1, "organic": 1}, {"harvesting": 3, "organic": 3}, 1,
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "out" / "feedback_harvesting.jsonl").read_text().splitlines()]
    assert [(row["text"], row["turn"], row["session"]) for row in rows] == [
        ("canary 1", 0, "a1/s1"), ("canary 4", 1, "a1/s1"), ("canary 7", 2, "a1/s1"),
    ]  # fmt: skip


def test_the_command_exports_and_says_what_is_missing(
    exchanges: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "f.db"
    Feedback(store).add(MARK)
    Feedback(store).add(replace(MARK, account_id="gone"))
    assert b"canary" not in store.read_bytes()
    out = tmp_path / "labels"
    assert main(["labels", str(exchanges), "--feedback", str(store), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "1 harvesting session of 3 prompts" in said
    assert "1 marked session has no exchange in these files" in said
    assert f"corpora.described=[{out / 'feedback_harvesting.yaml'}]" in said
    assert main(["labels", str(exchanges), "--feedback", str(tmp_path / "none.db"), "--out", str(out)]) == 2
    assert not (tmp_path / "none.db").exists()
