"""Demo: sample traffic through the command's own path, judged by two bundles side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from train.config.settings import Settings
from train.corpora.loading import CorporaSettings, load_pool
from train.experiments import demo
from train.learning.bundling import BundlingSettings


@pytest.fixture
def staged(
    tiny_settings: Settings, copied_bundle: Callable[[], Path], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A workplace with a trained bundle and another one as the released."""
    (workplace / "mlruns" / "bundles").mkdir(parents=True)
    copied_bundle().rename(workplace / "mlruns" / "bundles" / "trained")
    monkeypatch.setattr(demo, "RELEASED", copied_bundle())
    folder = CorporaSettings(dir=tiny_settings.corpora.dir, starter=False)
    monkeypatch.setattr(demo, "load_pool", lambda settings, *, seed: load_pool(folder, seed=seed))
    monkeypatch.setattr(demo, "N_SESSIONS", 24)
    return workplace


def test_both_bundles_judge_the_same_traffic(staged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main() == 0
    said = capsys.readouterr().out
    for word in (
        "in truth",
        "trained",
        "released",
        "harvesting",
        "organic",
        "mlruns/reports/trained.html",
        "mlflow ui",
    ):
        assert word in said
    verdicts = [demo.rows(staged / ".demo" / f"{name}.jsonl") for name in ("trained", "released")]
    assert len(verdicts[0]) == 24
    assert verdicts[0] == verdicts[1]


def test_without_a_trained_bundle_it_says_what_to_do(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "BundlingSettings", lambda: BundlingSettings("none"))
    assert demo.main() == 2
    assert "expected one: python -m train" in capsys.readouterr().out


def test_the_table_shows_some_of_every_kind_and_dilution() -> None:
    labels = {
        f"session-{i:06d}": {"label": label, "kind": kind, "dilution": dilution, "n_exchanges": 9}
        for i, (label, kind, dilution) in enumerate(
            [("harvesting", "harvest", 0.0), ("harvesting", "harvest", 0.9), ("organic", "person", 0.0)] * 20
        )
    }
    verdict = {"label": "organic", "score": 0.25, "p_value": 0.5, "bundle": "b"}
    judging = demo.Judging("trained", Path(), dict.fromkeys(labels, verdict))
    console = Console(width=110, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(demo.verdict_table(labels, [judging]))
    text = console.export_text()
    for word in ("harvesting, 0% cover", "harvesting, 90% cover", "person", "organic 0.25 0.500"):
        assert word in text
    assert demo.tally(labels, judging) == (
        "trained   bundle b flags 0 of 40 harvesting sessions and 0 of 20 organic sessions"
    )
