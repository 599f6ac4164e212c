"""A run: composed from conf/, refused in one line, and the same bundle each time."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve.bundle.bundle import Bundle
from train.config.settings import Goal, HoldOut, Settings, SettingsError
from train.experiments import run as runs
from train.experiments.run import CONF, bundled, compose, run
from train.inputs.prepared_inputs import prepare, read_inputs
from train.tracking.provenance import ROOT

DATA = ("areas", "descriptions", "experiment")
GROUPS = [path for path in sorted(CONF.glob("*/*.yaml")) if path.parent.name not in DATA]
DRY = ("corpora", "demo")
EXPERIMENTS = [path.stem for path in sorted((CONF / "experiment").glob("*.yaml"))]


@pytest.mark.parametrize("path", GROUPS, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_choice_of_every_group_composes(path: Path) -> None:
    assert isinstance(compose([f"{path.parent.name}={path.stem}"]), Settings)


def test_every_group_is_a_field_of_the_settings_and_the_other_way_round() -> None:
    fields = {field.name for field in dataclasses.fields(Settings) if dataclasses.is_dataclass(field.default_factory)}
    assert {path.parent.name for path in GROUPS} == fields


def small(experiment: str, tiny_settings: Settings) -> Settings:
    """An experiment's own seed, goal and split with the small world in place of the corpora."""
    composed = compose([f"experiment={experiment}"])
    assert composed.name == experiment
    parts = ("corpora", "encoder", "capabilities", "evidence", "classifier", "model", "exam", "tracking")
    return dataclasses.replace(composed, **{part: getattr(tiny_settings, part) for part in parts})


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_is_an_exam_or_one_that_runs_dry(
    experiment: str, tiny_settings: Settings, workplace: Path
) -> None:
    """In the small world those that are no exam are one of those that the next test runs, but for the name."""
    own = small(experiment, tiny_settings)
    if own.goal is Goal.exam:
        assert read_inputs(own.inputs).fold is None
    else:
        assert own in [dataclasses.replace(small(name, tiny_settings), name=experiment) for name in DRY]


@pytest.mark.parametrize("experiment", DRY)
def test_an_experiment_runs_dry(experiment: str, tiny_settings: Settings, workplace: Path) -> None:
    own = small(experiment, tiny_settings)
    outcome = run(own)
    assert outcome is not None
    assert Bundle.load(workplace / outcome.made.folder).bundle_id == outcome.made.folder.name
    assert outcome.run_id is None
    assert (outcome.held_out is not None) == (own.hold_out is not HoldOut.nothing)
    assert outcome.made.folder.name in outcome.report.read_text(encoding="utf-8")


def test_the_same_settings_give_the_same_bundle_and_another_seed_another(
    tiny_settings: Settings, workplace: Path
) -> None:
    found = []
    for seed in (0, 0, 1):
        read_inputs.cache_clear()
        prepare.cache_clear()
        found.append(bundled(dataclasses.replace(tiny_settings, seed=seed)).folder.name)
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_runs_with_the_same_inputs_share_it(tiny_settings: Settings, workplace: Path) -> None:
    other = dataclasses.replace(tiny_settings, classifier=dataclasses.replace(tiny_settings.classifier, n_rounds=5))
    assert prepare(tiny_settings.inputs) is prepare(other.inputs)


def test_nothing_held_out_is_learned_from(tiny_settings: Settings, workplace: Path) -> None:
    inputs = read_inputs(dataclasses.replace(tiny_settings, hold_out=HoldOut.known_traffic).inputs)
    assert inputs.fold is not None
    made = bundled(dataclasses.replace(tiny_settings, hold_out=HoldOut.known_traffic))
    groups = {source["group"] for source in made.data["sources"]}
    assert inputs.fold.held_campaigns
    assert not groups & set(inputs.fold.held_campaigns)
    assert made.data["held_out"] == list(inputs.fold.held_campaigns)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("corpora.dirr=x", "there is no setting 'corpora.dirr', did you mean 'corpora.dir'?"),
        ("experiment=demoo", "there is no experiment 'demoo', did you mean 'demo'?"),
        ("corpora=bothh", "there is no corpora 'bothh', did you mean 'both'?"),
        ("experimnt=demo", "there is no setting 'experimnt', did you mean 'experiment'?"),
        ("+extra=1", "there is no setting 'extra', expected one of"),
        ("seed=abc", "seed: Value 'abc' of type 'str' could not be converted to Integer"),
        (
            "encoder.source=foo",
            "encoder.source: Invalid value 'foo', expected one of [released, distil, folder, minilm]",
        ),
        ("[[", "LexerNoViableAltException: [["),
        ("evidence.max_prompts=-1", "evidence.max_prompts is -1, expected at least 1"),
        ("hydra.run.dir=/proc/nope", "No such file or directory: '/proc/nope'"),
        ("hydra.verbose=3", "a setting of hydra is of a type that it can't use"),
        ("hydra.verbose=true seed=x", "seed: Value 'x' of type 'str' could not be converted to Integer"),
        ("corpora.starter=false", "corpora: none of starter, dir and described"),
        ("corpora=folder corpora.dir=/nowhere", "/nowhere/CARDS.json is not there"),
        ("capabilities.file=/nowhere.yaml", "/nowhere.yaml is not there"),
    ],
)
def test_wrong_settings_end_in_one_line_and_exit_code_2(
    overrides: str, said: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *overrides.split()])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    try:
        code = runs.main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    assert code == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.startswith("train: ")
    assert complaint.count("\n") == 1


def test_a_typo_in_a_group_file_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf" / "model" / "small.yaml").write_text("n_sesions: 3\n", encoding="utf-8")
    monkeypatch.setattr(runs, "CONF", tmp_path / "conf")
    with pytest.raises(SettingsError, match=r"'model.n_sesions', did you mean 'model.n_sessions'\?"):
        compose(["model=small"])


def test_the_command_says_what_it_can_do_and_leaves_no_litter(workplace: Path) -> None:
    command = [sys.executable, "-m", "train", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for word in ("experiment=NAME", "demo", "n_rounds", "python -m train.release", "corpora: both, folder, starter"):
        assert word in done.stdout
    assert not (ROOT / "outputs").exists()


def test_a_reader_that_leaves_early_is_no_fault(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end, start = os.pipe()
    os.close(end)
    monkeypatch.setattr(sys, "argv", ["train", "--help"])
    with os.fdopen(start, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        assert runs.main() == 0
