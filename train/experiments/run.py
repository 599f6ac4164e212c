"""Run: the story of a training run in one function, and the only hydra import."""

from __future__ import annotations

import io
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from serve.bundle.files import BundleError
from serve.jobs.stages import Stages, begin
from train.config.settings import Settings, SettingsError, complaint, plain, schema, settings_of
from train.corpora.suggestions import suggestion
from train.evaluation.quality import left_out_metrics, write_report
from train.experiments.traffic import write_held_out
from train.inputs.prepared_inputs import prepare, read_inputs
from train.learning.bundling import Made, Parts, data_card, write_bundle
from train.learning.model import learn

_QUIET = "STILLWATCH_QUIET"
_SHARES = {
    "read corpora": 0.1, "encode": 0.1, "learn to score prompts": 0.3, "compose sessions": 0.15,
    "learn the classifier": 0.15, "calibrate": 0.1, "report": 0.1,
}  # fmt: skip
"""About which part of a run's time each stage takes."""

CONF = Path(__file__).parents[2] / "conf"


@dataclass(frozen=True)
class Outcome:
    """What a run leaves behind; `held_out` is the folder of traffic that nothing was learned from."""

    made: Made
    report: Path
    held_out: Path | None
    run_id: str | None


def run(settings: Settings) -> Outcome | None:
    """Prompts → split → encoder → capability map → model → bundle → report, all of it tracked; or the exam.

    Raises:
        SettingsError: when the settings, the corpora or the areas are wrong, before any work.
    """
    begin("read corpora")
    inputs = read_inputs(settings.inputs)
    from train.reports.run_figures import run_plots
    from train.reports.run_page import write_run_page
    from train.tracking import run_record as record  # MLflow takes seconds, which wrong settings need not wait for

    with record.tracked(settings, inputs) as run_id:
        if inputs.fold is None:
            from train.experiments.full_exam import exam

            exam(settings, inputs.pool, prepare(settings.inputs).cache, inputs.timing)
            return None
        made = bundled(settings)
        begin("report")
        cache = prepare(settings.inputs).cache
        held_out = write_held_out(inputs, cache, settings.exam, made.folder.name, seed=settings.seed)
        report = write_report(settings.name, made, held_out)
        drawn = run_plots(made.model)
        write_run_page(report.with_suffix(".html"), settings.name, made, drawn)
        record.keep(settings, made, report, drawn)
    return Outcome(made, report, held_out, run_id)


def bundled(settings: Settings) -> Made:
    """Learn a model and write its bundle, and nothing else: what a run is reproduced by."""
    began_at = time.perf_counter()
    begin("encode")
    base = prepare(settings.inputs)
    inputs, laid_at = base.inputs, time.perf_counter()
    if inputs.fold is None:
        raise SettingsError("the exam makes no bundle, expected goal=bundle")
    model = learn(inputs.pool, inputs.fold, base.cache, inputs.timing, settings.recipe)
    metrics = left_out_metrics(model)
    card = data_card(inputs.pool, inputs.fold, plain(settings))
    folder = write_bundle(Parts(model, base.static, base.capabilities, card, metrics), settings.bundling)
    seconds = {"prepare": laid_at - began_at, "learn": time.perf_counter() - laid_at}
    return Made(folder, model, card, metrics, seconds)


def compose(overrides: Sequence[str]) -> Settings:
    """Settings from `conf/` and overrides as on the command line.

    Raises:
        SettingsError: when a key, a choice or a value is wrong, with the nearest valid name.
    """
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return settings_of(_values(hydra.compose("config", overrides=list(overrides))))
    except (HydraException, OmegaConfBaseException) as fault:
        raise SettingsError(_said(fault)) from fault


def answered(name: str, overrides: Sequence[str] | None, work: Callable[[Settings], str]) -> int:
    """A command beside `python -m train`: print what its work on the composed settings says (overrides are the command
    line's where None are given); what is refused becomes one line on stderr and exit code 2."""
    try:
        sys.stdout.write(work(compose(sys.argv[1:] if overrides is None else overrides)))
    except ValueError as fault:
        sys.stderr.write(f"{name}: {fault}\n")
        return 2
    return 0


def main() -> int:
    """`python -m train`: compose the settings and run; wrong settings, Hydra's own too, end it with one line and exit
    code 2."""
    if "--quiet" in sys.argv:  # before Hydra reads the arguments
        sys.argv.remove("--quiet")
        os.environ[_QUIET] = "1"
    wants_traceback = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that faults come here instead of being printed by Hydra
    try:
        try:
            _application()
        finally:  # Hydra's help ends the process
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the exit doesn't write to it again
    except (HydraException, OmegaConfBaseException, OSError, AssertionError) as fault:
        if wants_traceback or _is_of_the_run(fault):
            raise
        return _refused(_said(fault))
    return 0


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _application(config: DictConfig) -> None:
    try:
        settings = settings_of(_values(config))
        is_multirun = HydraConfig.get().mode is RunMode.MULTIRUN
        sys.stdout.write(_done_many(settings) if is_multirun else _done(settings))
    except (SettingsError, BundleError, ImportError) as fault:
        sys.exit(_refused(str(fault)))


def _is_of_the_run(fault: BaseException) -> bool:
    """Whether a fault came from the work itself, not from Hydra on its way there."""
    work = _done.__code__, _done_many.__code__
    return any(frame.f_code in work for frame, _ in traceback.walk_tb(fault.__traceback__))


def _done(settings: Settings) -> str:
    """Make one run; returns what to say of it. On a terminal it is shown what the run is at."""
    with Stages(io.StringIO() if _QUIET in os.environ else sys.stderr, _SHARES):
        outcome = run(settings)
    return "" if outcome is None else _told(outcome)


def _done_many(settings: Settings) -> str:
    """Make one of many runs, or a search where there is something to search."""
    if settings.search.dimensions:
        from train.experiments.hyperparameter_search import search, search_text

        return search_text(search(settings))
    if _is_done(settings):
        return "skipped: a run with the same settings, code and data has finished before\n"
    return _done(settings)


def _is_done(settings: Settings) -> bool:
    """Whether the run was made before, so that a sweep that was killed goes on where it stopped."""
    if not settings.tracking.enabled:
        return False
    from train.tracking import run_record as record

    return record.has_finished(settings, read_inputs(settings.inputs))


def _told(outcome: Outcome) -> str:
    report = outcome.report.with_suffix(".html")
    lines = [f"bundle    {outcome.made.folder}", f"report    {report}"]
    if outcome.held_out is not None:
        lines.append(f"held out  {outcome.held_out}")
    if outcome.run_id is not None:
        lines.append(f"run       {outcome.run_id}  (mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db)")
    return "\n".join(lines) + "\n"


def _refused(line: str) -> int:
    sys.stderr.write(f"train: {line}\n")
    return 2


def _values(config: DictConfig) -> dict[str, object]:
    """The composed values as plain ones, without Hydra's own."""
    values = OmegaConf.to_container(config, enum_to_str=True)
    if not isinstance(values, dict):
        raise SettingsError("the composed settings are no mapping")
    return {str(key): value for key, value in values.items() if key not in ("hydra", "experiment")}


def _said(fault: BaseException) -> str:
    """One line on what is wrong, from the fault or the one behind it."""
    if isinstance(fault, MissingConfigException) and fault.options:
        group, _, choice = str(fault.missing_cfg_file).rpartition("/")
        return f"there is no {group} {choice!r}{suggestion(choice, list(fault.options))}"
    if isinstance(fault, AssertionError):
        return "a setting of hydra is of a type that it can't use"
    if isinstance(fault.__cause__, OmegaConfBaseException):
        return complaint(str(fault.__cause__))
    return complaint(str(fault))


ConfigStore.instance().store("schema", schema())
