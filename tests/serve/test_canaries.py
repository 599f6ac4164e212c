"""Whatever fails, and with debug logging on, no prompt is shown, logged or left on disk."""

from __future__ import annotations

import gzip
import json
import logging
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from serve.cli import command, main

CANARY = "canary-3b91"
ROW = json.dumps({"account_id": "a", "prompt": CANARY, "at": 1e9})


def lines(*rows: str) -> bytes:
    return "".join(row + "\n" for row in rows).encode("utf-8", "surrogatepass")


INPUTS: dict[str, bytes] = {
    "not JSON": lines(ROW, '{"account_id": "a", "prompt": "' + CANARY),
    "wrong type": lines(ROW, json.dumps({"account_id": "a", "prompt": [CANARY]})),
    "account of a wrong type": lines(ROW, json.dumps({"account_id": {CANARY: 1}, "prompt": CANARY})),
    "a key twice": lines(ROW, f'{{"account_id": "a", "prompt": "{CANARY}", "prompt": "{CANARY}"}}'),
    "not UTF-8": lines(ROW) + b'{"account_id": "a", "prompt": "' + CANARY.encode() + b'\xff\xfe"}\n',
    "lone surrogate": lines(ROW, f'{{"account_id": "a", "prompt": "{CANARY} \ud800"}}'),
    "time that is none": lines(ROW, json.dumps({"account_id": "a", "prompt": CANARY, "at": CANARY})),
    "deep": lines(ROW, f'{{"account_id": "a", "prompt": "{CANARY}", "x": ' + "[" * 5000 + "]" * 5000 + "}"),
    "escaped quotes without end": lines(ROW, "[" * 3000 + f'"{CANARY}' + '\\"' * 9999),
    "long integer": lines(ROW, f'{{"account_id": {"9" * 5000}, "prompt": "{CANARY}"}}'),
    "cut gzip": gzip.compress(lines(*[ROW] * 5000))[:-9],
    "no gzip": b"\x1f\x8b" + CANARY.encode() * 99,
    "no Parquet": b"PAR1" + CANARY.encode() * 99 + b"PAR1",
    "no format": lines(json.dumps({"colour": CANARY, "words": {"a": CANARY}})),
    "only text": lines(CANARY, CANARY),
    "open quote of CSV": f'account_id,prompt\na,"{CANARY}\n'.encode() * 3,
    "odd messages": lines(json.dumps({"user": "a", "messages": [{"role": [CANARY], "content": {CANARY: CANARY}}]}) * 2),
}


def written(folder: Path, source: Path) -> str:
    """Everything in the files of a folder but the source."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path != source]
    return "".join(path.read_bytes().decode("utf-8", "replace") for path in paths)


@pytest.mark.parametrize("command", ["score", "explain", "campaigns", "import"])
@pytest.mark.parametrize("kind", INPUTS)
def test_no_prompt_of_an_input_that_fails_is_shown_or_left(
    tmp_path: Path,
    bundle_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    kind: str,
    command: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    suffix = {"cut gzip": ".jsonl.gz", "no gzip": ".jsonl.gz", "no Parquet": ".parquet"}.get(kind, ".jsonl")
    source = tmp_path / f"in{suffix}"
    source.write_bytes(INPUTS[kind])
    more: dict[str, list[object]] = {
        "score": ["--out", tmp_path / "out.jsonl", "--accounts", tmp_path / "accounts.jsonl", "--workers", 1],
        "campaigns": ["--out", tmp_path / "out.json", "--workers", 1],
        "explain": ["--account", "a"],
        "import": ["--out", tmp_path / "rows.jsonl", "--rejects", tmp_path / "rejects.jsonl"],
    }
    bundle = [] if command == "import" else ["--bundle", str(bundle_folder)]
    code = main([command, str(source), *bundle, *map(str, more[command])])
    (tmp_path / "rows.jsonl").unlink(missing_ok=True)  # which hold prompts, as asked for
    assert code in (0, 2, 3, 4)
    shown = capfd.readouterr()
    assert "Traceback" not in shown.err
    assert CANARY not in shown.out + shown.err + caplog.text + written(tmp_path, source)


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def out_of_memory(*_: object, **__: object) -> None:
    raise MemoryError


@pytest.mark.parametrize("fault", [full, interrupted, out_of_memory])
@pytest.mark.parametrize("place", ["serve.batch.job._write_all", "serve.jobs.tasks.digests", "serve.io.inputs._import"])
def test_a_job_that_stops_leaves_prompts_to_their_owner_alone(
    tmp_path: Path,
    bundle_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    place: str,
    fault: Callable[..., None],
) -> None:
    monkeypatch.setattr(place, fault)
    source = tmp_path / "in.jsonl"
    log = {"user": "a", "messages": [{"role": "user", "content": f"{CANARY} sort a list"}]}
    source.write_text("".join(json.dumps(log) + "\n" for _ in range(9)))
    given = ["score", str(source), "--out", str(tmp_path / "out.jsonl"), "--bundle", str(bundle_folder)]
    assert main([*given, "--workers", "1"]) in (2, 4, 130)
    shown = capfd.readouterr()
    assert "Traceback" not in shown.err
    assert CANARY not in shown.out + shown.err
    for path in tmp_path.iterdir():
        if path.is_file():
            assert path == source or CANARY.encode() not in path.read_bytes()
        elif CANARY in written(path, source):
            assert path.stat().st_mode & 0o777 == 0o700


def test_what_a_library_quotes_is_not_shown(
    tmp_path: Path, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def quoting(*_: object, **__: object) -> None:
        raise pa.ArrowInvalid(f"Could not convert '{CANARY}' with type str")

    for place in ("serve.scoring.scorer.Scorer.judge", "serve.batch.judge_task.read_partition"):
        monkeypatch.setattr(place, quoting)
    source = tmp_path / "in.jsonl"
    source.write_bytes(lines(ROW))
    assert main(["explain", str(source), "--account", "a", "--bundle", str(bundle_folder)]) == 2
    out = str(tmp_path / "out.jsonl")
    assert main(["score", str(source), "--out", out, "--bundle", str(bundle_folder), "--workers", "1"]) in (2, 4)
    shown = capfd.readouterr()
    assert "ArrowInvalid" in shown.err
    assert CANARY not in shown.out + shown.err


def test_a_crash_leaves_no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "argv", ["stillwatch", "formats"])
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        assert command() == 0
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
