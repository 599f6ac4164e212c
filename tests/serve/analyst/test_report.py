"""The page says what the verdicts say, whatever the accounts are called."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from serve.analyst.rendering import percent, shown_id
from serve.cli import main
from serve.io.writers import writing
from serve.scoring.scorer import Scorer
from serve.sessions.records import Session, Sessions

VOID = {"meta", "link", "br", "img", "input"}
HOSTILE = (
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% for x in y %}",
    "a\u202egnp.exe\x1b[31m",
    "x" * 10_000,
)


class Parsed(HTMLParser):
    """Tags of a page, its text, and the values of its `data` elements by id or class, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.values: dict[str, list[float]] = {}
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "data":
            name = given.get("id") or given.get("class") or ""
            self.values.setdefault(name, []).append(float(given["value"] or "nan"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def judged(tmp_path: Path, sessions: tuple[Session, ...], bundle_folder: Path) -> Path:
    """Exchanges, verdicts and accounts of the tiny sessions, as the command writes them."""
    rows = [
        {"account_id": s.account_id, "session_id": s.session_id, "prompt": e.prompt, "at": e.at}
        for s in sessions
        for e in s.exchanges
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = main(["score", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "v.jsonl"), "--accounts",
                 str(tmp_path / "a.jsonl"), "--bundle", str(bundle_folder)])  # fmt: skip
    assert code == 0
    return tmp_path


def report(folder: Path, bundle: Path, *more: str) -> Parsed:
    out = folder / "report.html"
    assert main(["report", str(folder / "v.jsonl"), "--out", str(out), "--bundle", str(bundle), *more]) == 0
    parsed = Parsed(out.read_text(encoding="utf-8"))
    assert parsed.open == []
    return parsed


def test_numbers_of_the_page_are_those_of_the_files(judged: Path, bundle_folder: Path) -> None:
    shown = report(judged, bundle_folder, "--accounts", str(judged / "a.jsonl")).values
    verdicts, accounts = rows_of(judged / "v.jsonl"), rows_of(judged / "a.jsonl")
    flagged = [row for row in verdicts if row["label"] == "harvesting"]
    assert flagged
    assert shown["n-sessions"] == [len(verdicts)]
    assert shown["n-accounts"] == [len(accounts)]
    assert shown["n-exchanges"] == [sum(row["n_exchanges"] for row in verdicts)]
    assert shown["n-flagged"] == [len(flagged)]
    assert shown["n-flagged-accounts"] == [sum(row["label"] == "harvesting" for row in accounts)]
    assert shown["fpr"] == [0.05]
    assert shown["expected"] == [0.05 * len(verdicts)]
    suspects = [row for row in accounts if row["label"] == "harvesting" or row["flagged_share"]]
    assert shown["p-value"] == sorted(row["p_value"] for row in suspects)
    assert sorted(shown["max-score"]) == sorted(row["max_score"] for row in suspects)
    for name, own in (("area-flagged", flagged), ("area-others", [row for row in verdicts if row not in flagged])):
        n = sum(row["n_exchanges"] for row in own)
        areas = {area for row in verdicts for area in row["area_share"]}
        mixed = [sum(row["n_exchanges"] * row["area_share"].get(area, 0.0) for row in own) / n for area in areas]
        assert sorted(shown[name]) == pytest.approx(sorted(mixed))


def test_every_reason_and_area_of_a_flagged_account_is_there(judged: Path, bundle_folder: Path) -> None:
    shown = report(judged, bundle_folder)
    text = " ".join(shown.text)
    for row in rows_of(judged / "v.jsonl"):
        if row["label"] == "harvesting":
            assert row["account_id"] in text
    contributions = [value for values in shown.values.values() for value in values]
    clearest = min(rows_of(judged / "v.jsonl"), key=lambda row: (row["p_value"], -row["score"]))
    for reason in clearest["reasons"]:
        assert reason["sentence"] in text
        assert reason["contribution"] in contributions


def test_exchanges_add_a_map_and_no_prompt(judged: Path, bundle_folder: Path, sessions: tuple[Session, ...]) -> None:
    shown = report(judged, bundle_folder, "--exchanges", str(judged / "in.jsonl"))
    text = " ".join(shown.text)
    assert "Capability map" in text
    assert "Baking" in text  # a skill
    assert all(exchange.prompt not in text for session in sessions for exchange in session.exchanges)


def test_the_page_loads_nothing_and_runs_nothing(judged: Path, bundle_folder: Path) -> None:
    for tag, given in report(judged, bundle_folder, "--exchanges", str(judged / "in.jsonl")).tags:
        assert tag not in {"script", "iframe", "object", "embed", "img", "base", "form"}
        assert not [name for name in given if name.startswith("on") or name in {"src", "style"}]
        assert (given.get("href") or "#").startswith(("#", "data:,"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text(judged: Path, bundle_folder: Path, name: str, tiny_scorer: Scorer) -> None:
    rows = [{**row, "account_id": name, "session_id": name} for row in rows_of(judged / "v.jsonl")]
    (judged / "v.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    member = {"account_id": name, "confidence": 1, "share": 1, "n_exchanges": 1}
    campaign = {
        "campaign_id": name, "confidence": 1, "n_exchanges": 1, "n_harvested": 1, "n_active_days": 1, "dilution": 0,
        "first_at": None, "last_at": None, "areas": {name: 1}, "union_coverage": {}, "growth": {},
        "contributions": {name: 1}, "members": [member],
    }  # fmt: skip
    (judged / "c.json").write_text(
        json.dumps({"n_accounts": 1, "n_exchanges": 1, "note": None, "campaigns": [campaign]})
    )
    shown = report(judged, bundle_folder, "--campaigns", str(judged / "c.json"))
    assert not {tag for tag, _ in shown.tags} & {"script", "img"}
    text = "".join(shown.text)
    assert shown_id(name) in text
    assert all(len(piece) < 400 or " " in piece[:200] for piece in shown.text)
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_long_names_are_told_apart() -> None:
    one, other = shown_id("x" * 10_000), shown_id("x" * 9_999 + "y")
    assert one != other
    assert len(one) < 130
    assert "10,000 characters" in one


@pytest.mark.parametrize("n_rows", [0, 1])
def test_few_verdicts_make_a_page(judged: Path, bundle_folder: Path, n_rows: int) -> None:
    rows = rows_of(judged / "v.jsonl")[:n_rows]
    (judged / "v.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = report(judged, bundle_folder)
    assert shown.values["n-sessions"] == [n_rows]
    assert "nan" not in " ".join(shown.text).lower()


def test_verdicts_of_another_bundle_are_shown_without_its_names(judged: Path) -> None:
    shown = report(judged, Path(__file__).parents[3] / "serve" / "released")
    flagged = [row["p_value"] for row in rows_of(judged / "v.jsonl") if row["label"] == "harvesting"]
    assert shown.values["fpr"] == [max(flagged)]
    assert "benign range" not in " ".join(shown.text)


def test_wrong_requests_end_with_one_line(
    judged: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts, bundle = str(judged / "v.jsonl"), ["--bundle", str(bundle_folder)]
    other = judged / "other.jsonl"
    other.write_text((judged / "a.jsonl").read_text().splitlines()[0] + "\n")
    for arguments, said in (
        (["--out", verdicts], "output file must end in .html"),
        (["--out", str(judged / "r.txt")], "output file must end in .html"),
        (["--out", str(judged / "r.html"), "--accounts", str(judged / "r.html")], "output file lies in the input"),
        (["--out", str(judged / "no" / "r.html")], "there is no folder"),
        (["--out", str(judged / "r.html"), "--accounts", str(other)], "are not those of the verdicts"),
        (["--out", str(judged / "r.html"), "--campaigns", verdicts], "holds no campaigns"),
    ):
        assert main(["report", verdicts, *arguments, *bundle]) == 2
        assert said in capsys.readouterr().err
    assert not (judged / "r.html").exists()


def test_judged_columns_are_read_from_parquet_too(
    tmp_path: Path, sessions: tuple[Session, ...], tiny_scorer: Scorer, bundle_folder: Path
) -> None:
    table = tiny_scorer.judge(Sessions.of(sessions)).table()
    with writing(tmp_path / "v.parquet", table.schema) as writer:
        writer.add(table)
    out = tmp_path / "r.html"
    assert main(["report", str(tmp_path / "v.parquet"), "--out", str(out), "--bundle", str(bundle_folder)]) == 0
    assert Parsed(out.read_text()).values["n-sessions"] == [len(sessions)]


def test_shares_are_told_from_none_and_all() -> None:
    assert [percent(share) for share in (0.0, 0.0001, 0.0123, 0.5, 1.0)] == ["0 %", "< 0.1 %", "1.2 %", "50 %", "100 %"]
