"""A bundle, read: everything that is needed to judge. Every file is verified before any parser sees it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from serve.bundle import trial
from serve.bundle.contents import check_contents, read_json
from serve.bundle.files import (
    ACCOUNTS,
    BENIGN,
    CALIBRATION,
    CAPABILITIES,
    CAPABILITY_VECTORS,
    CLASSIFIER,
    COMMUNITIES,
    EXPERTS,
    FEATURES,
    MANIFEST,
    PROMPT_SAMPLE,
    PROMPT_SCORER,
    REFERENCE,
    RELEASED,
    STATIC,
    BundleError,
)
from serve.bundle.manifest import DIGEST, refusing, verify
from serve.capability.area_classifier import AreaClassifier
from serve.capability.capability_map import CapabilityMap, Skill
from serve.embedding.encoders import MINILM, Encoder, StaticEncoder, minilm
from serve.features.prompt_scorer import PromptScorer
from serve.features.prompt_training import DenseExamples
from serve.features.session_features import feature_names, n_judged
from serve.model.benign_profile import BenignProfile
from serve.model.calibration import Calibration
from serve.model.classifier import Classifier
from serve.model.community_model import BUILT_IN, CommunityModel
from serve.model.logistic_ensemble import LogisticEnsemble
from serve.model.trees import Trees
from serve.sessions.size_classes import ACCOUNT_EDGES, SIZE_EDGES


@dataclass(frozen=True)
class Bundle:
    """All that is needed to judge.

    `reference` holds quantiles of every feature over benign sessions of like size, for reasons; `benign` what they
    cover and their profile, for systematicness and drift; `accounts` holds margins of benign accounts, each as one long
    session (either is None where a bundle has none). `communities` tells campaigns from other accounts that ask alike.
    """

    folder: Path
    manifest: Mapping[str, Any]
    encoder: Encoder
    capabilities: CapabilityMap
    prompt_scorer: PromptScorer
    classifier: Classifier
    calibration: Calibration
    reference: NDArray[np.float64]
    benign: BenignProfile | None = None
    accounts: Calibration | None = None
    communities: CommunityModel = BUILT_IN

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
        with refusing(folder):
            return cls._read(folder, manifest)

    @classmethod
    def untried(cls, folder: Path) -> Self:
        """Verify and read a bundle after a look at all that its files hold; for the process that tries it out.

        Raises:
            BundleError: saying what was found and expected.
        """
        manifest = verify(folder)
        with refusing(folder):
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
            prompt_scorer=_read_prompt_scorer(folder, encoder.n_dims),
            classifier=_read_classifier(folder, n_judged(capabilities.areas)),
            calibration=Calibration.of_arrays(load_file(folder / CALIBRATION)),
            reference=quantiles,
            benign=_read_benign(folder, len(capabilities.areas), len(expected)),
            accounts=_read_accounts(folder),
            communities=_read_communities(folder),
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

    def prompt_sample(self) -> DenseExamples:
        """A sample of the training prompts as the prompt scorer's hidden layer reads them, which `adapt` adds to.

        Raises:
            BundleError: when there is none, or it is of another scorer.
        """
        path = self.folder / PROMPT_SAMPLE
        if not path.is_file():
            raise BundleError(f"{self.folder} holds no {PROMPT_SAMPLE}, expected what a bundle of this release has")
        try:
            found = DenseExamples.of_arrays(load_file(path))
        except (ValueError, LookupError, TypeError, SafetensorError) as fault:
            raise BundleError(f"{path}: {fault}") from fault
        if found.dense.ndim != 2 or found.dense.shape[1] != self.prompt_scorer.hidden.shape[1]:
            raise BundleError(
                f"{path} has prompts of shape {found.dense.shape}, expected (n, {self.prompt_scorer.hidden.shape[1]})"
            )
        return found


def trusted(folder: Path) -> dict[str, Any]:
    """Verify a bundle, and try it out in another process unless it was before; returns its manifest.

    Raises:
        BundleError: saying what was found and expected.
    """
    manifest = verify(folder)
    digest = str(manifest[DIGEST])
    if folder.resolve() != RELEASED and not trial.is_proved(digest):
        with refusing(folder):
            trial.prove(folder, digest)
    return manifest


def examine(folder: Path) -> dict[str, Any]:
    """Verify a bundle and try it out in another process, whatever was tried before; returns its manifest.

    Raises:
        BundleError: saying what was found and expected.
    """
    manifest = verify(folder)
    with refusing(folder):
        trial.try_out(folder)
    return manifest


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
        return _read_static(folder)
    if name != MINILM:
        raise BundleError(f"{folder / MANIFEST} names the encoder {name!r}, expected {STATIC!r} or {MINILM!r}")
    try:
        return minilm()
    except ImportError as fault:
        raise BundleError(f"{folder} was learned with MiniLM's vectors: {fault}") from fault


def _read_static(folder: Path) -> Encoder:
    try:
        return StaticEncoder(folder / STATIC)
    except Exception as fault:  # libraries raise kinds of their own, and `tokenizers` this very one
        if type(fault).__module__ == "builtins" and type(fault) is not Exception:
            raise
        raise BundleError(f"{folder / STATIC} can't be read ({type(fault).__name__})") from fault


def _read_benign(folder: Path, n_areas: int, n_features: int) -> BenignProfile | None:
    if not (folder / BENIGN).is_file():  # the manifest lists every file, so it can't have been lost
        return None
    return BenignProfile.of_arrays(load_file(folder / BENIGN), n_areas=n_areas, n_features=n_features)


def _read_accounts(folder: Path) -> Calibration | None:
    if not (folder / ACCOUNTS).is_file():
        return None
    return Calibration.of_arrays(load_file(folder / ACCOUNTS), ACCOUNT_EDGES)


def _read_communities(folder: Path) -> CommunityModel:
    if not (folder / COMMUNITIES).is_file():
        return BUILT_IN
    return CommunityModel.of_values(read_json(folder / COMMUNITIES))


def _read_classifier(folder: Path, n_features: int) -> Classifier:
    trees = Trees((folder / CLASSIFIER).read_text(encoding="utf-8"))
    found = Classifier(trees, LogisticEnsemble.of_arrays(load_file(folder / EXPERTS)))
    if found.n_features != n_features:
        raise BundleError(f"{folder}: classifier reads {found.n_features} features, expected {n_features}")
    return found


def _read_prompt_scorer(folder: Path, n_dims: int) -> PromptScorer:
    scorer = PromptScorer.of_arrays(load_file(folder / PROMPT_SCORER))
    if scorer.n_dims != n_dims:
        raise BundleError(f"{folder / PROMPT_SCORER} reads {scorer.n_dims} dimensions, encoder has {n_dims}")
    return scorer
