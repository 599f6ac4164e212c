"""Promotion: a worse challenger is refused with the gate that fell, a better one takes over, and it can be undone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from serve.bundle.bundle import Bundle
from serve.bundle.files import CALIBRATION, CLASSIFIER, EXPERTS, MANIFEST
from serve.bundle.manifest import write_manifest
from serve.features.session_features import judged_names
from train.config.settings import HoldOut, Settings
from train.evaluation import promotion_gates as gates
from train.evaluation.promotion_gates import ExamTraffic, learned_from, read_exam
from train.experiments.run import bundled
from train.experiments.traffic import write_held_out
from train.inputs.prepared_inputs import prepare
from train.tracking import registry
from train.tracking.mlflow_runs import connect, tracked
from train.tracking.promote import RECORDS, decide, main


@dataclass(frozen=True)
class Contest:
    """A workplace with a good bundle, a worse one that judges at random, and an exam that neither learned from."""

    folder: Path
    good: Path
    worse: Path
    exam: Path


def made_random(bundle: Path) -> Path:
    """A copy of the bundle whose booster learned labels dealt at random, and is very sure of itself."""
    worse = bundle.parent / "worse"
    shutil.copytree(bundle, worse)
    rows = Bundle.load(bundle).training_rows()
    names = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))["features"]
    names = list(judged_names(names))
    X = np.stack([rows.column(name).to_numpy() for name in names], axis=1).astype(np.float64)
    y = np.random.default_rng(0).permutation(rows.column("y").to_numpy())
    quiet = {"objective": "binary", "verbosity": -1, "num_threads": 1, "deterministic": True, "seed": 0}
    lightgbm.train(quiet, lightgbm.Dataset(X, y), num_boost_round=12).save_model(worse / CLASSIFIER)
    save_file(load_file(worse / EXPERTS) | {"share": np.zeros(1)}, worse / EXPERTS)
    overconfident = load_file(worse / CALIBRATION) | {"logistic": np.array([60.0, 0.0])}
    save_file(overconfident, worse / CALIBRATION)
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    write_manifest(worse, {key: manifest[key] for key in ("encoder", "features", "fpr", "data", "metrics")})
    return worse


@pytest.fixture(scope="module")
def contest(tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Contest]:
    folder = tmp_path_factory.mktemp("contest")
    (folder / "mlruns").mkdir()
    shutil.copy(empty_store, folder / "mlruns" / "mlflow.db")
    settings = replace(
        tiny_settings,
        hold_out=HoldOut.known_traffic,
        exam=replace(tiny_settings.exam, n_harvesting=24, n_organic=60, dilutions=(0.0, 0.5)),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        good = bundled(settings).folder.absolute()
        base = prepare(settings.inputs)
        exam = write_held_out(base.inputs, base.cache, settings.exam, good.name, seed=1)
        assert exam is not None
        yield Contest(folder, good, made_random(good), exam.absolute())


def register(bundle: Path) -> registry.Version:
    with tracked("tiny", "tests", {}, {}):
        return registry.register(bundle)


def test_the_exam_is_read_with_its_labels(contest: Contest, tiny_settings: Settings) -> None:
    exam = read_exam(contest.exam)
    assert exam.is_harvesting.sum() == 48
    assert exam.is_organic.sum() == 60
    assert set(exam.dilution[exam.is_harvesting].tolist()) == {0.0, 0.5}
    assert learned_from(exam, [contest.good]) == ()
    seen = ExamTraffic(exam.sessions, exam.kind, np.full(len(exam.kind), "katas+maths"), exam.dilution)
    assert learned_from(seen, [contest.good]) != ()


def test_an_exam_without_labels_is_refused(contest: Contest, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"labels.jsonl is not there"):
        read_exam(tmp_path)
    shutil.copytree(contest.exam, tmp_path / "exam")
    labels = tmp_path / "exam" / "labels.jsonl"
    labels.write_text("\n".join(labels.read_text(encoding="utf-8").splitlines()[1:]), encoding="utf-8")
    with pytest.raises(ValueError, match="has labels of"):
        read_exam(tmp_path / "exam")


def test_refused_then_promoted_then_rolled_back(
    contest: Contest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole life of the title, in one store: each registration takes seconds."""
    monkeypatch.setattr(gates, "MAX_SLOWDOWN", 1e9)  # how busy a machine is decides no test; test_gates has this gate
    connect("tests")
    with pytest.raises(ValueError, match="there is no challenger to a champion"):
        decide(contest.exam)
    with pytest.raises(ValueError, match="there is no former champion"):
        registry.roll_back()
    assert main([]) == 2

    assert main(["--register", str(contest.folder / "none")]) == 2
    assert main(["--register", str(contest.good)]) == 0
    assert "is champion; nothing challenges it" in capsys.readouterr().out
    first = registry.holder(registry.CHAMPION)
    assert first is not None
    assert registry.holder(registry.CHAMPION) == first
    assert registry.holder(registry.CHALLENGER) is None

    worse = register(contest.worse)
    assert registry.holder(registry.CHAMPION) == first
    assert registry.holder(registry.CHALLENGER) == worse
    refusal = decide(contest.exam)
    assert "TPR at 1 % FPR, 0% cover" in refusal.fallen
    assert main(["--exam", str(contest.exam), "--dry-run"]) == 1
    assert registry.RECORD not in tags(worse)
    assert main(["--exam", str(contest.exam)]) == 1
    said = capsys.readouterr().out
    assert "FALLS" in said
    assert "refused: TPR at 1 % FPR, 0% cover" in said
    assert registry.holder(registry.CHAMPION) == first
    assert json.loads(tags(worse)[registry.RECORD])["decision"].startswith("refused: TPR")

    registry.point(registry.CHAMPION, worse.number)  # as if the worse one had been the first
    registry.point(registry.CHALLENGER, first.number)
    assert main(["--exam", str(contest.exam)]) == 0
    champion = registry.holder(registry.CHAMPION)
    assert champion is not None
    assert (champion.number, champion.former) == (first.number, worse.number)
    assert registry.holder(registry.CHALLENGER) is None
    record = json.loads(tags(first)[registry.RECORD])
    assert record["decision"].startswith("promoted")
    assert all(gate["holds"] for gate in record["gates"])
    assert json.loads((contest.folder / RECORDS / f"version-{first.number}.json").read_text()) == record

    assert main(["--rollback"]) == 0
    assert registry.holder(registry.CHAMPION) == worse
    holder = registry.holder(registry.CHALLENGER)
    assert holder is not None
    assert holder.number == first.number
    assert Bundle.load(registry.bundle_folder(worse)).bundle_id == worse.bundle_id
    assert main(["--exam", "/nowhere"]) == 2


def tags(found: registry.Version) -> dict[str, str]:
    from train.tracking import mlflow_runs as tracking

    return dict(tracking.client().get_model_version(registry.MODEL, found.number).tags)
