"""Sketched population: what a provider would keep of a population's accounts, without judging any session."""

from __future__ import annotations

import numpy as np

from serve.campaigns.sketches import Sketches, sketch
from serve.features.prompt_scorer import PromptInputs, PromptScorer
from serve.features.session_features import Evidenced
from serve.sessions.normalization import canonical_sessions, form
from serve.sessions.records import Sessions
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.synthesis.population import Population

_BLOCK = 600
_DAY = 86_400.0
_BEGIN = 1_767_225_600.0  # 1 January 2026


def sketched(population: Population, pool: Pool, cache: PromptCache, scorer: PromptScorer) -> Sketches:
    """Sketches of the accounts, named `a000000` and up in their order, each one session of 10 days within 30."""
    rng = np.random.default_rng(len(population))
    starts = _BEGIN + rng.random(len(population)) * 20 * _DAY
    parts = []
    for first in range(0, len(population), _BLOCK):
        last = min(first + _BLOCK, len(population))
        low, high = int(population.offsets[first]), int(population.offsets[last])
        offsets = population.offsets[first : last + 1] - low
        texts = tuple(pool.texts[row] for row in population.rows[low:high].tolist())
        at = np.repeat(starts[first:last], np.diff(offsets)) + rng.random(high - low) * 10 * _DAY
        names = tuple(f"a{index:06d}" for index in range(first, last))
        bare = canonical_sessions(texts, offsets)
        found = cache.lookup(bare)
        evidence = scorer.of(PromptInputs.of(found.encoded))
        prompts = Evidenced(offsets, found.vectors, found.assigned, evidence, form(bare))
        parts.append(sketch(Sessions(names, names, offsets, texts, at), prompts, np.full(last - first, np.nan)))
    return Sketches.joined(parts)
