"""Learn the model of communities for a bundle, and say how it does on campaigns and sources that were left out.

`python -m train.communities --corpora DIR` composes populations, fits the model and prints it as it stands in
`serve/campaigns/community_features.py`, with what passes its threshold and how far its probabilities hold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from serve.bundle.bundle import Bundle
from serve.bundle.files import RELEASED
from serve.model.community_model import CommunityModel
from train.corpora.loading import CorporaSettings, load_pool
from train.encoders.prompt_cache import PromptCache
from train.learning.communities import CommunitySettings, CommunityTable, composed_communities
from train.learning.community_model import FittedCommunities, fit_communities, reliability

_EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 1.0)
_CORPORA = CorporaSettings(use=("train", "evaluate"), starter_prompts=12_000, max_prompts=3_000)


def learned(options: argparse.Namespace) -> str:
    """Compose, fit, and say what came of it."""
    pool = load_pool(replace(_CORPORA, dir=options.corpora), seed=options.seed)
    bundle = Bundle.load(Path(options.bundle))
    cache = PromptCache(bundle.encoder, bundle.capabilities)
    parts = []
    for part in composed_communities(pool, cache, CommunitySettings(), seed=options.seed):
        parts.append(part)
        sys.stderr.write(f"population {len(parts)}: {len(part.fold)} communities, {part.is_campaign.sum()} campaigns\n")
    table = CommunityTable.joined(parts)
    return told(fit_communities(table, options.pass_rate), table)


def told(fitted: FittedCommunities, table: CommunityTable) -> str:
    """The model, what passes its threshold when the community's fold was left out, and its reliability."""
    passes = fitted.left_out > fitted.model.threshold
    lines = [model_text(fitted.model)]
    mixed = ~(table.is_campaign | table.is_benign)
    for name, own in (("campaigns", table.is_campaign), ("benign", table.is_benign), ("mixed", mixed)):
        n_accounts = int(table.n_accounts[own & passes].sum())
        lines.append(f"{name:9} {passes[own].sum():5} of {own.sum():5} communities pass, {n_accounts} accounts")
    return "\n".join([*lines, reliability(fitted.left_out, table, _EDGES)])


def model_text(model: CommunityModel) -> str:
    """A model as Python writes it."""
    return (
        f"CommunityModel(\n    mean={dict(model.mean)},\n    scale={dict(model.scale)},\n"
        f"    weight={dict(model.weight)},\n    intercept={model.intercept},\n    threshold={model.threshold},\n)"
    )


def main(given: Sequence[str] | None = None) -> int:
    """Print the model; a corpus that is missing or malformed ends it with one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m train.communities", description=__doc__)
    parser.add_argument("--corpora", required=True, metavar="DIR", help="folder of corpora with a CARDS.json")
    parser.add_argument("--bundle", default=str(RELEASED), metavar="DIR", help="bundle whose encoder and map are used")
    parser.add_argument("--pass-rate", type=float, default=0.005, help="share of benign communities that may pass")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(given)
    try:
        sys.stdout.write(learned(options))
    except ValueError as fault:
        sys.stderr.write(f"communities: {fault}\n")
        return 2
    return 0
