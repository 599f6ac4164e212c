"""What a bundle's files are called, and the error of a bundle that can't be trusted."""

from __future__ import annotations

from pathlib import Path

FORMAT_VERSION = 3
RELEASED = (Path(__file__).parents[1] / "released").resolve()
"""The bundle that ships with the package."""

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.minisig"
"""Beside the manifest, where somebody signed it; the manifest can't list it."""

CLASSIFIER = "classifier.txt"
CAPABILITIES = "capabilities.json"
CAPABILITY_VECTORS = "capabilities.safetensors"
STATIC = "static"
EXPERTS = "experts.safetensors"
CALIBRATION = "calibration.safetensors"
REFERENCE = "reference.safetensors"
PROMPT_SCORER = "prompt_scorer.safetensors"
PROMPT_SAMPLE = "prompt_sample.safetensors"
FEATURES = "features.parquet"
BENIGN = "benign.safetensors"
ACCOUNTS = "accounts.safetensors"
COMMUNITIES = "communities.json"


class BundleError(ValueError):
    """A bundle that can't be trusted or read: says what was found and what was expected."""
