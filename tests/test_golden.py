"""The whole path, from a file of exchanges to verdicts, pinned with the released bundle.

After a new release: `pytest tests/test_golden.py --regenerate-golden`, and look at what changed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from serve.cli import main
from serve.scoring.explanation import Explanation
from serve.scoring.scorer import Scorer
from serve.scoring.verdict import Verdicts
from serve.sessions.records import Exchange, Session

GOLDEN = Path(__file__).parent / "golden"
EXCHANGES = GOLDEN / "exchanges.jsonl"
NAMES = ("verdicts.jsonl", "accounts.jsonl", "rejects.jsonl")
CPUINFO = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, released_scorer: Scorer) -> Path:
    """The folder of what `stillwatch score` makes of the golden exchanges."""
    folder = tmp_path_factory.mktemp("golden")
    verdicts, accounts, rejects = (str(folder / name) for name in NAMES)
    with pytest.MonkeyPatch.context() as here:
        here.chdir(GOLDEN)  # rejects name the file as it was given
        written = ["--out", verdicts, "--accounts", accounts, "--rejects", rejects]
        assert main(["score", EXCHANGES.name, *written, "--workers", "1"]) == 0
    return folder


@pytest.fixture(scope="module")
def golden(judged: Path, released_scorer: Scorer, request: pytest.FixtureRequest) -> Path:
    """The golden folder, of this bundle."""
    if request.config.getoption("--regenerate-golden"):
        for name in NAMES:
            shutil.copy(judged / name, GOLDEN / name)
    bundle = {row["bundle"] for row in rows(GOLDEN / "verdicts.jsonl")}
    if bundle != {released_scorer.bundle.bundle_id}:
        pytest.fail(
            f"the golden verdicts are of bundle {bundle}, the released one is {released_scorer.bundle.bundle_id}: "
            "pytest tests/test_golden.py --regenerate-golden"
        )
    return GOLDEN


def close(found: object, expected: object) -> bool:
    """Equal, numbers up to what another processor's exp() may change."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        return found.keys() == expected.keys() and all(close(found[key], expected[key]) for key in expected)
    if isinstance(expected, list) and isinstance(found, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    if isinstance(expected, float) and isinstance(found, int | float):
        return found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    return found == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_what_it_was(judged: Path, golden: Path, name: str) -> None:
    found, expected = rows(judged / name), rows(golden / name)
    assert len(found) == len(expected)
    assert [row for row, other in zip(found, expected, strict=True) if not close(row, other)] == []


@pytest.mark.skipif(platform.machine() != "x86_64", reason="forces instructions of x86-64")
@pytest.mark.skipif(
    "avx512f" in CPUINFO, reason="there numpy's exp() and log() differ from other machines' in a last bit"
)
def test_older_instructions_give_the_same_bits(judged: Path, tmp_path: Path) -> None:
    older = {"NPY_DISABLE_CPU_FEATURES": "X86_V3", "OPENBLAS_CORETYPE": "Prescott"}
    command = [sys.executable, "-m", "serve.cli", "score", str(EXCHANGES), "--out", str(tmp_path / NAMES[0])]
    subprocess.run(command, env=os.environ | older, check=True, capture_output=True)
    assert (tmp_path / NAMES[0]).read_bytes() == (judged / NAMES[0]).read_bytes()


def test_rejects_are_counted_with_their_lines_and_never_quoted(golden: Path) -> None:
    lines = EXCHANGES.read_text(encoding="utf-8").splitlines()
    rejects = rows(golden / "rejects.jsonl")
    assert len(rejects) == 4
    for reject in rejects:
        assert '"bad"' in lines[reject["line"] - 1] or lines[reject["line"] - 1] == "not json"
        assert "half" not in json.dumps(reject)


def test_scoring_in_process_says_the_same_to_the_last_bit(judged: Path, released_scorer: Scorer) -> None:
    """One session with `score`, all with `score_many`, and the file: bit for bit."""
    given: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in EXCHANGES.read_text(encoding="utf-8").splitlines():
        row = json.loads(line) if line.startswith("{") else {}
        if row.get("session_id") and row["account_id"] != "no-times":
            given.setdefault((row["account_id"], row["session_id"]), []).append(row)
    sessions = [
        Session(
            session,
            account,
            tuple(Exchange(row["prompt"], row["at"]) for row in sorted(own, key=lambda row: row["at"])),
        )
        for (account, session), own in given.items()
    ]
    filed = {(row["account_id"], row["session_id"]): row for row in rows(judged / "verdicts.jsonl")}
    assert len(sessions) >= 15
    for session, verdict in zip(sessions, released_scorer.score_many(sessions), strict=True):
        assert released_scorer.score(session) == verdict
        row = filed[(session.account_id, session.session_id)]
        for name in ("n_exchanges", "score", "p_value", "label", "threshold", "bundle", "coverage", "area_share"):
            assert row[name] == getattr(verdict, name), name


def test_the_file_has_the_columns_of_a_verdict(judged: Path) -> None:
    expected = {name for name in Verdicts.__dataclass_fields__ if name not in ("areas", "features")}
    expected = expected - {"explanations"} | {field.name for field in dataclasses.fields(Explanation)}
    renamed = {"session_ids": "session_id", "account_ids": "account_id"}
    assert {renamed.get(name, name) for name in expected} == set(rows(judged / "verdicts.jsonl")[0])
