"""Mlflow runs: runs, their children, metrics, figures and files in MLflow. With mlflow_model.py the only mlflow import.

What is logged goes to the run that is open; where none is open, because tracking is off, it goes nowhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import math
import os
import resource
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# To be set before mlflow is imported: no usage reports, no hints that are no part of the story.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
from matplotlib.figure import Figure
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException

from train.encoders.package_versions import versions
from train.tracking import mlflow_model as pyfunc
from train.tracking.termination import Terminated, terminable

STORE = Path("mlruns")
ARTIFACTS = STORE / "artifacts"
_WAIT_SECONDS = 120
"""How long a process waits for others that write to the same SQLite file."""

CODE = Path(__file__).parents[2] / "serve"
MODEL_PACKAGES = (
    "mlflow", "faiss-cpu", "lightgbm", "model2vec", "numpy", "pandas", "pyarrow", "safetensors", "scipy", "tokenizers",
)  # fmt: skip
"""What judging needs, and MLflow to serve it."""

_OWNER = "stillwatch.process"
_PARAMETER_LIMIT = 6000


def connect(experiment: str) -> str:
    """Use the server that MLFLOW_TRACKING_URI names, or the local store; returns the id of the experiment."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    remote = os.environ.get("MLFLOW_TRACKING_URI")
    with _alone():  # creating the tables and the experiment are the two things that two processes may not do at once
        mlflow.set_tracking_uri(remote or f"sqlite:///{(STORE / 'mlflow.db').resolve()}?timeout={_WAIT_SECONDS}")
        if mlflow.get_experiment_by_name(experiment) is None:
            mlflow.create_experiment(experiment, None if remote else ARTIFACTS.resolve().as_uri())
    return str(mlflow.set_experiment(experiment).experiment_id)


@contextlib.contextmanager
def tracked(
    name: str, experiment: str, parameters: Mapping[str, Any], tags: Mapping[str, str], *, run_id: str | None = None
) -> Iterator[str]:
    """A run that ends as FINISHED; as FAILED, with the error as a tag, when what is inside raises; as KILLED when it is
    interrupted or terminated. Gives the run's id; `run_id` goes on with an earlier run instead of a new one."""
    experiment_id = connect(experiment)
    end_dead_runs(experiment_id)
    known = None if run_id is None else _existing(run_id)
    run = mlflow.start_run(
        run_id=known, experiment_id=experiment_id, run_name=name, tags={**tags, **_owner()}, log_system_metrics=True
    )  # fmt: skip
    with _ending(), terminable():
        if known is None:
            log_parameters(parameters)
        yield str(run.info.run_id)
        log_metrics(usage())


@contextlib.contextmanager
def child(name: str, parameters: Mapping[str, Any] | None = None, *, parent: str | None = None) -> Iterator[None]:
    """A run below the open one, for a fold or a trial, or below `parent`, which another process has open; nothing where
    there is neither."""
    is_below_open = mlflow.active_run() is not None
    if not is_below_open and parent is None:
        yield
        return
    mlflow.start_run(
        run_name=name, nested=is_below_open, parent_run_id=None if is_below_open else parent, tags=_owner(),
        log_system_metrics=False,
    )  # fmt: skip
    with _ending():
        log_parameters(parameters or {})
        yield


def log_parameters(parameters: Mapping[str, Any]) -> None:
    """Log settings by name."""
    if mlflow.active_run() is not None:
        mlflow.log_params({key: str(value)[:_PARAMETER_LIMIT] for key, value in parameters.items()})


def log_metrics(metrics: Mapping[str, float], step: int | None = None) -> None:
    """Log numbers by name; those that are no number are left out."""
    if mlflow.active_run() is not None:
        mlflow.log_metrics({name: value for name, value in metrics.items() if not math.isnan(value)}, step=step)


def log_curve(name: str, steps: Sequence[int], values: Sequence[float]) -> None:
    """Log one number at many steps."""
    if mlflow.active_run() is not None:
        for step, value in zip(steps, values, strict=True):
            log_metrics({name: value}, step)


def log_tags(tags: Mapping[str, str]) -> None:
    """Tag the run."""
    if mlflow.active_run() is not None:
        mlflow.set_tags(dict(tags))


def log_json(values: Mapping[str, Any], name: str) -> None:
    """Keep plain values as a file."""
    if mlflow.active_run() is not None:
        mlflow.log_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", name)


def log_text(text: str, name: str) -> None:
    """Keep a text as a file."""
    if mlflow.active_run() is not None:
        mlflow.log_text(text, name)


def log_figures(figures: Mapping[str, Figure]) -> None:
    """Keep figures as images, by name."""
    if mlflow.active_run() is not None:
        for name, figure in figures.items():
            mlflow.log_figure(figure, f"figures/{name}.png")


def log_folder(folder: Path, name: str) -> None:
    """Keep a folder's files."""
    if mlflow.active_run() is not None:
        mlflow.log_artifacts(str(folder), name)


def log_file(path: Path) -> None:
    """Keep a file."""
    if mlflow.active_run() is not None:
        mlflow.log_artifact(str(path))


def log_data(name: str, digest: str, context: str) -> None:
    """Say which data the run read, by digest (at most 36 characters), and what for."""
    if mlflow.active_run() is not None:
        source = CodeDatasetSource({"mlflow.source.name": "python -m train"})
        dataset = MetaDataset(source, name=name, digest=digest)  # type: ignore[abstract]  # as MLflow's own examples do
        mlflow.log_input(dataset, context=context)


def log_model(name: str, bundle: Path) -> str:
    """Make a bundle the next version of a registered model of the open run; returns the version."""
    with tempfile.TemporaryDirectory() as folder, _alone():
        code = Path(folder) / "serve"
        shutil.copytree(CODE, code, ignore=shutil.ignore_patterns("released", "__pycache__"))
        info = mlflow.pyfunc.log_model(
            name=name, registered_model_name=name, python_model=pyfunc.__file__,
            artifacts={pyfunc.BUNDLE: str(bundle)}, code_paths=[str(code)], signature=pyfunc.signature(),
            input_example=pyfunc.input_example(), pip_requirements=requirements(),
        )  # fmt: skip
    return str(info.registered_model_version)


def requirements() -> list[str]:
    """What the registered model needs, pinned to what it was made with, so that verdicts agree to the last bit."""
    return [f"{name}=={version}" for name, version in versions(MODEL_PACKAGES).items()]


def client() -> mlflow.MlflowClient:
    """The client of the store that `connect` chose, for the registry."""
    return mlflow.MlflowClient()


def downloaded(uri: str) -> Path:
    """The local folder of an artifact.

    Raises:
        ValueError: when there is none at this URI.
    """
    try:
        return Path(mlflow.artifacts.download_artifacts(uri))
    except (MlflowException, OSError) as fault:
        raise ValueError(f"{uri} is not there: {str(fault).splitlines()[0]}") from fault


def has_finished(experiment: str, tag: str, value: str) -> bool:
    """Whether a run with this tag came to its end."""
    found = mlflow.search_runs(
        [connect(experiment)], f"tags.`{tag}` = '{value}' and attributes.status = 'FINISHED'", max_results=1,
        output_format="list",
    )  # fmt: skip
    return bool(found)


def read_json(run_id: str, name: str) -> dict[str, Any]:
    """What `log_json` kept of a run.

    Raises:
        ValueError: when there is no such run or file.
    """
    try:
        values = json.loads(mlflow.artifacts.load_text(f"runs:/{run_id}/{name}"))
    except (MlflowException, OSError) as fault:
        raise ValueError(f"run {run_id} has no {name}: {str(fault).splitlines()[0]}") from fault
    return dict(values)


def tag_of(run_id: str, tag: str) -> str:
    """A tag of a run.

    Raises:
        ValueError: when there is no such run, or it has no such tag.
    """
    try:
        tags = mlflow.get_run(run_id).data.tags
    except MlflowException as fault:
        raise ValueError(f"there is no run {run_id}") from fault
    if tag not in tags:
        raise ValueError(f"run {run_id} has no tag {tag!r}, expected the tag of a run that ended well")
    return str(tags[tag])


def end_dead_runs(experiment_id: str) -> None:
    """Mark runs of this machine FAILED whose process is gone: killed without a chance to say so."""
    running = mlflow.search_runs(
        [experiment_id], "attributes.status = 'RUNNING'", max_results=200, output_format="list"
    )  # fmt: skip
    for run in running:
        host, _, process = run.data.tags.get(_OWNER, "").rpartition(":")
        if host == socket.gethostname() and not Path("/proc", process).exists():
            client = mlflow.MlflowClient()
            client.set_tag(run.info.run_id, "error", "the process was killed")
            client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.FAILED))


def usage() -> dict[str, float]:
    """What the process took of the machine so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"usage.cpu_seconds": used.ru_utime + used.ru_stime, "usage.peak_mib": used.ru_maxrss / 1024.0}


def _owner() -> dict[str, str]:
    return {_OWNER: f"{socket.gethostname()}:{os.getpid()}", "mlflow.source.name": "python -m train"}


def _existing(run_id: str) -> str | None:
    """The id, unless the store was emptied since."""
    try:
        return str(mlflow.get_run(run_id).info.run_id)
    except MlflowException:
        return None


@contextlib.contextmanager
def _ending() -> Iterator[None]:
    """End the run that is open with the status that fits what happened inside."""
    try:
        yield
    except BaseException as fault:
        is_killed = isinstance(fault, KeyboardInterrupt | Terminated)
        log_tags({"error": f"{type(fault).__name__}: {fault}"[:500]})
        mlflow.end_run(RunStatus.to_string(RunStatus.KILLED if is_killed else RunStatus.FAILED))
        raise
    mlflow.end_run()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of the local store."""
    STORE.mkdir(parents=True, exist_ok=True)
    with (STORE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
