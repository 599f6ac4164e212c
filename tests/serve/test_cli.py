from __future__ import annotations

import gzip
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from serve.cli import COMMANDS, main
from serve.commands.command import EXIT_CODES
from serve.sessions.records import Session

ROOT = Path(__file__).parents[2]
CANARY = "canary-7f3a"


@pytest.fixture
def source(tmp_path: Path, sessions: tuple[Session, ...]) -> Path:
    """The tiny sessions as a file of exchanges."""
    rows = [
        {
            "account_id": session.account_id,
            "session_id": session.session_id,
            "prompt": exchange.prompt,
            "at": exchange.at,
        }
        for session in sessions
        for exchange in session.exchanges
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def score(source: Path, bundle: Path, *more: object) -> int:
    out = source.with_name("out.jsonl")
    return main(["score", str(source), "--out", str(out), "--bundle", str(bundle), *map(str, more)])


def test_score_writes_verdicts_and_says_what_it_did(
    source: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts = source.with_name("accounts.jsonl")
    assert score(source, bundle_folder, "--accounts", accounts) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "30 sessions, 15 accounts" in shown.out
    verdicts = [json.loads(line) for line in source.with_name("out.jsonl").read_text().splitlines()]
    assert len(verdicts) == 30
    assert len(accounts.read_text().splitlines()) == 15
    assert source.with_name("out.jsonl.rejects.jsonl").read_text() == ""


def test_score_says_what_it_did_as_one_object(
    source: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with source.open("a") as file:
        file.write("{}\n" * 30)
    assert score(source, bundle_folder, "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["n_sessions"], found["n_accounts"], found["n_rejected"], found["is_clean"]) == (30, 15, 30, False)
    assert found["written"][str(source.with_name("out.jsonl"))] == source.with_name("out.jsonl").stat().st_size
    assert all({"account_id", "label", "p_value"} <= set(account) for account in found["clearest"])


def test_too_many_rejects_have_their_own_exit_code(
    source: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    n_rows = len(source.read_text().splitlines())
    with source.open("a") as file:
        file.write(f'{{"prompt": "{CANARY}"}}\n' * (n_rows // 15))
    rejects = source.with_name("r.jsonl")
    assert score(source, bundle_folder, "--rejects", rejects) == 3
    assert len(source.with_name("out.jsonl").read_text().splitlines()) == 30
    assert json.loads(rejects.read_text().splitlines()[0]) == {
        "file": str(source), "line": n_rows + 1, "reason": "account_id is missing",
    }  # fmt: skip
    shown = capsys.readouterr()
    assert CANARY not in shown.out + shown.err


def spoil(source: Path, kind: str) -> Path:
    if kind == "gzip":
        path = source.with_suffix(".jsonl.gz")
        path.write_bytes(gzip.compress(source.read_bytes())[:-9])
        return path
    path = source.with_name("bad.jsonl")
    path.write_text(f'{{"account_id": "a", "colour": "{CANARY}"}}\n')
    return path


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("gzip", 4, "Compressed file ended before the end-of-stream marker"),
        ("columns", 2, "is of no known format: lines whose first row has account_id, colour"),
    ],
)
def test_a_job_that_stops_says_why_in_one_line(
    source: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str], kind: str, code: int, message: str
) -> None:
    assert score(spoil(source, kind), bundle_folder) == code
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert message in shown.err
    assert shown.err.startswith("stillwatch: ")
    assert CANARY not in shown.err


@pytest.mark.parametrize("name", ["empty.jsonl", "folder"])
def test_an_empty_input_gives_empty_outputs(source: Path, bundle_folder: Path, name: str) -> None:
    empty = source.with_name(name)
    empty.write_text("") if empty.suffix else empty.mkdir()
    assert score(empty, bundle_folder) == 0
    assert source.with_name("out.jsonl").read_bytes() == b""


def test_logs_are_judged_as_the_rows_they_hold(
    source: Path, bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    assert score(source, bundle_folder) == 0
    plain = source.with_name("out.jsonl").read_bytes()
    log, history = tmp_path / "gateway.log", dict[tuple[str, str], list[dict[str, str]]]()
    with log.open("w") as file:
        for row in rows:
            thread = history.setdefault((row["account_id"], row["session_id"]), [])
            thread += [{"role": "user", "content": row["prompt"]}]
            request = {"call_type": "acompletion", "status": "success", "user": row["account_id"], "messages": thread}
            file.write(json.dumps(request | {"session_id": row["session_id"], "startTime": row.get("at")}) + "\n")
            thread += [{"role": "assistant", "content": CANARY}]
    assert score(log, bundle_folder) == 0
    assert source.with_name("out.jsonl").read_bytes() == plain
    shown = capsys.readouterr().out
    assert f"read as LiteLLM spend logs: {len(rows):,} requests -> {len(rows):,} prompts" in shown
    assert not list(tmp_path.glob("_*"))


def test_import_and_formats(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"who,what\nann,hello\nann,{CANARY}\n")
    out = tmp_path / "rows.jsonl"
    assert main(["import", str(table), "--out", str(out), "--columns", "account_id=who,prompt=what"]) == 0
    assert [json.loads(line)["prompt"] for line in out.read_text().splitlines()] == ["hello", CANARY]
    assert main(["import", str(table), "--out", str(out), "--columns", "who=account_id"]) == 2
    assert main(["import", str(table), "--out", str(out), "--format", "nothing"]) == 2
    assert main(["formats"]) == 0
    shown = capsys.readouterr()
    assert CANARY not in shown.out + shown.err
    assert "litellm_spendlogs" in shown.out


def test_what_can_not_begin_is_said_in_one_line(
    source: Path, bundle_folder: Path, copied_bundle: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    broken = copied_bundle()
    classifier = broken / "classifier.txt"
    data = bytearray(classifier.read_bytes())
    data[100] ^= 1
    classifier.write_bytes(bytes(data))
    newer = copied_bundle()
    manifest = json.loads((newer / "manifest.json").read_text())
    (newer / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99}))
    for arguments, message in (
        ((source.with_name("none.jsonl"), bundle_folder), "none.jsonl doesn't exist"),
        ((source, bundle_folder, "--accounts", "a.csv"), "a.csv: output file must end in .parquet or .jsonl"),
        ((source, bundle_folder, "--sample", "2"), "sample is 2.0"),
        ((source, broken), "classifier.txt has sha256"),
        ((source, newer), "has format version 99"),
        ((source, source.parent / "no"), "holds no manifest.json"),
    ):
        assert score(*arguments) == 2
        shown = capsys.readouterr()
        assert (shown.out, shown.err.count("\n")) == ("", 1)
        assert message in shown.err
    assert not source.with_name("out.jsonl").exists()


def test_explain_shows_the_card_of_a_session(
    source: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(source), "--session", "s006", "--bundle", str(bundle_folder)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "session s006 of account a003" in shown.out
    assert score(source, bundle_folder) == 0
    verdicts = map(json.loads, source.with_name("out.jsonl").read_text().splitlines())
    expected = next(verdict["score"] for verdict in verdicts if verdict["session_id"] == "s006")
    assert f"score {expected:.4f}" in shown.out


def test_explain_names_the_lines_that_weigh_most_and_shows_them_on_request_only(
    tmp_path: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.jsonl"
    prompts = ["bake a cake with lemon", "python loop never ends why", "sort a list", "good morning", "nice weather"]
    rows = [{"account_id": "a", "session_id": "s", "prompt": text, "at": 9 - at} for at, text in enumerate(prompts)]
    path.write_text("{\n\n" + "".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["explain", str(path), "--bundle", str(bundle_folder)]
    assert main([*arguments, "--session", "s"]) == 0
    assert not any(text in capsys.readouterr().out for text in prompts)
    assert main([*arguments, "--account", "a", "--json", "--show", "--prior", "0.5"]) == 0
    _, found = map(json.loads, capsys.readouterr().out.splitlines())
    assert len(found["prompts"]) == 3
    assert found["posterior"] == pytest.approx(found["score"])
    for prompt in found["prompts"]:
        row = json.loads(path.read_text().splitlines()[prompt["line"] - 1])
        assert (row["prompt"], row["at"], prompt["file"]) == (prompt["text"], prompt["at"], str(path))
        assert prompt["position"] == len(prompts) - prompts.index(prompt["text"])
    assert main([*arguments, "--session", "s", "--prior", "1"]) == 2
    assert "prior is 1.0, expected a share between 0 and 1" in capsys.readouterr().err


def test_score_ends_with_the_clearest_accounts_and_the_command_that_explains_each(
    source: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts = source.with_name("accounts.jsonl")
    assert score(source, bundle_folder, "--accounts", str(accounts)) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = map(json.loads, accounts.read_text().splitlines())
    suspects = [row for row in rows if row["label"] == "harvesting" or row["flagged_share"]]
    suspects.sort(key=lambda row: (row["p_value"], -row["max_score"], row["account_id"]))
    start = next(index for index, line in enumerate(lines) if "clearest accounts" in line)
    commands = [shlex.split(line[line.index("stillwatch") :]) for line in lines[start + 1 :]]
    assert [command[-1] for command in commands] == [f"--account={row['account_id']}" for row in suspects[:10]]
    assert main(commands[0][1:]) == 0
    assert f"account {suspects[0]['account_id']}: " in capsys.readouterr().out


@pytest.mark.parametrize("command", ["score", "explain", "campaigns", "drift", "bundle"])
def test_every_command_has_the_same_exit_codes_in_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert EXIT_CODES in shown


def test_explain_shows_the_clearest_sessions_of_an_account(
    source: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["explain", str(source), "--bundle", str(bundle_folder), "--account", "a003"]
    assert main([*arguments, "--top", "1"]) == 0
    shown = capsys.readouterr().out
    assert "\n\naccount a003: " in f"\n\n{shown}"
    assert main([*arguments, "--json"]) == 0
    account, *rows = map(json.loads, capsys.readouterr().out.splitlines())
    assert (account["account_id"], account["n_sessions"]) == ("a003", 2)
    assert f"account a003: {account['label']}, p-value {account['p_value']:.4f}; " in shown
    assert (account["verdict"] is None) == (account["judged_by"] == "sessions")
    assert [row["p_value"] for row in rows] == sorted(row["p_value"] for row in rows)
    assert f"session {rows[0]['session_id']} of" in shown
    assert f"session {rows[1]['session_id']} of" not in shown
    assert main([*arguments[:-1], "nobody"]) == 2


def test_explain_finds_sessions_that_were_cut(
    tmp_path: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.jsonl"
    rows = [{"account_id": "team/7", "prompt": "bake a cake", "at": at} for at in (0, 60, 9000)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    arguments = ["explain", str(path), "--bundle", str(bundle_folder), "--session"]
    assert main([*arguments, "team/7/19700101T000000Z"]) == 0
    shown = capsys.readouterr()
    assert "2 exchanges, 1970-01-01 00:00:00 to 1970-01-01 00:01:00 UTC" in shown.out
    assert shown.err == "stillwatch: 1 row can't be used (score lists them)\n"
    assert main([*arguments, "gone\x1b[2J"]) == 2
    assert "no session gone�[2J in" in capsys.readouterr().err


def test_bundles_are_shown_and_verified(
    bundle_folder: Path, copied_bundle: Callable[[], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bundle", "show", str(bundle_folder)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["bundle_id"] == json.loads((bundle_folder / "manifest.json").read_text())["bundle_id"]
    assert main(["bundle", "verify", str(bundle_folder)]) == 0
    assert "all as the manifest lists them" in capsys.readouterr().out
    damaged = copied_bundle()
    (damaged / "features.parquet").unlink()
    assert main(["bundle", "verify", str(damaged)]) == 2
    assert "holds no features.parquet" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["score"], ["score", "x.jsonl"], ["bundle", "burn", "x"], ["nothing"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: stillwatch" in capsys.readouterr().err


def test_it_names_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"stillwatch {version('stillwatch')}\n"


def test_help_lists_the_commands_and_escapes_no_sign(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert [command.name for command in COMMANDS if f"\n    {command.name}" not in shown] == []
    assert "over 5 % of the rows" in " ".join(shown.split())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_in_one_line_with_its_workers(
    source: Path, bundle_folder: Path, number: signal.Signals, code: int
) -> None:
    script = (  # a shell may have started the tests in the background, where SIGINT is ignored
        "import signal, sys, serve.batch.job as b, serve.jobs.partitioned as p; b.SMALL_BYTES = p.SMALL_BYTES = 0;"
        "from serve.cli import main;"
        "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main(sys.argv[1:]))"
    )
    out = source.with_name("out.jsonl")
    arguments = ["score", source, "--out", out, "--bundle", bundle_folder, "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    work = source.with_name("_out.jsonl.work") / "job.json"
    until = time.monotonic() + 60
    while not work.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(0.3)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    shown, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert said.startswith(("stillwatch: interrupted", "stillwatch: terminated"))
    assert said.count("\n") == 1
    assert shown == ""
    until = time.monotonic() + 20
    while (alive := living(process.pid)) and time.monotonic() < until:
        time.sleep(0.05)
    assert alive == []


def living(group: int) -> list[str]:
    """Commands of the group's processes that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, own_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(own_group) == group and state != "Z":
                found.append((folder / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_campaigns_writes_what_it_found_and_score_matches_its_indicators(
    source: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, members, shared = (source.with_name(name) for name in ("c.json", "m.jsonl", "shared.json"))
    options = ["--members", str(members), "--indicators", str(shared), "--bundle", str(bundle_folder)]
    assert main(["campaigns", str(source), "--out", str(out), *options]) == 0
    shown = capsys.readouterr()
    assert "campaigns, " in shown.out
    document = json.loads(out.read_text())
    assert document["n_accounts"] == len(members.read_text().splitlines()) == 15
    assert score(source, bundle_folder, "--indicators", shared) == 0
    assert source.with_name("out.jsonl.matches.jsonl").is_file()
    with pytest.raises(SystemExit):
        main(["campaigns", str(source)])


def test_indicators_that_cannot_be_read_are_refused_before_any_work(
    source: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = source.with_name("bad.json")
    bad.write_text("{}")
    assert score(source, bundle_folder, "--indicators", bad) == 2
    assert "bad.json holds no indicators" in capsys.readouterr().err
    assert not source.with_name("out.jsonl").exists()


def test_an_import_never_takes_the_place_of_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"account_id": "a", "messages": [{"role": "user", "content": "bake a cake"}]}) + "\n")
    before = log.read_bytes()
    assert main(["import", str(log), "--out", str(log)]) == 2
    assert main(["import", str(log), "--out", str(tmp_path / "rows.jsonl"), "--rejects", str(log)]) == 2
    assert log.read_bytes() == before
    assert "output file lies in the input" in capsys.readouterr().err


def test_rejects_of_logs_are_in_the_summary(
    tmp_path: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, out = tmp_path / "log.jsonl", tmp_path / "v.jsonl"
    row = {"user": "a", "messages": [{"role": "user", "content": "bake a cake"}], "model": "m", "created": 1.7e9}
    log.write_text("".join(json.dumps(row | {"created": 1.7e9 + k}) + "\n" for k in range(9)) + "{broken\n")
    assert main(["score", str(log), "--out", str(out), "--bundle", str(bundle_folder)]) == 3
    shown = capsys.readouterr().out
    rejects = out.with_name("v.jsonl.rejects.jsonl")
    assert "rejected   1 row " in shown
    assert f"({rejects.stat().st_size:,} bytes)" in shown
