from __future__ import annotations

import gzip
import io
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve.batch import job as batch
from serve.batch import judge_task
from serve.batch.job import Job, JobStoppedError
from serve.io.discovery import InputError
from serve.io.reading import read
from serve.jobs import tasks
from serve.jobs.progress import Progress
from serve.jobs.summary import Summary, summary_text
from serve.scoring import accounts, verdict
from serve.scoring.scorer import Scorer
from serve.sessions.records import Session, Sessions

ROOT = Path(__file__).parents[3]
SMALL_PARTS = (
    "import serve.batch.job as b, serve.jobs.partitioned as p; b.SMALL_BYTES = p.SMALL_BYTES = 0; "
    "b._SHARE_BYTES = (2_000, 2_000); b._PARTITION_BYTES = 2_000; "
)


@pytest.fixture(scope="module")
def exchanges(sessions: tuple[Session, ...]) -> list[dict[str, Any]]:
    """Rows of the tiny sessions, each with an id and a time of its own."""
    rows = []
    for day, session in enumerate(sessions):
        for turn, exchange in enumerate(session.exchanges):
            at = 1_770_000_000.0 + day * 86_400 + turn * 30
            rows.append({
                "account_id": session.account_id, "session_id": session.session_id, "at": at, "prompt": exchange.prompt,
            })  # fmt: skip
    return rows


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def job(source: Path, out: Path, bundle: Path, **options: Any) -> Job:
    return Job((source,), out, out.with_suffix(".rejects.jsonl"), bundle=bundle, n_workers=1, **options)


def run(source: Path, out: Path, bundle: Path, **options: Any) -> Summary:
    return batch.run(job(source, out, bundle, **options), Progress(io.StringIO()))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tasks for little input."""
    monkeypatch.setattr(batch, "_SHARE_BYTES", (2_000, 2_000))
    monkeypatch.setattr(batch, "_PARTITION_BYTES", 2_000)


def command(*arguments: object, prefix: str = SMALL_PARTS) -> list[str]:
    code = f"{prefix}import sys; from serve.cli import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", code, *map(str, arguments)]


def test_verdicts_are_those_of_the_scorer_to_the_last_bit(
    tmp_path: Path, exchanges: list[dict[str, Any]], bundle_folder: Path, tiny_scorer: Scorer
) -> None:
    source = write(tmp_path / "in.jsonl", exchanges)
    summary = run(source, tmp_path / "out.parquet", bundle_folder, accounts=tmp_path / "accounts.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema == verdict.SCHEMA
    assert pq.read_schema(tmp_path / "accounts.parquet") == accounts.SCHEMA
    by_session: dict[str, list[Any]] = {}
    for row in exchanges:
        by_session.setdefault(row["session_id"], []).append(row)
    for row in table.to_pylist(maps_as_pydicts="strict"):
        own = by_session.pop(row["session_id"])
        session = Sessions(
            (row["session_id"],), (row["account_id"],), pa.array([0, len(own)]).to_numpy(),
            tuple(entry["prompt"] for entry in own), pa.array([entry["at"] for entry in own]).to_numpy(),
        )  # fmt: skip
        expected = tiny_scorer.judge(session).table().to_pylist(maps_as_pydicts="strict")[0]
        assert row == expected
    assert by_session == {}
    assert summary.n_rows == summary.n_exchanges == len(exchanges)
    assert (summary.n_sessions, summary.n_accounts) == (30, 15)
    assert summary.n_flagged == table.column("label").to_pylist().count("harvesting")
    assert summary.n_undecided == table.column("label").to_pylist().count("undecided")
    assert not (tmp_path / "_out.parquet.work").exists()


@pytest.mark.usefixtures("small_parts")
def test_files_folders_formats_and_order_are_no_matter(
    tmp_path: Path, exchanges: list[dict[str, Any]], bundle_folder: Path
) -> None:
    shuffled = random.Random(0).sample(exchanges, len(exchanges))
    write(tmp_path / "one" / "a.jsonl", exchanges)
    for index in range(40):
        write(tmp_path / "many" / f"{index:03}.jsonl", exchanges[index::40])
    for account in {row["account_id"] for row in exchanges}:
        bare = [{**row, "account_id": None} for row in exchanges if row["account_id"] == account]
        write(tmp_path / "hive" / f"account_id={account}" / "a.jsonl", bare)
    write(tmp_path / "gzip" / "a.jsonl.gz", shuffled)
    (tmp_path / "parquet").mkdir()
    pq.write_table(pa.Table.from_pylist(shuffled), tmp_path / "parquet" / "a.parquet", row_group_size=17)
    write(tmp_path / "shuffled" / "a.jsonl", shuffled)
    found = {}
    for name in ("one", "many", "hive", "gzip", "parquet", "shuffled"):
        run(tmp_path / name, tmp_path / f"{name}.jsonl", bundle_folder, accounts=tmp_path / f"{name}.accounts.jsonl")
        found[name] = [(tmp_path / f"{name}{suffix}").read_bytes() for suffix in (".jsonl", ".accounts.jsonl")]
    assert all(own == found["one"] for own in found.values())
    assert len(found["one"][0].splitlines()) == 30


def test_rejects_are_counted_named_and_cost_nothing_else(
    tmp_path: Path, exchanges: list[dict[str, Any]], bundle_folder: Path
) -> None:
    bad: list[bytes] = [
        b"{", b"\xff", b"[]",
        b'{"prompt": "canary"}', b'{"account_id": "a"}', b'{"account_id": [5], "prompt": "canary"}',
        b'{"account_id": "a", "prompt": 5}', b'{"account_id": "a", "prompt": " "}',
        b'{"account_id": "a", "prompt": "x", "prompt": "canary"}', b'{"account_id": " ", "prompt": "canary"}',
    ]  # fmt: skip
    good = [json.dumps(row).encode() for row in exchanges]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join([*good[:100], *bad, *good[100:]]))
    summary = run(tmp_path / "in.jsonl", tmp_path / "out.jsonl", bundle_folder)
    rejects = [json.loads(line) for line in (tmp_path / "out.rejects.jsonl").read_text().splitlines()]
    assert [reject["line"] for reject in rejects] == list(range(101, 111))
    assert {reject["file"] for reject in rejects} == {str(tmp_path / "in.jsonl")}
    assert Counter(reject["reason"] for reject in rejects) == dict(summary.reasons)
    assert (summary.n_exchanges, summary.n_rejected) == (len(exchanges), 10)
    assert summary.is_clean == (0.05 * (len(exchanges) + 10) >= 10)
    text = summary_text(summary) + (tmp_path / "out.rejects.jsonl").read_text() + (tmp_path / "out.jsonl").read_text()
    assert "canary" not in text
    write(tmp_path / "clean.jsonl", exchanges)
    run(tmp_path / "clean.jsonl", tmp_path / "clean_out.jsonl", bundle_folder)
    assert (tmp_path / "clean_out.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()


@pytest.mark.usefixtures("small_parts")
def test_times_under_another_name_are_told_as_missing(
    tmp_path: Path, exchanges: list[dict[str, Any]], bundle_folder: Path
) -> None:
    named = [{("timestamp" if name == "at" else name): value for name, value in row.items()} for row in exchanges[:40]]
    write(tmp_path / "in" / "a.jsonl", named)
    (tmp_path / "in" / "b").mkdir()
    pq.write_table(pa.Table.from_pylist(named[:7]), tmp_path / "in" / "b" / "c.parquet")
    summary = run(tmp_path / "in", tmp_path / "out.jsonl", bundle_folder)
    assert (summary.n_rows, summary.n_untimed, summary.n_rejected) == (47, 47, 0)
    assert "47 rows have no time (column at)" in summary_text(summary)


@pytest.mark.usefixtures("small_parts")
def test_lines_of_rejects_are_those_of_the_file_however_it_was_shared_out(
    tmp_path: Path, exchanges: list[dict[str, Any]], bundle_folder: Path
) -> None:
    lines = [b"{" if index % 25 == 24 else json.dumps(row).encode() for index, row in enumerate(exchanges)]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    run(tmp_path / "in.jsonl", tmp_path / "out.jsonl", bundle_folder)
    rejects = [json.loads(line) for line in (tmp_path / "out.rejects.jsonl").read_text().splitlines()]
    assert [reject["line"] for reject in rejects] == list(range(25, len(lines) + 1, 25))


class Quota:
    """Lets some tasks end, then finds the disk full."""

    def __init__(self, n_allowed: int) -> None:
        self.n_left = n_allowed
        self.measure = tasks.digests

    def __call__(self, paths: Sequence[Path]) -> dict[str, str]:
        self.n_left -= 1
        if self.n_left < 0:
            raise OSError(28, "No space left on device")
        return self.measure(paths)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_job_that_stops_at_any_task_goes_on_to_the_same_output(
    tmp_path: Path, exchanges: list[dict[str, Any]], bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    source = write(tmp_path / "in.jsonl", [{**row, "prompt": 5} if row["at"] % 7 == 0 else row for row in exchanges])
    outputs = [f"whole{suffix}", f"whole.accounts{suffix}", "whole.rejects.jsonl"]
    run(source, tmp_path / outputs[0], bundle_folder, accounts=tmp_path / outputs[1])
    out, roll_up = tmp_path / f"cut{suffix}", tmp_path / f"cut.accounts{suffix}"
    for n_allowed in (1, 2, 3, 2):
        with monkeypatch.context() as patch:
            quota = Quota(n_allowed)
            for module in (tasks, judge_task):
                patch.setattr(module, "digests", quota)
            with pytest.raises(
                JobStoppedError, match=r"No space left on device \(\d+ finished parts? (is|are) kept .*--resume"
            ):
                run(source, out, bundle_folder, accounts=roll_up, resume=True)
        assert not out.exists()
    summary = run(source, out, bundle_folder, accounts=roll_up, resume=True)
    found = [out, roll_up, tmp_path / "cut.rejects.jsonl"]
    assert [path.read_bytes() for path in found] == [(tmp_path / name).read_bytes() for name in outputs]
    assert summary.n_rows == len(exchanges)
    assert not (tmp_path / f"_cut{suffix}.work").exists()


def n_lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def test_a_job_killed_at_random_moments_goes_on_to_the_same_output(
    tmp_path: Path, exchanges: list[dict[str, Any]], bundle_folder: Path
) -> None:
    source = write(tmp_path / "in.jsonl", exchanges)
    run(source, tmp_path / "whole.jsonl", bundle_folder)
    out, chance = tmp_path / "cut.jsonl", random.Random(0)
    manifest = tmp_path / "_cut.jsonl.work" / "manifest.jsonl"
    arguments = ("score", source, "--out", out, "--bundle", bundle_folder, "--workers", 2, "--resume")
    parts = command(*arguments, prefix=SMALL_PARTS.replace("2_000", "500"))
    for _ in range(3):
        n_wanted = n_lines(manifest) + chance.randint(0, 9)
        process = subprocess.Popen(parts, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until and n_lines(manifest) < max(n_wanted, 1):
            time.sleep(0.001)
        time.sleep(chance.uniform(0.0, 0.02))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not out.exists()
    done = subprocess.run(parts, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not manifest.parent.exists()


def test_a_sample_has_the_verdicts_of_the_whole(
    tmp_path: Path, exchanges: list[dict[str, Any]], bundle_folder: Path
) -> None:
    source = write(tmp_path / "in.jsonl", exchanges)
    run(source, tmp_path / "whole.jsonl", bundle_folder)
    summary = run(source, tmp_path / "part.jsonl", bundle_folder, sample=0.4)
    part, whole = ((tmp_path / f"{name}.jsonl").read_text().splitlines() for name in ("part", "whole"))
    assert 0 < len(part) < len(whole)
    assert set(part) <= set(whole)
    assert summary.n_exchanges + summary.n_left_out == len(exchanges)


@pytest.mark.parametrize("rows", [[{"account_id": "a"}] * 3, [{"prompt": "hello"}, {"prompt": "again"}]])
def test_a_file_without_a_column_is_said(tmp_path: Path, bundle_folder: Path, rows: list[dict[str, str]]) -> None:
    source = write(tmp_path / "in.jsonl", rows)
    with pytest.raises(InputError, match=r"in\.jsonl: no row has a usable (prompt|account_id), expected"):
        run(source, tmp_path / "out.jsonl", bundle_folder)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_no_exchange_at_all_gives_empty_outputs(tmp_path: Path, bundle_folder: Path) -> None:
    source = write(tmp_path / "in.jsonl", [])
    summary = run(source, tmp_path / "out.jsonl", bundle_folder)
    assert (summary.n_rows, summary.n_exchanges, summary.is_clean) == (0, 0, True)
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_an_empty_file_among_others_is_no_matter(tmp_path: Path, bundle_folder: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", [])
    write(tmp_path / "in" / "b.jsonl", [{"account_id": "a", "prompt": "bake a cake"}])
    assert run(tmp_path / "in", tmp_path / "out.jsonl", bundle_folder).n_exchanges == 1


def test_rows_of_which_none_is_usable_give_empty_outputs(tmp_path: Path, bundle_folder: Path) -> None:
    (tmp_path / "in.jsonl").write_text("{\n{\n")
    summary = run(tmp_path / "in.jsonl", tmp_path / "out.parquet", bundle_folder)
    assert not summary.is_clean
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


def test_a_fault_of_the_input_leaves_no_folder_where_nothing_was_done(tmp_path: Path, bundle_folder: Path) -> None:
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(b'{"account_id": "a", "prompt": "x"}\n' * 1000)[:-10])
    with pytest.raises(JobStoppedError, match=r"in\.jsonl\.gz: can't be read beyond line .*") as fault:
        run(tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl", bundle_folder)
    assert "--resume" not in str(fault.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl.gz"]


def test_a_fault_of_one_input_says_where_the_parts_of_others_are_kept(
    tmp_path: Path, exchanges: list[dict[str, Any]], bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in" / "a.jsonl.gz", exchanges)
    (tmp_path / "in" / "b.jsonl.gz").write_bytes(gzip.compress(b'{"account_id": "a", "prompt": "x"}\n' * 1000)[:-10])
    monkeypatch.setattr(batch, "_SHARE_BYTES", (1_000, 1_000))
    message = r"b\.jsonl\.gz: can't be read .*\(1 finished part is kept in .*_out\.jsonl\.work"
    with pytest.raises(JobStoppedError, match=message):
        run(tmp_path / "in", tmp_path / "out.jsonl", bundle_folder)


def test_the_same_file_twice_counts_once(tmp_path: Path, exchanges: list[dict[str, Any]], bundle_folder: Path) -> None:
    source = write(tmp_path / "in.jsonl", exchanges)
    twice = Job((source, source), tmp_path / "out.jsonl", tmp_path / "r.jsonl", bundle=bundle_folder, n_workers=1)
    assert batch.run(twice, Progress(io.StringIO())).n_rows == len(exchanges)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "slurm"}, "engine is 'slurm', expected one of local, ray"),
        ({"sample": 0.0}, r"sample is 0\.0, expected a share above 0 and up to 1"),
        ({"sample": float("nan")}, "sample is nan"),
        ({"n_workers": 0}, "workers is 0, expected at least 1"),
        ({"out": Path("out.csv")}, r"out\.csv: output file must end in"),
        ({"accounts": Path("out.xlsx")}, r"out\.xlsx: output file must end in"),
        ({"accounts": Path("out.jsonl")}, r"out\.jsonl: two outputs have the same name"),
        ({"out": Path("none/out.jsonl")}, r"none/out\.jsonl: can't be written, there is no folder .*none"),
        ({"rejects": Path("in")}, "in: is a folder, expected a file to write"),
        ({"out": Path("in/out.jsonl")}, r"in/out\.jsonl: output file lies in the input"),
        ({"inputs": (Path("out.jsonl"),)}, r"out\.jsonl: output file lies in the input"),
    ],
)
def test_a_job_that_can_not_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    defaults = {"inputs": (Path("in"),), "out": Path("out.jsonl"), "rejects": Path("rejects.jsonl")}
    with pytest.raises(ValueError, match=message):
        Job(**(defaults | options))


def test_a_vanished_input_is_said(tmp_path: Path, exchanges: list[dict[str, Any]], bundle_folder: Path) -> None:
    source = write(tmp_path / "in.jsonl", exchanges)

    original = read

    def vanish(part: Any) -> Any:
        Path(part.source.path).unlink(missing_ok=True)
        return original(part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "read", vanish)
        with pytest.raises(JobStoppedError, match=r"in\.jsonl: can't be read beyond line 0: No such file"):
            run(source, tmp_path / "out.jsonl", bundle_folder)
    with pytest.raises(InputError, match=r"in\.jsonl doesn't exist"):
        run(source, tmp_path / "out.jsonl", bundle_folder, resume=True)
