"""Hyperparameter search: settings searched with Optuna; its SQLite file lets a search that was killed go on.

Optuna is used directly: hydra-optuna-sweeper 1.3.0 needs optuna < 3, and has no pruner.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from serve.features.session_features import feature_names
from serve.model.refitting import ClassifierSettings
from train.config.search import dimensions, drawn, replaced
from train.config.settings import Goal, InputSettings, Settings, SettingsError, flat, keys, plain, settings_of
from train.corpora.suggestions import suggestion
from train.evaluation.quality import mean_tpr, rates
from train.inputs.prepared_inputs import prepare
from train.learning import classifier
from train.learning.classifier import joined_margins
from train.learning.model import Recipe, learn_table
from train.learning.table import Table
from train.tracking import mlflow_runs as tracking

STORE = Path("mlruns") / "optuna.db"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
_OWNER, _PARENT = "process", "mlflow_run"


def search(settings: Settings) -> optuna.Study:
    """Go on with the study that the settings name until enough trials have ended; mean TPR is maximised.

    Raises:
        SettingsError: when there is nothing to search, or a dimension is none of the settings.
    """
    _check(settings)
    study = open_study(settings)
    _bury_dead(study)
    if not study.trials:
        values = flat(settings)
        study.enqueue_trial({name: values[name] for name in settings.search.dimensions})
    if settings.tracking.enabled:
        with tracking.tracked(
            f"search {study.study_name}", settings.tracking.experiment, flat(settings), {"study": study.study_name},
            run_id=study.user_attrs.get(_PARENT),
        ) as run_id:  # fmt: skip
            study.set_user_attr(_PARENT, run_id)
            _work_together(study, settings)
            tracking.log_json({"value": study.best_value, **study.best_params}, "best.json")
            tracking.log_metrics({"best.mean_tpr": study.best_value})
    else:
        _work_together(study, settings)
    return study


def _check(settings: Settings) -> None:
    """Refuse what no trial could be made of."""
    if not settings.search.dimensions:
        raise SettingsError("search.dimensions is empty, expected a group such as search=booster")
    if settings.goal is not Goal.bundle:
        raise SettingsError(f"goal is {settings.goal}, expected bundle: a search learns on one split")
    for name in dimensions(settings.search):
        if name not in flat(settings):
            raise SettingsError(f"search.dimensions: there is no setting {name!r}{suggestion(name, keys())}")


def open_study(settings: Settings) -> optuna.Study:
    """The study in the local store, made if it isn't there; refuses nothing and forgets nothing."""
    STORE.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{STORE.resolve()}", engine_kwargs={"connect_args": {"timeout": 120}}
    )
    return optuna.create_study(
        storage=storage,
        study_name=settings.search.study,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=settings.search.n_startup, n_warmup_steps=0),
    )


def n_ended(study: optuna.Study) -> int:
    """Trials that came to an end, pruned ones included."""
    return len(study.get_trials(deepcopy=False, states=ENDED))


def _work_together(study: optuna.Study, settings: Settings) -> None:
    """Run trials here and in as many other processes as the settings want."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "settings.json"
        file.write_text(json.dumps(plain(settings)), encoding="utf-8")
        command = [sys.executable, "-m", "train.experiments.hyperparameter_search", str(file)]
        workers = [
            subprocess.Popen([*command, str(number)])  # noqa: S603 - our own
            for number in range(1, settings.search.n_workers)
        ]
        try:
            _work(study, settings)
        except BaseException:
            for worker in workers:
                worker.terminate()
            raise
        finally:
            for worker in workers:
                worker.wait()


def _work(study: optuna.Study, settings: Settings, *, worker: int = 0) -> None:
    parent = study.user_attrs.get(_PARENT)
    # A study that goes on must not draw what it drew before, nor may two workers draw the same.
    seed = settings.seed + 1000 * worker + len(study.get_trials(deepcopy=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # what constant_liar is called
        study.sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=settings.search.n_startup, constant_liar=settings.search.n_workers > 1
        )
    while n_ended(study) < settings.search.n_trials:
        study.optimize(functools.partial(_trial, settings=settings, parent=parent), n_trials=1)


def _trial(trial: Trial, *, settings: Settings, parent: str | None) -> float:
    """One trial, a child run of the search's."""
    trial.set_user_attr(_OWNER, f"{socket.gethostname()}:{os.getpid()}")
    changes = drawn(settings.search, trial)
    own = settings_of(replaced(plain(settings), changes))
    with tracking.child(f"trial {trial.number}", changes, parent=parent):
        value = _value(trial, own)
        tracking.log_metrics({} if value is None else {"mean_tpr": value})
        tracking.log_tags({"state": "pruned" if value is None else "complete"})
    if value is None:
        raise optuna.TrialPruned
    return value


def _value(trial: Trial, settings: Settings) -> float | None:
    """Mean TPR over all inner folds, or None where the first of them showed that it isn't worth going on."""
    table = _table(settings.inputs, replace(settings.recipe, classifier=ClassifierSettings()))
    names = feature_names(prepare(settings.inputs).capabilities.areas)
    parts, values = [], list[float]()
    for part in classifier.left_out(
        table, names, settings.classifier, n_folds=settings.model.n_inner_folds, seed=settings.seed
    ):
        parts.append(part)
        values.append(mean_tpr(table.where(part.held), part.margins))
        trial.report(float(np.mean(values)), len(parts))
        tracking.log_metrics({"mean_tpr_so_far": float(np.mean(values))}, len(parts))
        if trial.should_prune() and len(parts) < settings.model.n_inner_folds:
            return None
    margins = joined_margins(parts)
    tracking.log_metrics(rates(table, margins))
    return mean_tpr(table, margins)


@functools.lru_cache(maxsize=2)
def _table(settings: InputSettings, recipe: Recipe) -> Table:
    """The training table, which trials that only change the booster share."""
    base = prepare(settings)
    if base.inputs.fold is None:
        raise ValueError("a search learns on one split, expected goal=bundle")
    return learn_table(base.inputs.pool, base.inputs.fold, base.cache, base.inputs.timing, recipe).table


def _bury_dead(study: optuna.Study) -> None:
    """Mark trials of this machine FAIL whose process was killed; they don't count, so others take their place."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _is_dead(trial):
            study.tell(trial.number, state=TrialState.FAIL)


def _is_dead(trial: FrozenTrial) -> bool:
    host, _, process = str(trial.user_attrs.get(_OWNER, "")).rpartition(":")
    return host in ("", socket.gethostname()) and not (process and Path("/proc", process).exists())


def search_text(study: optuna.Study) -> str:
    """What was found, as lines."""
    best = " ".join(f"{name}={value}" for name, value in sorted(study.best_params.items()))
    head = f"study {study.study_name}: {n_ended(study)} trials ended, best mean TPR {study.best_value:.4f} with"
    return f"{head}\n  {best}\n"


def main() -> int:
    """A worker: run trials of the study that a settings file names until there are enough."""
    settings = settings_of(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    if settings.tracking.enabled:
        tracking.connect(settings.tracking.experiment)
    _work(open_study(settings), settings, worker=int(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
