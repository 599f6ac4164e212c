"""A red team's numbers follow from the sessions it sent; its price is counted, not said."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from serve.scoring.scorer import Scorer
from tests.conftest import draw_sessions
from train.experiments.redteam import Result, attack, main, read_held, redteam_table
from train.synthesis.evasions import EVASIONS


@pytest.fixture
def traffic(tmp_path: Path) -> Path:
    """Held-out traffic as training writes it: every third session harvesting, of 8 exchanges."""
    labels, rows = [], []
    for index, session in enumerate(draw_sessions(60, seed=3, sizes=(8,))):
        is_harvest = index % 3 == 0
        labels.append({
            "session_id": session.session_id, "account_id": session.account_id, "dilution": 0.0, "n_exchanges": 8,
            "label": "harvesting" if is_harvest else "organic", "campaign": f"c{index % 2}",
        })  # fmt: skip
        rows += [
            {"session_id": session.session_id, "account_id": session.account_id, "at": float(turn), "prompt": e.prompt}
            for turn, e in enumerate(session.exchanges)
        ]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels))
    with gzip.open(tmp_path / "exchanges.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return tmp_path


def test_sessions_are_read_by_campaign_and_cover_sets_no_threshold(traffic: Path) -> None:
    held = read_held(traffic, n_exchanges=8, n_sessions=100)
    assert {name: len(own) for name, own in held.campaigns.items()} == {"c0": 10, "c1": 10}
    assert len(held.benign) == len(held.cover) == 20
    assert not set(held.benign) & set(held.cover)
    with pytest.raises(ValueError, match="0 undiluted harvesting sessions of 9 exchanges"):
        read_held(traffic, n_exchanges=9, n_sessions=100)


def test_prices_are_those_of_what_was_sent(traffic: Path, tiny_scorer: Scorer) -> None:
    held = read_held(traffic, n_exchanges=8, n_sessions=100)
    results = {result.name: result for result in attack(held, EVASIONS, tiny_scorer, seed=0)}
    assert (results["nothing"].prompts, results["nothing"].accounts) == (1.0, 1.0)
    assert results["dilution 75%"].prompts == pytest.approx(4.0)
    assert results["split over 2"].accounts == 2.0
    assert results["paraphrase"].calls == 1.0
    assert results["jitter"].tpr == results["nothing"].tpr  # times are no evidence within a session
    assert results["nothing"].lost == results["nothing"].flagged


def test_the_table_names_the_worst_and_the_fall_under_the_surface_attack() -> None:
    results = [
        Result("nothing", 9, 0.9, 0.8, 0.8, 1.0, 1.0, 0.0),
        Result("surface", 9, 0.86, 0.8, 0.8, 1.0, 1.0, 0.0),
        Result("dilution 95%", 9, 0.01, 0.0, 0.0, 20.0, 1.0, 0.0),
    ]
    assert "Worst: dilution 95%, TPR 0.010." in redteam_table(results)
    assert "TPR falls by 0.040." in redteam_table(results)


def test_the_command_writes_table_numbers_and_curve(
    traffic: Path, bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["--bundle", str(bundle_folder), "--traffic", str(traffic), "--out", str(tmp_path / "out"), "--untracked"]
    assert main([*wanted, "--exchanges", "8"]) == 0
    assert "Worst:" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"redteam.md", "redteam.json", "redteam.svg"}
    assert "<svg" in (tmp_path / "out" / "redteam.svg").read_text()
    assert main(wanted) == 2
    assert "expected some of both" in capsys.readouterr().err
