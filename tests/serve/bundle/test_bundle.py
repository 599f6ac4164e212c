"""A bundle is verified before it is read, and what is wrong with it is said in one line."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from serve.bundle.bundle import Bundle, read_capabilities
from serve.bundle.files import (
    CALIBRATION,
    CLASSIFIER,
    COMMUNITIES,
    FEATURES,
    FORMAT_VERSION,
    MANIFEST,
    PROMPT_SAMPLE,
    PROMPT_SCORER,
    RELEASED,
    BundleError,
)
from serve.bundle.manifest import content_id, manifest_digest, sha256, verify, write_manifest
from serve.bundle.writing import write_capabilities, write_community_model
from serve.capability.capability_map import CapabilityMap
from serve.features.prompt_training import HARVEST, ORGANIC
from serve.features.session_features import feature_names
from serve.model.community_model import BUILT_IN
from serve.scoring.scorer import Scorer

Copy = Callable[[], Path]
MAX_RELEASED_BYTES = 25_000_000


def flip(path: Path, place: int) -> None:
    """Change one bit of one byte."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def edit(folder: Path, **changes: Any) -> None:
    """Change entries of a manifest as someone with an editor would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}))


def relist(folder: Path, **changes: Any) -> None:
    """Make the manifest fit whatever the files now are, as a faulty training run would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    kept = {key: manifest[key] for key in ("encoder", "features", "fpr", "data", "metrics")}
    write_manifest(folder, kept | changes)


def test_a_bundle_loads_with_what_was_written(bundle_folder: Path) -> None:
    bundle = Bundle.load(bundle_folder)
    assert bundle.bundle_id == verify(bundle_folder)["bundle_id"]
    assert tuple(bundle.manifest["features"]) == feature_names(bundle.capabilities.areas)
    assert bundle.encoder.n_dims == bundle.capabilities.anchors.shape[1]
    assert bundle.training_rows().column_names == list(bundle.manifest["features"])


def test_the_id_depends_on_the_files_alone(copied_bundle: Copy, bundle_folder: Path) -> None:
    first, second = copied_bundle(), copied_bundle()
    edit(first, metrics={"auroc": 0.5})
    relist(first)
    assert verify(first)["bundle_id"] == verify(bundle_folder)["bundle_id"]
    (second / FEATURES).write_bytes(b"other rows")
    relist(second)
    assert verify(second)["bundle_id"] != verify(bundle_folder)["bundle_id"]


def test_the_id_is_over_names_and_content_in_any_order() -> None:
    files = {"a": {"sha256": "1"}, "b": {"sha256": "2"}}
    assert content_id(files) == content_id(dict(reversed(files.items())))
    assert content_id(files) != content_id({"a": {"sha256": "2"}, "b": {"sha256": "1"}})
    assert len(content_id(files)) == 16


def test_one_changed_bit_anywhere_is_found(copied_bundle: Copy, bundle_folder: Path) -> None:
    for name in sorted(verify(bundle_folder)["files"]):
        folder = copied_bundle()
        for place in (0, -1):
            flip(folder / name, place)
            with pytest.raises(
                BundleError, match=rf"{Path(name).name} has sha256 [0-9a-f]{{64}}, expected [0-9a-f]{{64}}"
            ):
                Bundle.load(folder)
            flip(folder / name, place)
        assert Bundle.load(folder)


def test_one_changed_byte_in_the_manifest_is_found(copied_bundle: Copy) -> None:
    folder = copied_bundle()
    path = folder / MANIFEST
    content = path.read_bytes()
    places = range(0, len(content), 29)
    assert len(places) > 50
    for place in (*places, content.index(b"manifest_sha256"), len(content) - 20):
        flip(path, place)
        with pytest.raises(BundleError):
            verify(folder)
        flip(path, place)
    assert verify(folder)


@pytest.mark.parametrize("changes", [{"fpr": 0.5}, {"metrics": {"auroc": 1.0}}, {"encoder": "minilm"}, {"data": 5}])
def test_an_edited_manifest_is_found(copied_bundle: Copy, changes: dict[str, Any]) -> None:
    folder = copied_bundle()
    edit(folder, **changes)
    with pytest.raises(BundleError, match=r"manifest\.json has digest [0-9a-f]{64}, expected [0-9a-f]{64}"):
        Bundle.load(folder)


def test_a_truncated_and_a_missing_file_are_named(copied_bundle: Copy) -> None:
    folder = copied_bundle()
    size = (folder / CLASSIFIER).stat().st_size
    (folder / CLASSIFIER).write_bytes((folder / CLASSIFIER).read_bytes()[:-1])
    with pytest.raises(BundleError, match=rf"classifier\.txt has {size - 1} bytes, expected {size}"):
        Bundle.load(folder)
    (folder / CLASSIFIER).unlink()
    with pytest.raises(BundleError, match=r"holds no classifier\.txt, which the manifest lists"):
        Bundle.load(folder)


def test_a_file_that_nobody_listed_is_refused(copied_bundle: Copy) -> None:
    folder = copied_bundle()
    (folder / "static" / "model.pkl").write_bytes(b"\x80\x04")
    with pytest.raises(BundleError, match=r"holds static/model\.pkl, which the manifest doesn't list"):
        Bundle.load(folder)


def test_a_bundle_without_a_needed_file_is_refused_even_when_its_manifest_agrees(copied_bundle: Copy) -> None:
    folder = copied_bundle()
    (folder / CALIBRATION).unlink()
    relist(folder)
    with pytest.raises(BundleError, match=r"lists not all of .*calibration\.safetensors"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("static", r"lists not all of .*static/model\.safetensors"),
        ("minilm", r"learned with MiniLM's vectors: minilm needs: pip install 'stillwatch\[minilm"),
        ("elmo", r"names the encoder 'elmo', expected 'static' or 'minilm'"),
    ],
)
def test_an_encoder_that_is_lacking_or_not_known_is_named(
    copied_bundle: Copy, monkeypatch: pytest.MonkeyPatch, encoder: str, message: str
) -> None:
    folder = copied_bundle()
    shutil.rmtree(folder / "static")
    relist(folder, encoder=encoder)
    monkeypatch.setattr("serve.embedding.encoders.MINILM_PACKAGE", "not_a_package")
    with pytest.raises(BundleError, match=message):
        Bundle.load(folder)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 1, 0, "2", None])
def test_another_format_version_is_refused_before_anything_else(copied_bundle: Copy, version: object) -> None:
    folder = copied_bundle()
    edit(folder, format_version=version, files=None)
    with pytest.raises(BundleError, match=f"has format version {version!r}, this release reads {FORMAT_VERSION}"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is not JSON \(JSONDecodeError\)"),
        (b"\xff\xfe", r"is not JSON \(UnicodeDecodeError\)"),
        (b"[" * 100_000, r"is not JSON \(RecursionError\)"),
        (b'{"format_version": ' + b"9" * 5000 + b"}", r"is not JSON \(ValueError\)"),
        (b"[1]", "holds a list, expected an object"),
        (b"{}", "has format version None"),
        (
            b'{"format_version": 3, "files": {}}',
            "has no bundle_id, encoder, features, fpr, data, metrics, manifest_sha256",
        ),
    ],
)
def test_a_manifest_that_is_no_manifest_is_refused(copied_bundle: Copy, content: bytes, message: str) -> None:
    folder = copied_bundle()
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=message):
        Bundle.load(folder)


@pytest.mark.parametrize("listed", [5, {}, {"size": 3}])
def test_a_listed_file_needs_size_and_hash(copied_bundle: Copy, listed: object) -> None:
    folder = copied_bundle()
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][CLASSIFIER] = listed
    edit(folder, files=manifest["files"], manifest_sha256=manifest_digest(manifest))
    with pytest.raises(BundleError, match=r"lists classifier\.txt without size and sha256"):
        Bundle.load(folder)


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/hostname"])
def test_no_file_outside_the_folder_is_read(copied_bundle: Copy, name: str) -> None:
    folder = copied_bundle()
    (folder.parent / "outside.txt").write_text("x")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"size": 1, "sha256": sha256(folder.parent / "outside.txt")}
    edit(folder, files=manifest["files"], manifest_sha256=manifest_digest(manifest))
    with pytest.raises(BundleError, match=f"holds no {name}, which the manifest lists"):
        Bundle.load(folder)


def test_no_folder_and_an_empty_one_are_no_bundle(tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(BundleError, match=r"holds no manifest\.json, expected a bundle folder"):
            Bundle.load(folder)


def test_other_features_than_this_release_makes_are_refused(copied_bundle: Copy) -> None:
    folder = copied_bundle()
    manifest = json.loads((folder / MANIFEST).read_text())
    edit(folder, features=manifest["features"][::-1])
    relist(folder)
    with pytest.raises(BundleError, match=r"lists \d+ features, expected these \d+"):
        Bundle.load(folder)


def swap_classifier(folder: Path) -> None:
    text = (folder / CLASSIFIER).read_text().replace("max_feature_idx=", "max_feature_idx=1")
    (folder / CLASSIFIER).write_text(text)


def break_calibration(folder: Path) -> None:
    arrays = load_file(folder / CALIBRATION)
    save_file({**arrays, "offsets": arrays["offsets"][:-1].copy()}, folder / CALIBRATION)


def break_tensors(folder: Path) -> None:
    (folder / CALIBRATION).write_bytes(b"not a tensor file at all")


def break_map(folder: Path) -> None:
    names = json.loads((folder / "capabilities.json").read_text())
    names["skills"][0]["area"] = 99
    (folder / "capabilities.json").write_text(json.dumps(names))


def break_names(folder: Path) -> None:
    (folder / "capabilities.json").write_text('{"areas": {}}')


def break_classifier(folder: Path) -> None:
    (folder / CLASSIFIER).write_text("tree\nnothing\n")


def break_prompt_scorer(folder: Path) -> None:
    arrays = load_file(folder / PROMPT_SCORER)
    save_file({**arrays, "output": arrays["output"][:-1].copy()}, folder / PROMPT_SCORER)


def break_scales(folder: Path) -> None:
    arrays = load_file(folder / PROMPT_SCORER)
    save_file({**arrays, "scales": arrays["scales"][:1].copy()}, folder / PROMPT_SCORER)


@pytest.mark.parametrize(
    "damage",
    [
        swap_classifier, break_calibration, break_tensors, break_map, break_names, break_classifier,
        break_prompt_scorer, break_scales,
    ],
)  # fmt: skip
def test_what_a_faulty_training_run_listed_is_still_one_error(
    copied_bundle: Copy, damage: Callable[[Path], None]
) -> None:
    folder = copied_bundle()
    damage(folder)
    relist(folder)
    with pytest.raises(BundleError, match=f"^{folder}: "):
        Bundle.load(folder)


def test_a_prompt_scorer_of_another_encoder_is_refused(copied_bundle: Copy) -> None:
    folder = copied_bundle()
    arrays = load_file(folder / PROMPT_SCORER)
    save_file({**arrays, "hidden": arrays["hidden"][:, :-1].copy()}, folder / PROMPT_SCORER)
    relist(folder)
    with pytest.raises(BundleError, match=r"prompt_scorer\.safetensors reads 63 dimensions, encoder has 64"):
        Bundle.load(folder)


def test_a_prompt_sample_comes_back_as_it_was_written_with_the_kinds_it_had(bundle_folder: Path) -> None:
    sample, scorer = Bundle.load(bundle_folder).prompt_sample(), Bundle.load(bundle_folder).prompt_scorer
    assert sample.dense.shape == (len(sample.kind), scorer.n_columns + scorer.n_dims)
    assert set(sample.kind.tolist()) == {HARVEST, ORGANIC}
    for name, array in load_file(bundle_folder / PROMPT_SAMPLE).items():
        assert np.array_equal(array, sample.arrays()[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (None, r"holds no prompt_sample\.safetensors, expected what a bundle of this release has"),
        ({"dense": np.ones((2, 5), np.int8)}, r"has prompts of shape \(2, 5\), expected \(n, 72\)"),
        ({"kind": np.array([0, 9], np.int8)}, "a kind is none of the heads"),
        ({"weight": np.array([1.0], np.float32)}, "columns have different lengths"),
        ({}, "weight"),
    ],
)
def test_a_bundle_judges_without_a_sample_but_what_reads_it_names_what_is_wrong(
    copied_bundle: Copy, changes: dict[str, np.ndarray] | None, message: str
) -> None:
    folder = copied_bundle()
    if changes is None:
        (folder / PROMPT_SAMPLE).unlink()
    else:
        whole = {name: array[:2].copy() for name, array in load_file(folder / PROMPT_SAMPLE).items()}
        kept = whole | changes if changes else {name: whole[name] for name in whole if name != "weight"}
        save_file(kept, folder / PROMPT_SAMPLE)
    relist(folder)
    bundle = Bundle.load(folder)
    with pytest.raises(BundleError, match=message):
        bundle.prompt_sample()


def test_a_map_comes_back_as_it_was_written(capabilities: CapabilityMap, tmp_path: Path) -> None:
    write_capabilities(capabilities, tmp_path)
    again = read_capabilities(tmp_path)
    assert (again.areas, again.skills, dict(again.titles)) == (
        capabilities.areas,
        capabilities.skills,
        dict(capabilities.titles),
    )
    assert (again.temperature, again.floor) == (capabilities.temperature, capabilities.floor)
    for name in ("anchors", "anchor_skills", "cells", "cell_areas"):
        assert np.array_equal(getattr(again, name), getattr(capabilities, name))
        assert getattr(again, name).dtype == getattr(capabilities, name).dtype


def test_a_bundle_may_be_moved(bundle_folder: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(bundle_folder, tmp_path / "a folder with spaces" / "ünïcode"))
    assert Bundle.load(moved).bundle_id == Bundle.load(bundle_folder).bundle_id


def test_the_released_bundle_is_small_and_says_what_it_is(released_scorer: Scorer) -> None:
    manifest = released_scorer.bundle.manifest
    assert sum(path.stat().st_size for path in RELEASED.rglob("*") if path.is_file()) < MAX_RELEASED_BYTES
    assert {"seed", "sources"} <= set(manifest["data"])
    assert manifest["metrics"]
    assert 0.0 < manifest["fpr"] < 0.5


def test_the_released_bundle_holds_no_pickle_and_no_code(released_scorer: Scorer) -> None:
    suffixes = {Path(name).suffix for name in released_scorer.bundle.manifest["files"]}
    assert suffixes <= {".txt", ".json", ".safetensors", ".parquet"}


def test_the_released_training_rows_hold_features_and_no_text(released_scorer: Scorer) -> None:
    rows = released_scorer.bundle.training_rows()
    assert set(released_scorer.bundle.manifest["features"]) <= set(rows.column_names)
    texts = [field.name for field in rows.schema if str(field.type).endswith("string")]
    assert all(max(map(len, rows[name].unique().to_pylist())) < 200 for name in texts)


def test_a_bundle_without_a_model_of_communities_has_the_built_in_one(bundle_folder: Path) -> None:
    assert not (bundle_folder / COMMUNITIES).exists()
    assert Bundle.load(bundle_folder).communities == BUILT_IN


def test_a_model_of_communities_is_read_and_a_wrong_one_refused(copied_bundle: Copy) -> None:
    folder = copied_bundle()
    stricter = dataclasses.replace(BUILT_IN, threshold=2.5)
    write_community_model(stricter, folder)
    relist(folder)
    assert Bundle.untried(folder).communities == stricter
    (folder / COMMUNITIES).write_text(json.dumps(stricter.values() | {"scale": {}}))
    relist(folder)
    with pytest.raises(BundleError, match="scale is no object of lean"):
        Bundle.untried(folder)
