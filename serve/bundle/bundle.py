"""Bundle: the folder that training writes and serving reads. Every file is verified before any parser sees it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from serve.bundle import trial
from serve.bundle.contents import check_contents, read_json
from serve.capability.area_classifier import AreaClassifier
from serve.capability.capability_map import CapabilityMap, Skill
from serve.embedding.encoders import MINILM, Encoder, StaticEncoder, minilm
from serve.features.prompt_scorer import Evidence
from serve.features.session_features import feature_names, n_judged
from serve.model.benign_profile import BenignProfile
from serve.model.calibration import Calibration
from serve.model.classifier import Classifier
from serve.model.logistic_ensemble import LogisticEnsemble
from serve.model.ridge import Moments
from serve.model.trees import read_booster
from serve.sessions.size_classes import SIZE_EDGES

FORMAT_VERSION = 1
RELEASED = (Path(__file__).parents[1] / "released").resolve()
"""The bundle that ships with the package."""

MANIFEST = "manifest.json"
CLASSIFIER = "classifier.txt"
CAPABILITIES = "capabilities.json"
CAPABILITY_VECTORS = "capabilities.safetensors"
STATIC = "static"
EXPERTS = "experts.safetensors"
CALIBRATION = "calibration.safetensors"
REFERENCE = "reference.safetensors"
WORDS = "words.json"
FEATURES = "features.parquet"
BENIGN = "benign.safetensors"
MOMENTS = "moments.safetensors"
_REQUIRED = (
    CLASSIFIER, EXPERTS, CAPABILITIES, CAPABILITY_VECTORS, CALIBRATION, REFERENCE, WORDS, FEATURES,
)  # fmt: skip
_REQUIRED_STATIC = (f"{STATIC}/model.safetensors", f"{STATIC}/tokenizer.json")
_DIGEST = "manifest_sha256"
_KEYS = ("format_version", "bundle_id", "encoder", "features", "fpr", "data", "metrics", "files", _DIGEST)


class BundleError(ValueError):
    """A bundle that can't be trusted or read: says what was found and what was expected."""


@dataclass(frozen=True)
class Bundle:
    """All that is needed to judge.

    `reference` holds quantiles of every feature over benign sessions of like size, for reasons; `benign` what they
    cover and their profile, for systematicness and drift (None in bundles of a release before it was there).
    """

    folder: Path
    manifest: Mapping[str, Any]
    encoder: Encoder
    capabilities: CapabilityMap
    evidence: Evidence
    classifier: Classifier
    calibration: Calibration
    reference: NDArray[np.float64]
    benign: BenignProfile | None = None

    @property
    def bundle_id(self) -> str:
        """First 16 hex digits of the digest over every file but the manifest; the same content has the same id."""
        return str(self.manifest["bundle_id"])

    @classmethod
    def load(cls, folder: Path = RELEASED) -> Self:
        """Verify and read a bundle.

        Raises:
            BundleError: when a file is missing, too many, changed, of a newer format or not what the manifest says, or
                when a trial verdict with it fails.
        """
        manifest = trusted(folder)
        with _refusing(folder):
            return cls._read(folder, manifest)

    @classmethod
    def untried(cls, folder: Path) -> Self:
        """Verify and read a bundle after a look at all that its files hold; for the process that tries it out.

        Raises:
            BundleError: saying what was found and expected.
        """
        manifest = verify(folder)
        with _refusing(folder):
            names = read_json(folder / CAPABILITIES)
            if not isinstance(names, dict) or not isinstance(names.get("areas"), dict):
                raise BundleError(
                    f"{folder / CAPABILITIES} has no areas, expected an object with their names and titles"
                )
            check_contents(folder, manifest["files"], n_judged(tuple(names["areas"])))
            return cls._read(folder, manifest)

    @classmethod
    def _read(cls, folder: Path, manifest: Mapping[str, Any]) -> Self:
        capabilities = read_capabilities(folder)
        expected = list(feature_names(capabilities.areas))
        if manifest["features"] != expected:
            raise BundleError(
                f"{folder}: lists {len(manifest['features'])} features, expected these {len(expected)}: {expected}"
            )
        reference = load_file(folder / REFERENCE)
        quantiles = reference["benign_quantiles"]
        if quantiles.shape != (shape := (len(SIZE_EDGES), len(expected), 2)):
            raise BundleError(f"{folder}: benign quantiles have shape {quantiles.shape}, expected {shape}")
        encoder = _read_encoder(folder, manifest["encoder"])
        if encoder.n_dims != capabilities.anchors.shape[1]:
            raise BundleError(f"{folder}: encoder has {encoder.n_dims} dimensions, map {capabilities.anchors.shape[1]}")
        return cls(
            folder=folder,
            manifest=manifest,
            encoder=encoder,
            capabilities=capabilities,
            evidence=Evidence(_read_words(folder), reference["weights"], reference["scales"], reference["intercepts"]),
            classifier=_read_classifier(folder, n_judged(capabilities.areas)),
            calibration=Calibration.of_arrays(load_file(folder / CALIBRATION)),
            reference=quantiles,
            benign=_read_benign(folder, len(capabilities.areas), len(expected)),
        )

    def training_rows(self) -> Any:
        """The stored training feature rows (an Arrow table, no text), which `adapt` refits from.

        Raises:
            BundleError: when they can't be read.
        """
        try:
            return pq.read_table(self.folder / FEATURES)
        except (OSError, pa.ArrowException) as fault:
            raise BundleError(f"{self.folder / FEATURES} is no Parquet file ({type(fault).__name__})") from fault

    def moments(self) -> Moments:
        """What the evidence heads were solved from, which `adapt` adds to.

        Raises:
            BundleError: when there are none, or they are of other inputs.
        """
        if not (self.folder / MOMENTS).is_file():
            raise BundleError(f"{self.folder} holds no {MOMENTS}, expected what a bundle of this release has")
        try:
            found = Moments.of_arrays(load_file(self.folder / MOMENTS), self.evidence.vocabulary)
        except (ValueError, LookupError, TypeError, SafetensorError) as fault:
            raise BundleError(f"{self.folder / MOMENTS}: {fault}") from fault
        if len(found.scales) != len(self.evidence.weights):
            raise BundleError(
                f"{self.folder / MOMENTS} has {len(found.scales)} inputs, expected {len(self.evidence.weights)}"
            )
        return found


_FAULTS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, SafetensorError)


@contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    """Turn what a parser or an array raises into a `BundleError`."""
    try:
        yield
    except BundleError:
        raise
    except _FAULTS as fault:
        said = str(fault) if isinstance(fault, ValueError | SafetensorError) else f"{type(fault).__name__} ({fault})"
        raise BundleError(said if said.startswith(str(folder)) else f"{folder}: {said}") from fault


def trusted(folder: Path) -> dict[str, Any]:
    """Verify a bundle, and try it out in another process unless it was before; returns its manifest.

    Raises:
        BundleError: saying what was found and expected.
    """
    manifest = verify(folder)
    digest = str(manifest[_DIGEST])
    if folder.resolve() != RELEASED and not trial.is_proved(digest):
        with _refusing(folder):
            trial.prove(folder, digest)
    return manifest


def examine(folder: Path) -> dict[str, Any]:
    """Verify a bundle and try it out in another process, whatever was tried before; returns its manifest.

    Raises:
        BundleError: saying what was found and expected.
    """
    manifest = verify(folder)
    with _refusing(folder):
        trial.try_out(folder)
    return manifest


def verify(folder: Path) -> dict[str, Any]:
    """Check the manifest, the format version and every file's size and sha256; parse nothing else.

    Raises:
        BundleError: saying what was found and expected.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(f"{folder} holds no {MANIFEST}, expected a bundle folder")
    with _refusing(folder):
        manifest = read_json(path)
    if not isinstance(manifest, dict):
        raise BundleError(f"{path} holds a {type(manifest).__name__}, expected an object")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise BundleError(f"{path} has format version {repr(version)[:20]}, this release reads {FORMAT_VERSION}")
    if missing := [key for key in _KEYS if key not in manifest]:
        raise BundleError(f"{path} has no {', '.join(missing)}")
    if (found := manifest_digest(manifest)) != manifest[_DIGEST]:
        raise BundleError(f"{path} has digest {found}, expected {manifest[_DIGEST]}")
    _verify_entries(path, manifest)
    _verify_files(folder, manifest)
    return manifest


def _verify_entries(path: Path, manifest: Mapping[str, Any]) -> None:
    fpr, features = manifest["fpr"], manifest["features"]
    if isinstance(fpr, bool) or not isinstance(fpr, int | float) or not 0.0 < fpr < 1.0:
        raise BundleError(f"{path} has fpr {str(fpr)[:20]}, expected a share between 0 and 1")
    if not isinstance(features, list) or not all(isinstance(name, str) for name in features):
        raise BundleError(f"{path} has features that aren't a list of names")
    for name in ("encoder", "bundle_id"):
        if not isinstance(manifest[name], str):
            raise BundleError(f"{path} has {name} of type {type(manifest[name]).__name__}, expected a text")


def _verify_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    files = manifest["files"]
    required = (*_REQUIRED, *(_REQUIRED_STATIC if manifest["encoder"] == STATIC else ()))
    if not isinstance(files, dict) or not set(required) <= set(files):
        raise BundleError(f"{folder / MANIFEST} lists not all of {', '.join(required)}")
    if strays := _names(folder) - set(files):
        raise BundleError(f"{folder} holds {sorted(strays)[0]}, which the manifest doesn't list")
    for name, listed in files.items():
        path = folder / name
        if not isinstance(listed, dict) or not {"size", "sha256"} <= set(listed):
            raise BundleError(f"{folder / MANIFEST} lists {name} without size and sha256")
        if Path(name).is_absolute() or ".." in Path(name).parts or not path.is_file():
            raise BundleError(f"{folder} holds no {name}, which the manifest lists")
        if path.stat().st_size != listed["size"]:
            raise BundleError(f"{path} has {path.stat().st_size} bytes, expected {listed['size']}")
        if (found := sha256(path)) != listed["sha256"]:
            raise BundleError(f"{path} has sha256 {found}, expected {listed['sha256']}")
    if (found := content_id(files)) != manifest["bundle_id"]:
        raise BundleError(f"{folder / MANIFEST} names bundle {manifest['bundle_id']}, but its files make {found}")


def write_manifest(folder: Path, entries: Mapping[str, Any]) -> str:
    """List every file of `folder` in its manifest, with `entries` beside; returns the bundle id."""
    files = {
        name: {"size": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        for name in sorted(_names(folder))
    }
    bundle_id = content_id(files)
    manifest = {"format_version": FORMAT_VERSION, "bundle_id": bundle_id, **entries, "files": files}
    manifest[_DIGEST] = manifest_digest(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return bundle_id


def content_id(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Bundle id of these listed files."""
    lines = "\n".join(f"{name} {listed['sha256']}" for name, listed in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Hex digest over a manifest's entries, its own digest left out."""
    entries = {key: value for key, value in manifest.items() if key != _DIGEST}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_capabilities(capabilities: CapabilityMap, folder: Path) -> None:
    """Write a map as JSON (names) and safetensors (vectors)."""
    names: dict[str, Any] = {
        "areas": dict(capabilities.titles),
        "skills": [{"area": s.area, "name": s.name, "title": s.title} for s in capabilities.skills],
        "temperature": capabilities.temperature,
        "floor": capabilities.floor,
        "sharpness": capabilities.sharpness,
    }
    arrays = {
        "anchors": capabilities.anchors, "anchor_skills": capabilities.anchor_skills, "cells": capabilities.cells,
        "cell_areas": capabilities.cell_areas,
    }  # fmt: skip
    if capabilities.discriminant is not None:
        arrays |= {"area_weights": capabilities.discriminant.weights, "area_offsets": capabilities.discriminant.offsets}
        names |= {"area_scale": capabilities.discriminant.scale}
    (folder / CAPABILITIES).write_text(json.dumps(names, indent=1, ensure_ascii=False), encoding="utf-8")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / CAPABILITY_VECTORS)


def write_evidence(evidence: Evidence, moments: Moments, benign_quantiles: NDArray[np.float64], folder: Path) -> None:
    """Write heads with their vocabulary, what they were solved from, and the benign quantiles of features."""
    reference = {
        "weights": evidence.weights, "scales": evidence.scales, "intercepts": evidence.intercepts,
        "benign_quantiles": benign_quantiles,
    }  # fmt: skip
    for name, arrays in ((REFERENCE, reference), (MOMENTS, moments.arrays())):
        save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, folder / name)
    (folder / WORDS).write_text(json.dumps(evidence.vocabulary, ensure_ascii=False), encoding="utf-8")


def read_capabilities(folder: Path) -> CapabilityMap:
    """Read what `write_capabilities` wrote.

    Raises:
        ValueError: naming the place that is wrong.
    """
    names = json.loads((folder / CAPABILITIES).read_text(encoding="utf-8"))
    arrays = load_file(folder / CAPABILITY_VECTORS)
    return CapabilityMap(
        areas=tuple(names["areas"]),
        titles=names["areas"],
        skills=tuple(Skill(s["name"], s["title"], s["area"]) for s in names["skills"]),
        temperature=names["temperature"],
        floor=names["floor"],
        discriminant=_discriminant(names, arrays),
        sharpness=names.get("sharpness", 1.0),
        **arrays,
    )


def _discriminant(names: Mapping[str, Any], arrays: dict[str, NDArray[Any]]) -> AreaClassifier | None:
    """Taken out of `arrays`; None for a map of a release before it was there."""
    if "area_weights" not in arrays:
        return None
    return AreaClassifier(arrays.pop("area_weights"), arrays.pop("area_offsets"), names["area_scale"])


def _read_encoder(folder: Path, name: object) -> Encoder:
    """The static encoder is in its bundle; MiniLM, whose weights have 90 MB, is taken from its package, verified."""
    if name == STATIC:
        return StaticEncoder(folder / STATIC)
    if name != MINILM:
        raise BundleError(f"{folder / MANIFEST} names the encoder {name!r}, expected {STATIC!r} or {MINILM!r}")
    try:
        return minilm()
    except ImportError as fault:
        raise BundleError(f"{folder} was learned with MiniLM's vectors: {fault}") from fault


def _read_benign(folder: Path, n_areas: int, n_features: int) -> BenignProfile | None:
    if not (folder / BENIGN).is_file():  # the manifest lists every file, so it can't have been lost
        return None
    return BenignProfile.of_arrays(load_file(folder / BENIGN), n_areas=n_areas, n_features=n_features)


def _read_classifier(folder: Path, n_features: int) -> Classifier:
    booster = read_booster((folder / CLASSIFIER).read_text(encoding="utf-8"))
    found = Classifier(booster, LogisticEnsemble.of_arrays(load_file(folder / EXPERTS)))
    if found.n_features != n_features:
        raise BundleError(f"{folder}: classifier reads {found.n_features} features, expected {n_features}")
    return found


def _read_words(folder: Path) -> tuple[str, ...]:
    vocabulary = json.loads((folder / WORDS).read_text(encoding="utf-8"))
    if not isinstance(vocabulary, list) or not all(isinstance(word, str) for word in vocabulary):
        raise BundleError(f"{folder / WORDS} is not a list of words")
    return tuple(vocabulary)


def _names(folder: Path) -> set[str]:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return {name for name in names if name != MANIFEST and not name.startswith(("__pycache__/", "__init__"))}
