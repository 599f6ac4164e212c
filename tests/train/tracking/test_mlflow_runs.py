"""Tracking: every run has an end that tells what happened; processes that share a store don't disturb each other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from train.tracking import mlflow_runs as tracking
from train.tracking.mlflow_runs import child, connect, end_dead_runs, tracked
from train.tracking.provenance import ROOT
from train.tracking.termination import Terminated

pytestmark = pytest.mark.usefixtures("store")


def runs(experiment: str = "tests") -> dict[str, Run]:
    """Runs by name."""
    connect(experiment)
    found = mlflow.search_runs(experiment_names=[experiment], output_format="list")
    return {run.info.run_name: run for run in found}


def test_a_run_that_ends_well_has_its_parameters_metrics_and_files() -> None:
    with tracked("good", "tests", {"seed": 3, "corpora.dir": None}, {"settings_digest": "abc"}) as run_id:
        tracking.log_metrics({"auroc": 0.9, "missing": float("nan")})
        tracking.log_curve("tpr", [1, 5, 9], [0.1, 0.2, 0.4])
        tracking.log_data("katas", "d1gest", "learning")
        tracking.log_json({"seed": 3}, "settings.json")
        with child("fold 0", {"held": "katas"}):
            tracking.log_metrics({"auroc": 0.8})
    found = runs()
    good, fold = found["good"], found["fold 0"]
    assert good.info.run_id == run_id
    assert good.info.status == "FINISHED"
    assert good.data.params == {"seed": "3", "corpora.dir": "None"}
    assert good.data.metrics["auroc"] == 0.9
    assert "missing" not in good.data.metrics
    assert good.data.metrics["usage.peak_mib"] > 10
    assert [(m.step, m.value) for m in tracking.client().get_metric_history(run_id, "tpr")] == [
        (1, 0.1),
        (5, 0.2),
        (9, 0.4),
    ]
    assert [(entry.dataset.name, entry.dataset.digest) for entry in good.inputs.dataset_inputs] == [("katas", "d1gest")]
    assert tracking.read_json(run_id, "settings.json") == {"seed": 3}
    assert fold.data.tags["mlflow.parentRunId"] == run_id
    assert fold.info.status == "FINISHED"
    assert fold.data.metrics == {"auroc": 0.8}
    assert fold.data.params == {"held": "katas"}


@pytest.mark.parametrize(
    ("fault", "status"),
    [(ValueError("no such corpus"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (Terminated(143), "KILLED")],
)
def test_a_run_that_dies_says_so_and_so_does_its_child(fault: BaseException, status: str) -> None:
    with pytest.raises(type(fault)), tracked("bad", "tests", {}, {}), child("fold"):
        raise fault
    for run in runs().values():
        assert run.info.status == status
        assert run.data.tags["error"].startswith(type(fault).__name__)
    assert mlflow.active_run() is None


def test_sigterm_ends_the_run_as_killed() -> None:
    with pytest.raises(SystemExit, match="143"), tracked("terminated", "tests", {}, {}):
        signal.raise_signal(signal.SIGTERM)
    assert runs()["terminated"].info.status == "KILLED"


def test_a_run_whose_process_is_gone_is_marked_failed_by_the_next_one() -> None:
    experiment = connect("tests")
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    host = os.uname().nodename
    for name, owner in (
        ("dead", f"{host}:{gone.stdout.strip()}"),
        ("alive", f"{host}:{os.getpid()}"),
        ("far", "mars:1"),
    ):
        tracking.client().create_run(experiment, tags={"stillwatch.process": owner}, run_name=name)
    end_dead_runs(experiment)
    found = runs()
    assert found["dead"].info.status == "FAILED"
    assert found["dead"].data.tags["error"] == "the process was killed"
    assert {found["alive"].info.status, found["far"].info.status} == {"RUNNING"}


def test_without_an_open_run_nothing_is_logged_anywhere() -> None:
    with child("fold"):
        tracking.log_metrics({"x": 1.0})
        tracking.log_tags({"x": "1"})
        tracking.log_text("x", "x.txt")
        tracking.log_parameters({"x": 1})
    assert mlflow.active_run() is None
    assert runs() == {}


def test_a_run_is_found_again_by_its_digest_only_once_it_has_finished() -> None:
    with tracked("first", "tests", {}, {"settings_digest": "abc"}):
        assert not tracking.has_finished("tests", "settings_digest", "abc")
    assert tracking.has_finished("tests", "settings_digest", "abc")
    assert not tracking.has_finished("tests", "settings_digest", "other")


def test_an_earlier_run_goes_on_under_its_id() -> None:
    with pytest.raises(ValueError, match="half-way"), tracked("search", "tests", {"n": 1}, {}) as first:
        raise ValueError("half-way")
    with tracked("search", "tests", {"n": 2}, {}, run_id=first) as second:
        pass
    assert first == second
    assert runs()["search"].info.status == "FINISHED"


def test_what_is_not_there_is_named() -> None:
    connect("tests")
    with pytest.raises(ValueError, match="there is no run nowhere"):
        tracking.tag_of("nowhere", "bundle_id")
    with pytest.raises(ValueError, match=r"run nowhere has no settings\.json"):
        tracking.read_json("nowhere", "settings.json")
    with tracked("bare", "tests", {}, {}) as run_id:
        pass
    with pytest.raises(ValueError, match=f"run {run_id} has no tag 'bundle_id'"):
        tracking.tag_of(run_id, "bundle_id")


def test_artifacts_lie_below_mlruns_artifacts(store: Path) -> None:
    with tracked("files", "tests", {}, {}):
        tracking.log_text("hello", "note.txt")
    assert [path.read_text() for path in (store / "mlruns" / "artifacts").rglob("note.txt")] == ["hello"]


N_WORKERS, N_FOLDS = 2, 3
WRITER = """
import sys
from train.tracking import mlflow_runs as tracking
with tracking.tracked(sys.argv[1], "parallel", {"seed": 1}, {}):
    for step in range(3):
        tracking.log_metrics({"value": float(step)}, step)
        with tracking.child(f"{sys.argv[1]} fold {step}"):
            tracking.log_metrics({"value": 1.0})
"""


def test_parallel_processes_share_one_store_from_the_first_moment_on(store: Path) -> None:
    """The store doesn't even exist when they start: tables and experiment are made once, and nothing is lost."""
    (store / "mlruns" / "mlflow.db").unlink()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", WRITER]
    workers = [
        subprocess.Popen([*command, f"worker {n}"], cwd=store, env=environment, stderr=subprocess.PIPE, text=True)
        for n in range(N_WORKERS)
    ]
    assert [(worker.communicate(timeout=120)[1][-500:], worker.returncode) for worker in workers] == [
        ("", 0)
    ] * N_WORKERS
    found = runs("parallel")
    assert len(found) == N_WORKERS * (1 + N_FOLDS)
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert all(
        len(tracking.client().get_metric_history(found[f"worker {n}"].info.run_id, "value")) == N_FOLDS
        for n in range(N_WORKERS)
    )
