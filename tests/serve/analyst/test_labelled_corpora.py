"""Decisions become corpora: the export holds the prompts of decided sessions alone, the queue holds none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from serve.adaptation.label_files import Label, json_lines
from serve.analyst.labelled_corpora import export
from serve.analyst.review.cases import Wanted
from serve.analyst.review.queue import ReviewQueue
from serve.cli import main

LABEL = Label("a1", "s1", "confirmed")


@pytest.fixture
def exchanges(tmp_path: Path) -> Path:
    rows = [
        {"account_id": f"a{i % 3}", "session_id": f"s{i % 3}", "prompt": f"canary {i}", "at": 1_767_225_600 + i}
        for i in range(9)
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_prompts_of_decided_sessions_are_joined_in_order(exchanges: Path, tmp_path: Path) -> None:
    labels = [
        LABEL, Label("a2", "s2", "cleared"), Label("a0", "s0", "escalated"), replace(LABEL, account_id="gone"),
    ]  # fmt: skip
    found = export(labels, [exchanges], tmp_path / "out")
    assert (found.n_sessions, found.n_prompts, found.n_missing) == (
        {"harvesting": 1, "organic": 1}, {"harvesting": 3, "organic": 3}, 1,
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "out" / "feedback_harvesting.jsonl").read_text().splitlines()]
    assert [(row["text"], row["turn"], row["session"]) for row in rows] == [
        ("canary 1", 0, "a1/s1"), ("canary 4", 1, "a1/s1"), ("canary 7", 2, "a1/s1"),
    ]  # fmt: skip


def test_the_queue_is_filled_from_verdicts_with_the_accounts_of_flagged_sessions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = Path(__file__).parents[2] / "golden" / "verdicts.jsonl"
    rows = [json.loads(line) for line in golden.read_text().splitlines()]
    for i, row in enumerate(rows):
        row |= {"account_id": f"a{i % 5}", "label": "harvesting" if i % 7 == 0 else "organic"}
    given = tmp_path / "verdicts.jsonl"
    given.write_text("".join(json.dumps(row) + "\n" for row in rows))
    accounts = {row["account_id"] for row in rows if row["label"] == "harvesting"}
    place = str(tmp_path / "r.db")
    for _ in range(2):
        assert main(["queue", str(given), "--review", place]) == 0
    n = sum(row["label"] == "harvesting" for row in rows)
    assert f": {n} flagged session" in capsys.readouterr().out
    queue = ReviewQueue(place)
    assert queue.page(Wanted()).n_found == n == 3
    stored = {(own.account_id, own.session_id) for name in accounts for own in queue.sessions(name)}
    assert stored == {(row["account_id"], row["session_id"]) for row in rows if row["account_id"] in accounts}
    queue.close()


def test_the_command_exports_and_says_what_is_missing(
    exchanges: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.jsonl"
    labels.write_text("".join(json_lines([LABEL, replace(LABEL, account_id="gone")])))
    out = tmp_path / "labels"
    assert main(["labels", str(exchanges), "--labels", str(labels), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "1 harvesting session of 3 prompts" in said
    assert "1 labelled session has no exchange in these files" in said
    assert f"corpora.described=[{out / 'feedback_harvesting.yaml'}]" in said
    assert main(["labels", str(exchanges), "--review", str(tmp_path / "none.db"), "--out", str(out)]) == 2
    assert not (tmp_path / "none.db").exists()
