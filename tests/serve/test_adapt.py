"""Adapting: own accounts on two sides, thresholds that hold on new people, and traffic that is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from serve import adapt as module
from serve.adapt import MIN_ACCOUNTS, adapt
from serve.bundle import Bundle, BundleError
from serve.cli import main
from serve.progress import Progress
from serve.scorer import Scorer
from serve.session import Exchange, Session

QUIET = Progress(io.StringIO())
TOPICS = ("soup", "lemon", "onion", "bread", "rice", "garden", "window", "train", "bridge", "river")


def asked(rng: np.random.Generator) -> str:
    """A kind of traffic that the bundle has not seen: terse orders."""
    first, second = rng.choice(TOPICS, 2, replace=False)
    return f"order {rng.integers(2, 99)} {first} with {second}"


def write(path: Path, n_accounts: int, n_sessions: int = 4, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    rows = [
        {"account_id": f"own-{seed}-{account}", "session_id": f"{account}/{session}", "prompt": asked(rng)}
        for account in range(n_accounts)
        for session in range(n_sessions)
        for _ in range(int(rng.integers(4, 14)))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny bundle learned labels that mean nothing, and finds anything harvesting."""
    monkeypatch.setattr(module, "MAX_FLAGGED", 1.0)
    monkeypatch.setattr(module, "_N_WINDOWS", 150)


def test_the_threshold_holds_on_people_it_never_saw(bundle_folder: Path, tmp_path: Path) -> None:
    made = adapt([write(tmp_path / "own.jsonl", 120)], tmp_path / "adapted", bundle_folder, QUIET, fpr=0.05)
    scorer = Scorer(Bundle.load(made.folder))
    assert (scorer.fpr, made.n_accounts, made.bundle_id) == (0.05, 120, scorer.bundle.bundle_id)
    rng = np.random.default_rng(9)
    fresh = [
        Session(f"s{i}", f"new-{i}", tuple(Exchange(asked(rng)) for _ in range(int(rng.integers(4, 14)))))
        for i in range(300)
    ]
    flagged = sum(verdict.is_harvesting for verdict in scorer.score_many(fresh))
    assert flagged <= 300 * 0.05 + 4 * np.sqrt(300 * 0.05 * 0.95)
    assert made.flagged_after <= 0.1


def test_the_manifest_says_from_what_and_the_rows_go_on(bundle_folder: Path, tmp_path: Path) -> None:
    own = write(tmp_path / "own.jsonl", 60)
    first = adapt([own], tmp_path / "a", bundle_folder, QUIET, fpr=0.05)
    again = adapt([own], tmp_path / "b", bundle_folder, QUIET, fpr=0.05)
    assert first.bundle_id == again.bundle_id
    old, new = Bundle.load(bundle_folder), Bundle.load(tmp_path / "a")
    assert new.manifest["data"]["adapted"]["from"] == old.bundle_id
    assert new.training_rows().num_rows == old.training_rows().num_rows + first.n_learned


@pytest.mark.parametrize(
    ("n_accounts", "fpr", "said"),
    [
        (MIN_ACCOUNTS - 1, 0.05, "accounts, expected at least 40"),
        (60, 0.001, "of like size are there to calibrate on, expected at least 1000"),
        (60, 0.7, "expected a share above 0 and below 0.5"),
    ],
)
def test_too_little_traffic_is_refused(
    bundle_folder: Path, tmp_path: Path, n_accounts: int, fpr: float, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        adapt([write(tmp_path / "own.jsonl", n_accounts)], tmp_path / "adapted", bundle_folder, QUIET, fpr=fpr)
    assert not (tmp_path / "adapted").exists()


def test_a_folder_that_is_there_and_a_bundle_that_is_none_are_refused(bundle_folder: Path, tmp_path: Path) -> None:
    own = write(tmp_path / "own.jsonl", 50)
    with pytest.raises(ValueError, match="is there already"):
        adapt([own], tmp_path, bundle_folder, QUIET)
    with pytest.raises(BundleError):
        adapt([own], tmp_path / "adapted", tmp_path, QUIET)


def test_harvesting_is_nothing_to_adapt_to(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "MAX_FLAGGED", -1.0)  # so that what is flagged at all is too much
    own, out = str(write(tmp_path / "own.jsonl", 60)), str(tmp_path / "adapted")
    assert main(["adapt", own, "--out", out, "--bundle", str(bundle_folder), "--fpr", "0.05"]) == 2
    assert "traffic to adapt to must be benign" in capsys.readouterr().err
    assert not Path(out).exists()
