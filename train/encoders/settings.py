"""Settings: the settings of which encoder a run uses; light, since every command reads settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class EncoderSource(StrEnum):
    """Where the encoder comes from."""

    released = "released"
    distil = "distil"
    folder = "folder"
    minilm = "minilm"


@dataclass(frozen=True, slots=True)
class DistillSettings:
    """How the static encoder is taught: `n_texts` = 0 stops after plain distillation."""

    n_dims: int = 256
    n_texts: int = 4000
    n_epochs: int = 12
    n_batch: int = 512
    learning_rate: float = 0.01
    pair_weight: float = 2.0


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """`released` takes the encoder of the bundle that ships with the package; `distil` teaches one as `distill` says,
    and keeps it in `cache_dir` for runs with the same texts and settings; `folder` takes the one in that folder.
    `minilm` is All-MiniLM-L6-v2 itself from its package, at a thousandth of the speed."""

    source: EncoderSource = EncoderSource.distil
    folder: str | None = None
    distill: DistillSettings = field(default_factory=DistillSettings)
    cache_dir: str = ".cache/encoders"
