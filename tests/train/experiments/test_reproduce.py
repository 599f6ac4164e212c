"""Reproduction: a tracked run's bundle comes out the same, and a record that was changed is found out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from train.config.settings import Settings, TrackingSettings
from train.experiments import reproduce as module
from train.experiments.reproduce import differences, main
from train.experiments.run import run
from train.tracking import mlflow_runs as tracking


@pytest.fixture(scope="module")
def run_id(tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("reproduce")
    (folder / "mlruns").mkdir()
    shutil.copy(empty_store, folder / "mlruns" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        outcome = run(replace(tiny_settings, tracking=TrackingSettings(keep_bundle=True)))
        assert outcome is not None
        assert outcome.run_id is not None
        yield outcome.run_id


def test_a_tracked_run_is_whole_and_gives_the_same_bundle_again(
    run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tracking.downloaded(f"runs:/{run_id}/bundle")
    assert kept.joinpath("manifest.json").is_file()
    client = tracking.client()
    assert len(client.get_metric_history(run_id, "left_out.tpr_by_exchanges")) >= 1
    names = {entry.path for entry in client.list_artifacts(run_id, "figures")}
    assert {f"figures/{name}.png" for name in ("roc", "det", "lengths", "scores", "calibration", "families")} <= names
    children = [
        entry for entry in client.search_runs([client.get_run(run_id).info.experiment_id])
        if entry.data.tags.get("mlflow.parentRunId") == run_id
    ]  # fmt: skip
    assert sorted(entry.info.run_name for entry in children) == ["inner fold 0", "inner fold 1"]
    steps = client.get_metric_history(children[0].info.run_id, "left_out.mean_tpr_by_round")
    assert [entry.step for entry in steps][-1] == 12
    provenance = tracking.read_json(run_id, "provenance.json")
    assert set(provenance["data"]) >= {"katas", "forum"}
    assert provenance["packages"]["numpy"]
    before = sorted(path.name for path in Path("mlruns/bundles").iterdir())
    assert main([run_id]) == 0
    assert capsys.readouterr().out.startswith("same: was ")
    assert sorted(path.name for path in Path("mlruns/bundles").iterdir()) == before


def test_a_bundle_that_is_another_is_told(
    run_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "tag_of", lambda run_id, tag: "0123456789abcdef")
    assert main([run_id]) == 1
    assert "NOT the same: was 0123456789abcdef" in capsys.readouterr().out


def test_a_run_that_is_not_there_is_named(run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere"]) == 2
    assert capsys.readouterr().err == "reproduce: there is no run nowhere\n"


def test_differences_are_named_by_their_place() -> None:
    before = {"python": "3.11", "packages": {"numpy": "1", "scipy": "2"}, "data": {"katas": "a"}}
    now = {"python": "3.11", "packages": {"numpy": "2", "scipy": "2"}, "data": {"katas": "a", "maths": "b"}}
    assert differences(before, now) == ["data.maths was None, is b", "packages.numpy was 1, is 2"]
    assert differences(before, before) == []
    assert module.Proof("a", "a", ()).holds
