from __future__ import annotations

import itertools
import json
import os
import signal
import time
from pathlib import Path

import pytest

from serve.cli import main

ROWS = [{"account_id": "a", "prompt": f"sort a list {index}", "at": index, "session_id": "s"} for index in range(6)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def follow(log: Path, bundle: Path, *more: str) -> int:
    out = log.with_name("out.jsonl")
    return main(["score", str(log), "--follow", "--out", str(out), "--bundle", str(bundle), *more])


def test_it_looks_once_and_goes_on_the_next_time(
    log: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert follow(log, bundle_folder, "--once", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "n_rows": 6, "n_sessions": 0, "n_flagged": 0, "n_waiting": 6, "n_rejected": 0, "reasons": {}, "is_clean": True,
    }  # fmt: skip
    time.sleep(0.01)
    assert follow(log, bundle_folder, "--once", "--idle", "0.0001") == 0
    assert "0 rows read, 1 session judged, " in capsys.readouterr().out
    assert json.loads(log.with_name("out.jsonl").read_text())["n_exchanges"] == 6


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_its_summary(
    log: Path,
    bundle_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
) -> None:
    def sleeping(seconds: float) -> None:
        n_sleeps.append(seconds)
        if len(n_sleeps) == 2:
            os.kill(os.getpid(), number)

    n_sleeps: list[float] = []
    monkeypatch.setattr("serve.following.follower.time.sleep", sleeping)
    monkeypatch.setattr("serve.following.follower.time.time", itertools.count(1e9, 60.0).__next__)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert follow(log, bundle_folder, "--idle", "0.5", "--every", "3") == code
    finally:
        signal.signal(signal.SIGINT, before)
    assert n_sleeps == [3.0, 3.0]
    shown = capsys.readouterr()
    assert shown.out.startswith("6 rows read, 1 session judged, ")
    assert shown.err.endswith("; run the same command again to go on\n")
    assert shown.err.count("\n") == 1


def test_logs_of_another_format_are_named_and_left(
    log: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.write_text(json.dumps({"user": "a", "messages": [{"role": "user", "content": "canary"}]}) + "\n")
    assert follow(log, bundle_folder, "--once") == 0
    shown = capsys.readouterr()
    assert "log.jsonl: no row has a usable account_id; only plain rows are followed" in shown.err
    assert "canary" not in shown.err + shown.out
    assert shown.out.startswith("0 rows read, ")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--accounts", "a.jsonl"], "--accounts can't be used with --follow"),
        (["--sample", "0.5"], "--engine and --sample can't be used with --follow"),
        (["--every", "0"], "every is 0 seconds, expected more than 0"),
        (["--idle", "-1"], "idle is -1 minutes, expected more than 0"),
        (["--idle", "nan"], "idle is nan minutes, expected more than 0"),
        (["--out", "v.parquet"], "with --follow, verdicts are appended to a file that ends in .jsonl"),
    ],
    ids=["accounts", "sample", "every", "idle", "nan", "parquet"],
)
def test_what_can_not_be_followed_is_refused(
    log: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], sentence: str
) -> None:
    assert follow(log, bundle_folder, *more) == 2
    assert sentence in capsys.readouterr().err
    assert not log.with_name("out.jsonl").exists()


def test_its_options_need_it(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(log), "--out", str(log.with_name("out.jsonl")), "--once"]) == 2
    assert "--idle, --every and --once need --follow" in capsys.readouterr().err


def test_an_input_that_is_not_there_yet_is_named(
    log: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert follow(log.with_name("other.jsonl"), bundle_folder, "--once") == 0
    assert "other.jsonl: no file of plain rows is there yet" in capsys.readouterr().err
