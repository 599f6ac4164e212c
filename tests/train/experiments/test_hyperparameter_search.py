"""Study: a search goes on where it stopped, prunes what isn't worth it, and forgets no trial."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import mlflow
import optuna
import pytest
from optuna.trial import TrialState

from train.config.search import SearchSettings
from train.config.settings import Goal, Settings, SettingsError, TrackingSettings
from train.experiments import hyperparameter_search as module
from train.experiments.hyperparameter_search import n_ended, open_study, search, search_text

SPACE = {
    "classifier.num_leaves": {"low": 3, "high": 20, "whole": True},
    "classifier.learning_rate": {"low": 0.01, "high": 0.3, "log": True},
}


@pytest.fixture
def settings(tiny_settings: Settings, workplace: Path) -> Settings:
    return replace(tiny_settings, search=SearchSettings("tiny", n_trials=3, n_startup=2, dimensions=SPACE))


def test_the_first_trial_is_the_settings_as_they_are(settings: Settings) -> None:
    found = search(settings)
    assert found.trials[0].params == {
        "classifier.num_leaves": settings.classifier.num_leaves,
        "classifier.learning_rate": settings.classifier.learning_rate,
    }
    assert n_ended(found) == 3
    assert 0.0 <= found.best_value <= 1.0
    assert "study tiny: 3 trials ended" in search_text(found)
    assert "classifier.num_leaves=" in search_text(found)


def test_a_search_that_was_killed_goes_on(settings: Settings) -> None:
    started = open_study(replace(settings))
    dead = started.ask()
    dead.set_user_attr("process", f"{os.uname().nodename}:999999999")
    search(replace(settings, search=replace(settings.search, n_trials=2)))
    found = search(settings)
    assert found.trials[dead.number].state is TrialState.FAIL
    assert n_ended(found) == 3
    again = search(settings)
    assert len(again.trials) == len(found.trials)


def test_a_trial_of_a_process_that_lives_is_left_alone(settings: Settings) -> None:
    started = open_study(settings)
    running = started.ask()
    running.set_user_attr("process", f"{os.uname().nodename}:{os.getpid()}")
    search(settings)
    assert open_study(settings).trials[running.number].state is TrialState.RUNNING


def test_a_trial_that_lags_behind_is_pruned(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = iter([0.9, 0.9, 0.8, 0.8, 0.1])
    monkeypatch.setattr(module, "mean_tpr", lambda table, margins: next(marks, 0.5))
    wanted = replace(settings.search, n_trials=3, n_startup=1)
    found = search(replace(settings, model=replace(settings.model, n_inner_folds=2), search=wanted))
    assert TrialState.PRUNED in {trial.state for trial in found.trials}


def test_two_processes_share_the_work(settings: Settings) -> None:
    wanted = replace(settings.search, n_trials=4, n_workers=2)
    found = search(replace(settings, search=wanted))
    assert n_ended(found) >= 4
    assert all(trial.state is not TrialState.RUNNING for trial in found.trials)


def test_trials_are_children_of_the_search(settings: Settings, store: Path) -> None:
    search(replace(settings, tracking=TrackingSettings(experiment="tests")))
    found = mlflow.search_runs(experiment_names=["tests"], output_format="list")
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.run_name for run in parents] == ["search tiny"]
    trials = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(trials) == 3
    assert {run.info.status for run in found} == {"FINISHED"}
    assert all("classifier.num_leaves" in run.data.params for run in trials)
    assert max(run.data.metrics["mean_tpr"] for run in trials) == parents[0].data.metrics["best.mean_tpr"]


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "search.dimensions is empty"),
        ({"classifier.num_leafs": SPACE["classifier.num_leaves"]}, "did you mean 'classifier.num_leaves'"),
        ({"classifier.num_leaves": {"min": 3}}, "expected some of choices"),
    ],
)
def test_a_search_of_nothing_is_refused_before_any_work(
    settings: Settings, space: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        search(replace(settings, search=replace(settings.search, dimensions=space)))
    assert not module.STORE.exists()


def test_the_exam_is_nothing_to_search_on(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="a search learns on one split"):
        search(replace(settings, goal=Goal.exam))
    assert isinstance(optuna.logging.get_verbosity(), int)
