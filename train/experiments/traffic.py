"""Traffic: sessions composed of prompts that nothing was learned from, or of any, written to files.

`python -m train.traffic OUT` writes traffic of the starter corpus, or of corpora in a folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from serve.bundle.bundle import Bundle
from serve.bundle.files import RELEASED
from train.corpora.loading import CorporaSettings, load_pool
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.evaluation.exam import ExamSettings, exam_composition
from train.inputs.prepared_inputs import Inputs
from train.learning.model import topics
from train.synthesis.arrival_times import Timing
from train.synthesis.compose import Composer, ComposeSettings
from train.synthesis.composition import Composition
from train.synthesis.traffic_files import HELD_OUT, write_traffic


def write_held_out(inputs: Inputs, cache: PromptCache, settings: ExamSettings, name: str, *, seed: int) -> Path | None:
    """Write exam sessions, which nothing was learned from, to a folder of this name; None where nothing is held out."""
    fold = inputs.fold
    if fold is None or not fold.held_campaigns:
        return None
    composition, _ = exam_composition(inputs.pool, fold, cache, inputs.timing, settings, seed=seed)
    return write_traffic(composition, inputs.pool, HELD_OUT / name)


def compose_traffic(pool: Pool, bundle: Bundle, n_sessions: int, *, seed: int) -> Composition:
    """A mix of every kind, length and dilution, with topics as the bundle's map has them."""
    cache = PromptCache(bundle.encoder, bundle.capabilities)
    rows = np.arange(len(pool))
    composer = Composer(pool, rows, topics(pool, cache), Timing.default(), seed=seed)
    return composer.mixed(n_sessions, ComposeSettings())


def main(arguments: Sequence[str] | None = None) -> int:
    """Write traffic to a folder."""
    parser = argparse.ArgumentParser(prog="python -m train.traffic", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument("--sessions", type=int, default=200, help="how many sessions (default: 200)")
    parser.add_argument("--corpora", metavar="DIR", help="folder with CARDS.json (default: the starter corpus)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parquet", action="store_true", help="Parquet instead of JSON lines")
    parser.add_argument("--bundle", type=Path, default=RELEASED, metavar="DIR", help="whose map tells topics apart")
    given = parser.parse_args(arguments)
    corpora = CorporaSettings(dir=given.corpora, starter=given.corpora is None, starter_prompts=12_000)
    try:
        pool = load_pool(corpora, seed=given.seed)
        composition = compose_traffic(pool, Bundle.load(given.bundle), given.sessions, seed=given.seed)
    except ValueError as fault:
        sys.stderr.write(f"traffic: {fault}\n")
        return 2
    write_traffic(composition, pool, given.out, as_parquet=given.parquet)
    sys.stdout.write(f"{len(composition):,} sessions, {len(composition.rows):,} exchanges in {given.out}\n")
    return 0
