from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from serve.campaigns.job import CampaignJob, run
from serve.campaigns.results import SCHEMA, summary_text
from serve.jobs.progress import Progress
from serve.sessions.records import Session


@pytest.fixture(scope="module")
def rows(sessions: tuple[Session, ...]) -> list[dict[str, Any]]:
    """The tiny sessions as exchanges, a day apart."""
    return [
        {"account_id": session.account_id, "at": 1.77e9 + 86_400 * day + 30 * turn, "prompt": exchange.prompt}
        for day, session in enumerate(sessions)
        for turn, exchange in enumerate(session.exchanges)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def inquire(inputs: list[Path], folder: Path, bundle: Path, **options: Any) -> tuple[Any, dict[str, Any], Any]:
    """The outcome, and what was written: campaigns and members."""
    folder.mkdir(exist_ok=True)
    out, members = folder / "campaigns.json", folder / "members.parquet"
    job = CampaignJob(
        tuple(inputs), out, folder / "rejects.jsonl", members=members, bundle=bundle, n_workers=1, **options
    )
    outcome = run(job, Progress(io.StringIO()))
    return outcome, json.loads(out.read_text()), pq.read_table(members)


def test_every_account_has_a_row_and_a_campaign_or_none(rows, tmp_path: Path, bundle_folder: Path):
    outcome, document, members = inquire([write(tmp_path / "x.jsonl", rows)], tmp_path / "out", bundle_folder)
    assert members.schema == SCHEMA
    assert members.column("account_id").to_pylist() == sorted({row["account_id"] for row in rows})
    assert sum(members.column("n_exchanges").to_pylist()) == len(rows) == document["n_exchanges"]
    assert len(document["table"]) == document["n_campaigns"] == len(outcome.findings.campaigns)
    linked = [name for name in members.column("campaign_id").to_pylist() if name]
    assert len(linked) == sum(row["accounts"] for row in document["table"])


def test_two_days_in_an_archive_are_as_both_at_once(rows, tmp_path: Path, bundle_folder: Path):
    days = [
        write(tmp_path / f"day{day}.jsonl", [row for row in rows if (row["at"] > 1.7715e9) == bool(day)])
        for day in (0, 1)
    ]
    archive = tmp_path / "archive"
    inquire(days[:1], tmp_path / "one", bundle_folder, archive=archive)
    outcome, _, members = inquire(days, tmp_path / "two", bundle_folder, archive=archive)
    _, _, whole = inquire(days, tmp_path / "both", bundle_folder)
    assert outcome.n_known_files == 1
    assert outcome.n_rows < len(rows)
    for name in ("account_id", "n_exchanges", "campaign_id"):
        assert members.column(name).to_pylist() == whole.column(name).to_pylist()


def test_rows_without_a_time_are_told(rows, tmp_path: Path, bundle_folder: Path):
    some = [{**row, "at": None} if index < 9 else row for index, row in enumerate(rows[:30])]
    outcome, _, _ = inquire([write(tmp_path / "x.jsonl", some)], tmp_path / "out", bundle_folder)
    assert outcome.n_untimed == 9
    assert "9 rows have no time (column at)" in summary_text(outcome, 1.0)


def test_a_rejected_row_is_listed_with_file_line_and_reason(rows, tmp_path: Path, bundle_folder: Path):
    source = write(tmp_path / "x.jsonl", [*rows[:30], {"prompt": "secret words"}])
    outcome, _, _ = inquire([source], tmp_path / "out", bundle_folder)
    rejects = (tmp_path / "out" / "rejects.jsonl").read_text()
    assert json.loads(rejects)["line"] == 31
    assert "secret" not in rejects
    assert sum(outcome.reasons.values()) == 1


@pytest.mark.parametrize(("n_rows", "said"), [(0, "there is no exchange"), (1, "1 accounts are fewer than the 5")])
def test_empty_input_and_one_account_say_why_nothing_is_found(
    rows, tmp_path: Path, bundle_folder: Path, n_rows: int, said: str
):
    outcome, document, members = inquire([write(tmp_path / "x.jsonl", rows[:n_rows])], tmp_path / "out", bundle_folder)
    assert document["campaigns"] == []
    assert len(members) == n_rows
    assert said in document["note"]
    assert said in summary_text(outcome, 1.0)


def test_accounts_that_all_send_the_same_are_no_campaign_and_are_told_so(rows, tmp_path: Path, bundle_folder: Path):
    same = [{**row, "account_id": f"a{account}"} for account in range(12) for row in rows[:20]]
    outcome, document, members = inquire([write(tmp_path / "x.jsonl", same)], tmp_path / "out", bundle_folder)
    assert document["campaigns"] == []
    assert members.column("campaign_id").to_pylist() == [None] * 12
    assert "all accounts sent the same" in document["note"]
    assert document["note"] in summary_text(outcome, 0.0)


def test_customers_of_one_giant_product_are_no_campaign(tmp_path: Path, bundle_folder: Path):
    rows = [
        {
            "account_id": f"c{customer:03}",
            "at": 1.77e9 + 60 * turn,
            "prompt": f"Summarise this ticket for the agent: order {customer * 10 + turn} came "
            f"{('late', 'broken', 'twice')[turn % 3]}, wanted: {('refund', 'another')[customer % 2]}.",
        }
        for customer in range(120)
        for turn in range(10)
    ]
    _, document, members = inquire([write(tmp_path / "x.jsonl", rows)], tmp_path / "out", bundle_folder)
    assert document["n_accounts"] == 120
    assert document["campaigns"] == []
    assert members.column("campaign_id").to_pylist() == [None] * 120


def test_outputs_that_would_overwrite_each_other_or_an_input_are_refused(tmp_path: Path):
    source = tmp_path / "x.jsonl"
    with pytest.raises(ValueError, match="two outputs"):
        CampaignJob((source,), tmp_path / "a.json", tmp_path / "a.json")
    with pytest.raises(ValueError, match="output file lies in the input"):
        CampaignJob((tmp_path / "r.jsonl",), tmp_path / "a.json", tmp_path / "r.jsonl")
    with pytest.raises(ValueError, match=r"output file must end in \.json"):
        CampaignJob((source,), tmp_path / "a.txt", tmp_path / "r.jsonl")
    with pytest.raises(ValueError, match="engine is 'steam', expected one of local, ray"):
        CampaignJob((source,), tmp_path / "a.json", tmp_path / "r.jsonl", engine="steam")


def test_metadata_is_kept_as_keyed_hashes_and_only_with_a_key(rows, tmp_path: Path, bundle_folder: Path):
    told = [{**row, "ip": f"192.0.2.{index % 7}"} for index, row in enumerate(rows)]
    days = [write(tmp_path / f"{day}.jsonl", told[day::2]) for day in (0, 1)]
    key = tmp_path / "key"
    key.write_text("a secret of some length")
    open_, keyed = tmp_path / "open", tmp_path / "keyed"
    outcome, document, _ = inquire(days[:1], tmp_path / "one", bundle_folder, archive=open_)
    n_accounts = document["n_accounts"]
    assert document["n_accounts_with"] == {"ip": n_accounts}
    assert f"ip of {n_accounts} accounts" in summary_text(outcome, 1.0)
    assert not list(open_.glob("metadata*"))
    inquire(days[:1], tmp_path / "two", bundle_folder, archive=keyed, metadata_key=key)
    inquire(days, tmp_path / "three", bundle_folder, archive=keyed, metadata_key=key)
    stored = pq.read_table(keyed / "metadata-000002.parquet")
    assert len(list(keyed.glob("metadata*"))) == 1
    assert len(set(stored.column("value").to_pylist())) == 7
    for file in (*keyed.iterdir(), *(tmp_path / "three").iterdir()):
        assert b"192.0.2" not in file.read_bytes()
    with pytest.raises(ValueError, match="expected --metadata-key with the same one"):
        inquire(days, tmp_path / "four", bundle_folder, archive=keyed)


def test_a_table_of_accounts_is_metadata_too(rows, tmp_path: Path, bundle_folder: Path):
    (tmp_path / "accounts.csv").write_text(f"account_id,card_fingerprint\n{rows[0]['account_id']},x\nstranger,x\n")
    source = write(tmp_path / "x.jsonl", rows[:40])
    _, document, _ = inquire([source], tmp_path / "o", bundle_folder, metadata=(tmp_path / "accounts.csv",))
    assert document["n_accounts_with"] == {"payment": 1}


def test_a_job_that_stopped_goes_on_to_the_same_bytes(
    rows, tmp_path: Path, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    source = write(tmp_path / "x.jsonl", [*rows, {"prompt": "secret words"}])
    inquire([source], tmp_path / "whole", bundle_folder)
    work = tmp_path / "parts" / "_campaigns.json.work"

    def stop(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as stopped:
        stopped.setattr("serve.campaigns.job.find", stop)
        with pytest.raises(OSError, match="the disk is full"):
            inquire([source], tmp_path / "parts", bundle_folder)
    assert work.is_dir()
    with monkeypatch.context() as read:
        read.setattr("serve.campaigns.job.SketchTask.run", stop)
        read.setattr("serve.campaigns.job.ReadTask.run", stop)
        inquire([source], tmp_path / "parts", bundle_folder, resume=True)
    assert not work.exists()
    for name in ("campaigns.json", "members.parquet", "rejects.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_another_job_left_is_not_gone_on_with(rows, tmp_path: Path, bundle_folder: Path, monkeypatch):
    def stop(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as stopped:
        stopped.setattr("serve.campaigns.job.find", stop)
        with pytest.raises(OSError, match="the disk is full"):
            inquire([write(tmp_path / "x.jsonl", rows[:40])], tmp_path / "out", bundle_folder)
    with pytest.raises(ValueError, match="was begun with another input"):
        inquire([write(tmp_path / "x.jsonl", rows[:80])], tmp_path / "out", bundle_folder, resume=True)


def test_an_archive_of_another_bundle_is_refused(rows, tmp_path: Path, bundle_folder: Path):
    archive = tmp_path / "archive"
    source = write(tmp_path / "x.jsonl", rows[:40])
    inquire([source], tmp_path / "one", bundle_folder, archive=archive)
    listed = json.loads((archive / "archive.json").read_text())
    (archive / "archive.json").write_text(json.dumps(listed | {"bundle": "another"}))
    with pytest.raises(ValueError, match="made with bundle another"):
        inquire([source], tmp_path / "two", bundle_folder, archive=archive)
