"""Removal: which prompts of a session weigh most, by how far its score falls without each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.features.session_features import Evidenced, feature_rows, observe
from serve.scoring.evidence import N_PROMPTS
from serve.scoring.scorer import Scorer
from serve.sessions.records import Sessions

MAX_TRIED = 200
"""Prompts that are tried of a longer session: those that look most like harvest."""

_CHUNK_PROMPTS = 20_000


@dataclass(frozen=True, slots=True)
class Weight:
    """What one prompt does for a score: its position in the session (1 for the first), and by how much the log-odds of
    the session's score fall without it."""

    position: int
    fall: float


def weightiest(scorer: Scorer, session: Sessions) -> tuple[Weight, ...]:
    """The `N_PROMPTS` prompts of one session without each of which its score falls most, the weightiest first; none of
    a session of one prompt."""
    bundle = scorer.bundle
    prompts = observe(session, bundle.encoder, bundle.capabilities, bundle.prompt_scorer)
    n, harvest = len(session.prompts), prompts.evidence[:, 0]
    if n < 2:
        return ()
    tried = np.argsort(-harvest, kind="stable")[:MAX_TRIED]
    whole = _log_odds(scorer, prompts)[0]
    step = max(1, _CHUNK_PROMPTS // n)
    parts = [_log_odds(scorer, _without_each(prompts, tried[at : at + step])) for at in range(0, len(tried), step)]
    falls = whole - np.concatenate(parts)
    best = np.lexsort((tried, -falls))[:N_PROMPTS]
    return tuple(Weight(int(tried[at]) + 1, float(falls[at])) for at in best)


def _log_odds(scorer: Scorer, prompts: Evidenced) -> NDArray[np.float64]:
    """Log-odds of the score of each session."""
    rows = feature_rows(prompts, scorer.bundle.capabilities)
    return scorer.bundle.calibration.log_odds(scorer.bundle.classifier.margins(rows))


def _without_each(prompts: Evidenced, places: NDArray[np.int64]) -> Evidenced:
    """One session as many: each without the prompt at one of these places."""
    n = len(prompts.vectors)
    every = np.tile(np.arange(n), (len(places), 1))
    rows = every[every != places[:, None]]
    return prompts.taken(rows, np.arange(len(places) + 1, dtype=np.int64) * (n - 1))
