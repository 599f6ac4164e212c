"""Writing a bundle's files: one place for what training and `adapt` write alike."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors.numpy import save_file

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
    SIGNATURE,
)
from serve.capability.capability_map import CapabilityMap
from serve.features.prompt_scorer import PromptScorer
from serve.features.prompt_training import DenseExamples
from serve.model.benign_profile import BenignProfile
from serve.model.calibration import Calibration
from serve.model.classifier import Classifier
from serve.model.community_model import CommunityModel


@dataclass(frozen=True)
class Fitted:
    """What is fitted, by training or to a provider's traffic: see `Bundle`; `rows` are the training rows (features by
    name, then what `adapt` needs of each session, no text)."""

    classifier: Classifier
    calibration: Calibration
    benign: BenignProfile
    accounts: Calibration | None
    prompt_scorer: PromptScorer
    prompt_sample: DenseExamples
    reference: NDArray[np.float64]
    rows: pa.Table


def write_fitted(fitted: Fitted, names: Sequence[str], folder: Path) -> None:
    """Write all that was fitted on features `names`; an account model already in `folder` stays where there is none."""
    (folder / CLASSIFIER).write_text(fitted.classifier.trees.text, encoding="utf-8")
    _write_arrays(fitted.classifier.experts.arrays(), folder / EXPERTS)
    _write_arrays(fitted.calibration.arrays(), folder / CALIBRATION)
    _write_arrays(fitted.benign.arrays(), folder / BENIGN)
    if fitted.accounts is not None:
        _write_arrays(fitted.accounts.arrays(), folder / ACCOUNTS)
    write_prompt_scorer(fitted.prompt_scorer, fitted.prompt_sample, folder)
    write_reference(fitted.reference, folder)
    pq.write_table(
        fitted.rows, folder / FEATURES, compression="zstd", compression_level=19,
        use_dictionary=["kind", "campaign"], use_byte_stream_split=list(names), store_schema=False,
    )  # fmt: skip


def copy_parts(bundle: Path, folder: Path) -> None:
    """Copy a bundle's files to a new folder, without its manifest and signature: they are of the bundle as it was."""
    shutil.copytree(bundle, folder, ignore=shutil.ignore_patterns("__*", MANIFEST, SIGNATURE))


def write_capabilities(capabilities: CapabilityMap, folder: Path) -> None:
    """Write a map as JSON (names) and safetensors (vectors)."""
    names: dict[str, Any] = {
        "areas": dict(capabilities.titles),
        "skills": [{"area": s.area, "name": s.name, "title": s.title} for s in capabilities.skills],
        "temperature": capabilities.temperature,
        "floor": capabilities.floor,
        "sharpness": capabilities.sharpness,
    }
    arrays: dict[str, NDArray[Any]] = {
        "anchors": capabilities.anchors, "anchor_skills": capabilities.anchor_skills, "cells": capabilities.cells,
        "cell_areas": capabilities.cell_areas,
    }  # fmt: skip
    if capabilities.discriminant is not None:
        arrays |= {"area_weights": capabilities.discriminant.weights, "area_offsets": capabilities.discriminant.offsets}
        names |= {"area_scale": capabilities.discriminant.scale}
    (folder / CAPABILITIES).write_text(json.dumps(names, indent=1, ensure_ascii=False), encoding="utf-8")
    _write_arrays(arrays, folder / CAPABILITY_VECTORS)


def write_prompt_scorer(scorer: PromptScorer, sample: DenseExamples, folder: Path) -> None:
    """Write the prompt scorer and the sample of prompts that it can be trained on with."""
    _write_arrays(scorer.arrays(), folder / PROMPT_SCORER)
    _write_arrays(sample.arrays(), folder / PROMPT_SAMPLE)


def write_reference(benign_quantiles: NDArray[np.float64], folder: Path) -> None:
    """Write quantiles of every feature over benign sessions."""
    _write_arrays({"benign_quantiles": benign_quantiles}, folder / REFERENCE)


def write_community_model(model: CommunityModel, folder: Path) -> None:
    """Write what tells campaigns from other accounts that ask alike."""
    (folder / COMMUNITIES).write_text(json.dumps(model.values(), indent=1) + "\n", encoding="utf-8")


def _write_arrays(arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
