"""The files of ../shared/cases: what `stillwatch score` makes of each, as the table there says; skipped if absent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from serve.cli import main

INPUTS = Path(__file__).parents[2] / ".." / "shared" / "cases" / "inputs"
pytestmark = pytest.mark.skipif(not INPUTS.is_dir(), reason="../shared/cases/inputs is not there")

NOON = "2026-01-01T00:00:00.000Z"
UNTIMED: str | None = None
ALL = ("a", 6, NOON)


@dataclass(frozen=True)
class Case:
    """What must come out: verdicts as (account, exchanges, start), the exit code, and texts of the summary."""

    verdicts: tuple[tuple[str, int, str | None], ...] = (ALL,)
    code: int = 0
    shown: tuple[str, ...] = ()
    altered: int = 0


UNREADABLE = "times that can't be read, left out"
TABLE = "read as a table with its own columns"
CASES = {
    "array.json": Case((("a", 3, UNTIMED),), shown=(TABLE,)),
    "b01_bom.jsonl": Case(),
    "b02_crlf.jsonl": Case(),
    "b03_cr_only.jsonl": Case(),
    "b04_utf16.jsonl": Case(),
    "b05_bigint_at.jsonl": Case((("a", 7, NOON),), shown=(f"1 {UNREADABLE}",)),
    "b06_bigint_other.jsonl": Case((("a", 1, UNTIMED), ALL)),
    "b08_epoch_ms.jsonl": Case(shown=("6 times in milliseconds",)),
    "b10_epoch_str.jsonl": Case(shown=("6 times in seconds as text",)),
    "b11_mixed_tz.jsonl": Case(),
    "b12_other_dates.jsonl": Case(shown=("3 times in other forms than ISO 8601",)),
    "b13_null_session.jsonl": Case(),
    "b14_numeric_ids.jsonl": Case((("42", 6, NOON),)),
    "b15_ws_ids.jsonl": Case(
        (("A", 1, "2026-01-01T00:02:00.000Z"), ("a", 3, NOON), ("é", 1, "2026-01-01T00:05:00.000Z")),
        3,
        ("1 account_id is missing",),
    ),
    "b17_unicode.jsonl": Case(),
    "b19_nul.jsonl": Case((("a", 7, NOON),), shown=("1 prompts with NULs or lone surrogates, replaced",), altered=1),
    "b22_prompt_120k.jsonl": Case((("a", 7, NOON),), shown=("1 prompts cut to 100,000 characters",)),
    "b23.jsonl.gz": Case(),
    "b24_trunc.jsonl.gz": Case((), 4, ("can't be read beyond line 0: Compressed file ended",)),
    "b25_notgz.jsonl.gz": Case(),
    "b26.jsonl.zst": Case(),
    "b27.csv": Case(),
    "b28_array.json": Case(),
    "b28_array_renamed.jsonl": Case(),
    "b29_blank.jsonl": Case(()),
    "b29_empty.jsonl": Case(()),
    "b30_zero_rows.parquet": Case(()),
    "b31_empty_groups.parquet": Case(),
    "b32_dict_decimal.parquet": Case((("a", 6, "2026-01-01T00:00:00.250Z"),)),
    "b33_int_account.parquet": Case((("1", 3, UNTIMED), ("2", 3, UNTIMED))),
    "b35_string_view.parquet": Case((("a", 6, UNTIMED),)),
    "b36_binary_prompt.parquet": Case((("a", 6, UNTIMED),)),
    "b37_ns_tz.parquet": Case(),
    "b39_zstd.parquet": Case(),
    "b40_hive": Case((("a/b", 6, NOON),)),
    "b41_mixed": Case(shown=("left out: 1 .csv, 1 .txt",)),
    "b43_upper.JSONL": Case(),
    "b44_negative_nan.jsonl": Case((("a", 4, UNTIMED), ALL), shown=(f"4 {UNREADABLE}",)),
    "b45_deep.jsonl": Case((("a", 1, UNTIMED), ALL)),
    "b47_typo_columns.jsonl": Case(),
    "b49_camel.jsonl": Case(),
    "b50_ts_column.jsonl": Case(tuple(("a", 1, f"2026-01-0{day}T00:00:00.000Z") for day in range(1, 7))),
    "late.jsonl": Case((("x", 1, UNTIMED),), shown=(f"1 {UNREADABLE}",)),
    "nul.jsonl": Case((("evader", 9, UNTIMED),), shown=("9 prompts with hidden characters",), altered=9),
    "system_a.jsonl": Case((("a", 6, UNTIMED),)),
    "system_b.jsonl": Case((("a", 6, UNTIMED),)),
}


@dataclass(frozen=True)
class Judged:
    """What a run left."""

    code: int
    shown: str
    verdicts: list[dict[str, Any]]
    accounts: list[dict[str, Any]]


def judged(source: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> Judged:
    out, accounts = folder / "verdicts.jsonl", folder / "accounts.jsonl"
    code = main(["score", str(source), "--out", str(out), "--accounts", str(accounts), "--workers", "1"])
    return Judged(code, "".join(capsys.readouterr()), _rows(out), _rows(accounts))


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def test_every_file_has_its_case() -> None:
    assert {path.name for path in INPUTS.iterdir()} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_read_as_the_table_says(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case, found = CASES[name], judged(INPUTS / name, tmp_path, capsys)
    assert found.code == case.code, found.shown
    assert {(row["account_id"], row["n_exchanges"], row["started_at"]) for row in found.verdicts} == set(case.verdicts)
    assert len(found.verdicts) == len(case.verdicts)
    for text in case.shown:
        assert text in found.shown
    assert sum(row["altered_prompts"] for row in found.accounts) == case.altered
    assert "Traceback" not in found.shown
    assert "bicycle" not in found.shown
    assert (case.code == 4) != (tmp_path / "verdicts.jsonl").exists()


def test_system_changes_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b").mkdir()
    found = [
        judged(INPUTS / f"system_{name}.jsonl", tmp_path / part, capsys) for name, part in (("a", "."), ("b", "b"))
    ]
    assert found[0].verdicts == found[1].verdicts
