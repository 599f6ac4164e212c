"""Static encoder: the static encoder of a run, taken from where its settings say or distilled from minilm and kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from serve.bundle.files import RELEASED, STATIC
from serve.bundle.manifest import verify
from train.encoders.package_versions import versions
from train.encoders.settings import DistillSettings, EncoderSettings, EncoderSource


def static_folder(settings: EncoderSettings, texts: Sequence[str], *, seed: int) -> Path | None:
    """The folder of the static encoder for a run over `texts`, None for a run with MiniLM.

    Raises:
        BundleError: when the released bundle, whose encoder is asked for, can't be trusted.
        ValueError: when an encoder from a folder is asked for, but the folder isn't named.
        ImportError: when distilling is asked for and the extra `train` is not installed.
    """
    if settings.source is EncoderSource.minilm:
        return None
    if settings.source is EncoderSource.released:
        verify(RELEASED)
        return RELEASED / STATIC
    if settings.source is EncoderSource.folder:
        if settings.folder is None:
            raise ValueError("encoder.source is folder, but encoder.folder is not set")
        return Path(settings.folder)
    return _distilled_folder(settings.distill, Path(settings.cache_dir), texts, seed)


def _distilled_folder(settings: DistillSettings, cache: Path, texts: Sequence[str], seed: int) -> Path:
    """Teach an encoder aside and move it into place whole, so that no other process ever sees half of one."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # no loading reports; read when it is imported
    from train.encoders.distillation import (  # takes seconds, which other sources need not wait for
        distilled,
        training_sample,
    )

    folder = cache / _fingerprint(settings, training_sample(texts, settings.n_texts, seed), seed)
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".") as aside:
        made = Path(aside) / STATIC
        distilled(texts, settings, made, seed=seed)
        try:
            made.rename(folder)
        except OSError:  # another process was faster, with the same bytes
            shutil.rmtree(made)
    return folder


def _fingerprint(settings: DistillSettings, sample: Sequence[str], seed: int) -> str:
    distiller = [versions(("torch", "model2vec", "transformers", "tokenizers")), _code()]
    digest = hashlib.sha256(json.dumps([asdict(settings), seed, distiller], sort_keys=True).encode())
    for text in sample:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:16]


def _code() -> str:
    """Digest of the code that distils, so that no encoder is left behind that this code would not make."""
    return hashlib.sha256(Path(__file__).with_name("distillation.py").read_bytes()).hexdigest()[:16]
