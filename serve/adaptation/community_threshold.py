"""Community threshold: from which log-odds a campaign is called one, set by a provider's own benign accounts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from serve.adaptation.provider_rows import account_hashes, cut, is_learned
from serve.bundle.bundle import Bundle
from serve.campaigns.detector import candidates
from serve.campaigns.sketches import Sketches, sketch
from serve.features.session_features import observe
from serve.model.community_model import CommunityModel
from serve.scoring.scorer import CHUNK_PROMPTS
from serve.sessions.sessionizing import Timeline

MAX_LINKED = 5_000
"""Accounts that are linked, or a chunk more; of a larger traffic those that come first, by a hash of their name."""

ENOUGH = 100
"""Benign communities above all of which one in as many new ones lies; with fewer, the threshold is only raised."""

_DIGITS = 3


@dataclass(frozen=True, slots=True)
class CommunityThreshold:
    """A model of communities whose threshold no benign community passes, out of how many it was set."""

    model: CommunityModel
    n_communities: int


def community_threshold(timeline: Timeline, bundle: Bundle) -> CommunityThreshold:
    """Set the threshold by benign accounts that nothing is learned from, as the bundle scores them.

    It is the highest log-odds of their communities, at least 0; with fewer than `ENOUGH` it is at least what it was.
    """
    sketches = _aside(timeline, bundle)
    found = () if sketches is None else candidates(sketches).communities
    odds = [_rounded_up(bundle.communities.log_odds(signs)) for _, signs in found]
    least = 0.0 if len(odds) >= ENOUGH else bundle.communities.threshold
    return CommunityThreshold(replace(bundle.communities, threshold=max([least, *odds])), len(odds))


def _rounded_up(odds: float) -> float:
    """Log-odds of a few digits that aren't below these."""
    return float(math.ceil(odds * 10**_DIGITS) / 10**_DIGITS)


def _aside(timeline: Timeline, bundle: Bundle) -> Sketches | None:
    parts: list[Sketches] = []
    for sessions in timeline.chunks(CHUNK_PROMPTS):
        own = np.flatnonzero(~is_learned(account_hashes(sessions))).tolist()
        if own and sum(map(len, parts)) < MAX_LINKED:
            aside = cut(sessions, [(index, int(sessions.n_exchanges[index])) for index in own])
            prompts = observe(aside, bundle.encoder, bundle.capabilities, bundle.prompt_scorer)
            parts.append(sketch(aside, prompts, np.full(len(aside), np.nan)))
    return Sketches.joined(parts) if parts else None
