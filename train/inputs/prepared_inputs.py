"""Prepared inputs: what a model is learned on: the prompts, their split, the encoder and the capability map.

Runs that differ only in what is built on it, as in a sweep, share the prepared inputs of the process.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.capability.capability_map import CapabilityMap
from serve.embedding.encoders import Encoder, StaticEncoder, encode_unique, minilm
from serve.sessions.canonical_text import canonical
from train.config.settings import Goal, HoldOut, InputSettings, SettingsError
from train.corpora.loading import load_pool
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.encoders.static_encoder import static_folder
from train.learning.split import Fold, folds, release_split
from train.synthesis.arrival_times import Timing
from train.taxonomy.areas import Hints, Taxonomy, build_map, read_taxonomy

_N_HINTS = 12_000  # prompts of sources that name their areas, about
_REFERENCE_STEP = 8  # every how manieth distinct prompt shows the capability map where traffic lies


@dataclass(frozen=True)
class Inputs:
    """What a run reads, checked before any work; `fold` is None for the exam, which goes through all folds."""

    taxonomy: Taxonomy
    pool: Pool
    timing: Timing
    fold: Fold | None


@dataclass(frozen=True)
class PreparedInputs:
    """The inputs with an encoder and a capability map that know nothing of what is held out.

    `static` is the folder of the encoder, None where it is MiniLM.
    """

    inputs: Inputs
    static: Path | None
    capabilities: CapabilityMap
    cache: PromptCache


@functools.lru_cache(maxsize=1)
def read_inputs(settings: InputSettings) -> Inputs:
    """Read areas, corpora and timing, and split.

    Raises:
        SettingsError: naming what is wrong with them.
    """
    folder = settings.corpora.dir
    try:
        taxonomy = read_taxonomy(Path(settings.capabilities.file))
        pool = load_pool(settings.corpora, seed=settings.seed)
        timing = Timing.default() if folder is None else Timing.of_traces(Path(folder) / "timing")
        return Inputs(taxonomy, pool, timing, _fold(pool, settings))
    except ValueError as fault:
        raise SettingsError(str(fault)) from fault


@functools.lru_cache(maxsize=1)
def prepare(settings: InputSettings) -> PreparedInputs:
    """Find or distil the encoder, and build the capability map.

    Raises:
        SettingsError: as `read_inputs` does.
        BundleError: when the released encoder is asked for and can't be trusted.
    """
    inputs = read_inputs(settings)
    pool, fold = inputs.pool, inputs.fold
    texts = [pool.texts[row] for row in (_never_examined(pool) if fold is None else fold.train)]
    static = static_folder(settings.encoder, texts, seed=settings.seed)
    encoder = minilm() if static is None else StaticEncoder(static)
    reference = encoder.encode(sorted({canonical(text) for text in texts})[::_REFERENCE_STEP])
    hints = _hints(pool, np.arange(len(pool)) if fold is None else fold.train, inputs.taxonomy, encoder)
    capabilities = build_map(
        inputs.taxonomy, encoder, reference, settings.capabilities, seed=settings.seed, hints=hints
    )
    return PreparedInputs(inputs, static, capabilities, PromptCache(encoder, capabilities))


def _hints(pool: Pool, rows: NDArray[np.int64], taxonomy: Taxonomy, encoder: Encoder) -> Hints:
    """Prompts of sources that say which of the areas they are of."""
    areas = tuple(taxonomy.areas)
    allowed = np.array([[area in source.areas for area in areas] for source in pool.sources], dtype=np.bool_)
    hinted = rows[np.any(allowed[pool.source[rows]], axis=1)]
    hinted = hinted[:: max(1, len(hinted) // _N_HINTS)]
    return Hints(encode_unique(encoder, [canonical(pool.texts[row]) for row in hinted]), allowed[pool.source[hinted]])


def _never_examined(pool: Pool) -> NDArray[np.int64]:
    """Rows that no fold of the exam asks about: the starter corpus and public benchmarks; all where there are none."""
    starter = pool.is_starter
    rows = np.flatnonzero(starter | (pool.labels == "evaluation"))
    return rows if len(rows) else np.arange(len(pool))


def _fold(pool: Pool, settings: InputSettings) -> Fold | None:
    if settings.goal is Goal.exam:
        return None
    if settings.hold_out is HoldOut.nothing:
        return release_split(pool, settings.split, seed=settings.seed)
    return next(folds(pool, settings.split, settings.hold_out.replace("_", " "), seed=settings.seed))
