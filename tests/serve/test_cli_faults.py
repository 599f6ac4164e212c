"""What the commands say of wrong options, inputs and places: early, in the user's words, with no prompt left behind."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import NoReturn

import pytest

from serve.batch import job as batch
from serve.cli import main
from serve.io import inputs


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Requests in OpenAI's format, which have to be imported."""
    rows = [
        {"user": f"u{index % 3}", "messages": [{"role": "user", "content": f"bake cake number {index}"}]}
        for index in range(12)
    ]
    path = tmp_path / "openai.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def never(*_: object, **__: object) -> NoReturn:
    raise AssertionError("logs were imported")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adapt", "--out", "adapted", "--fpr", "3"], "fpr is 3.0"),
        (["adapt", "--out", "adapted", "--bundle", "nope"], "nope holds no manifest.json"),
        (["adapt", "--out", "no/adapted"], "there is no folder"),
        (["score", "--out", "v.parquet", "--bundle", "nope"], "nope holds no manifest.json"),
        (["score", "--out", "v.parquet", "--indicators", "log.json"], "log.json"),
        (["campaigns", "--out", "c.json", "--bundle", "nope"], "nope holds no manifest.json"),
        (["explain", "--account", "u1", "--bundle", "nope"], "nope holds no manifest.json"),
        (["map", "--out", "map.html", "--sample", "2"], "sample is 2.0"),
    ],
)
def test_wrong_options_are_found_before_logs_are_imported(
    log: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(inputs, "Import", never)
    monkeypatch.chdir(log.parent)
    assert main([arguments[0], log.name, *arguments[1:]]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in log.parent.iterdir()] == [log.name]


def stopping(fault: BaseException) -> object:
    def run(*_: object) -> NoReturn:
        raise fault

    return run


@pytest.mark.parametrize(
    ("fault", "code", "is_kept"),
    [
        (batch.JobStoppedError("out of memory"), 4, True),
        (KeyboardInterrupt(), 130, True),
        (ValueError("wrong"), 2, False),
        (OSError("wrong"), 2, False),
    ],
)
def test_imported_prompts_stay_only_to_be_resumed_and_the_message_says_so(
    log: Path, bundle_folder: Path, fault: BaseException, code: int, is_kept: bool, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(batch, "run", stopping(fault))
    out = log.with_name("v.parquet")
    folder = log.with_name("_v.parquet.import")
    assert main(["score", str(log), "--out", str(out), "--bundle", str(bundle_folder)]) == code
    said = f"; kept {folder}, which holds prompts: go on with --resume, or delete it\n"
    assert capsys.readouterr().err.endswith(said) == is_kept
    assert folder.exists() == is_kept


def test_what_can_still_be_resumed_stays_when_the_next_run_is_refused(
    log: Path, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["score", str(log), "--out", str(log.with_name("v.parquet")), "--bundle", str(bundle_folder)]
    for fault, code in ((batch.JobStoppedError("x"), 4), (ValueError("another job is at work there"), 2)):
        monkeypatch.setattr(batch, "run", stopping(fault))
        assert main([*arguments, "--resume"]) == code
    assert list(log.parent.glob("_v.parquet.import/imported-*.parquet"))
    monkeypatch.undo()
    assert main([*arguments, "--resume"]) == 0
    assert not list(log.parent.glob("_*"))


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ("who,question\nann,hello\n", "account_id=who,prompt=nope", "has no column 'nope'; it has who, question"),
        ("who,question\n,hello\n,again\n", "account_id=who,prompt=question", "2 of them since account_id is missing"),
        ("who,zzz\nann,hello\n", None, "use --columns account_id=..,prompt=.."),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_the_cure(
    tmp_path: Path, bundle_folder: Path, rows: str, columns: str | None, message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    table, out = tmp_path / "table.csv", tmp_path / "x.parquet"
    table.write_text(rows)
    mapped = ["--columns", columns] if columns else []
    assert main(["score", str(table), "--out", str(out), "--bundle", str(bundle_folder), *mapped]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "hello" not in shown
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_a_report_reads_the_log_that_score_read(log: Path, bundle_folder: Path) -> None:
    verdicts, page, bundle = log.with_name("v.jsonl"), log.with_name("r.html"), ["--bundle", str(bundle_folder)]
    assert main(["score", str(log), "--out", str(verdicts), *bundle]) == 0
    assert main(["report", str(verdicts), "--exchanges", str(log), "--out", str(page), *bundle]) == 0
    assert page.is_file()
    page.unlink()
    assert main(["report", str(verdicts), "--exchanges", str(log), "--out", str(log), *bundle]) == 2
    assert "bake cake number 3" in log.read_text()


@pytest.mark.parametrize(("command", "out"), [("adapt", "adapted"), ("map", "map.html")])
def test_an_empty_input_is_named_as_it_was_given(
    tmp_path: Path, bundle_folder: Path, command: str, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty := tmp_path / "empty.jsonl").write_text("")
    assert main([command, str(empty), "--out", str(tmp_path / out), "--bundle", str(bundle_folder)]) == 2
    assert capsys.readouterr().err == f"stillwatch: {empty}: 0 usable rows, expected exchanges\n"


@pytest.mark.parametrize("name", ["/data/part.jsonl", None])
def test_a_full_disk_stops_a_command_and_names_the_place(
    log: Path, name: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device", name)

    monkeypatch.setattr(inputs, "Import", full)
    out = log.with_name("rows.jsonl")
    assert main(["import", str(log), "--out", str(out)]) == 4
    assert capsys.readouterr().err == f"stillwatch: {name or out}: No space left on device\n"
    assert [path.name for path in log.parent.iterdir()] == [log.name]


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_read(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(inputs, "Import", never)
    assert main(["score", str(log), "--out", str(log.with_name("v.jsonl"))]) == 2
    assert f"can't be written, {log.parent} is not writable" in capsys.readouterr().err
