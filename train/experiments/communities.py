"""Learn the model of communities for a bundle, and say how it does on campaigns and sources that were left out.

`python -m train.communities --corpora DIR --into BUNDLE` composes populations, stores their communities in a table,
fits the model, prints what passes its threshold and how far its probabilities hold, and writes the model into the
bundle. Without `--corpora` it fits the stored table again, which takes seconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from serve.bundle.bundle import Bundle
from serve.bundle.files import RELEASED
from serve.bundle.manifest import DIGEST, verify, write_manifest
from serve.bundle.writing import copy_parts, write_community_model
from serve.model.community_model import CommunityModel
from train.corpora.loading import CorporaSettings, load_pool
from train.encoders.prompt_cache import PromptCache
from train.learning.communities import CommunitySettings, composed_communities
from train.learning.community_model import FittedCommunities, fit_communities, passing_text, reliability
from train.learning.community_table import CommunityTable

TABLE = Path("mlruns/communities.parquet")
_EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 1.0)
_CORPORA = CorporaSettings(use=("train",), starter_prompts=12_000, max_prompts=3_000)
_OWN = ("format_version", "bundle_id", "files", DIGEST)


def composed(corpora: str, bundle_folder: Path, *, seed: int) -> CommunityTable:
    """Communities of populations of the corpora that may be learned from, each told of on stderr."""
    pool = load_pool(replace(_CORPORA, dir=corpora), seed=seed)
    bundle = Bundle.load(bundle_folder)
    cache = PromptCache(bundle.encoder, bundle.capabilities)
    parts = []
    for part in composed_communities(pool, cache, CommunitySettings(), seed=seed):
        parts.append(part)
        sys.stderr.write(f"population {len(parts)}: {len(part)} communities, {part.is_campaign.sum()} campaigns\n")
    return CommunityTable.joined(parts)


def put_into(folder: Path, model: CommunityModel) -> str:
    """Replace a bundle by itself with this model of communities; returns its new id.

    Raises:
        BundleError: when the bundle can't be trusted.
    """
    manifest = verify(folder)
    with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=".") as aside:
        new = Path(aside) / "bundle"
        copy_parts(folder, new)
        write_community_model(model, new)
        bundle_id = write_manifest(new, {key: value for key, value in manifest.items() if key not in _OWN})
        folder.rename(Path(aside) / "before")
        new.rename(folder)
    return bundle_id


def told(fitted: FittedCommunities, table: CommunityTable) -> str:
    """The model, what passes its threshold when the community's fold was left out, and its reliability."""
    weights = "  ".join(f"{name} {weight:+.3f}" for name, weight in fitted.model.weight.items())
    head = f"weights    {weights}\nintercept  {fitted.model.intercept}\nthreshold  {fitted.model.threshold}"
    return "\n".join([head, passing_text(fitted, table), reliability(fitted.left_out, table, _EDGES)])


def main(given: Sequence[str] | None = None) -> int:
    """Fit, print and write; a corpus, table or bundle that is wrong ends it with one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m train.communities", description=__doc__)
    parser.add_argument("--corpora", metavar="DIR", help="compose anew from a folder of corpora with a CARDS.json")
    parser.add_argument("--table", type=Path, default=TABLE, metavar="FILE", help=f"composed communities ({TABLE})")
    parser.add_argument("--bundle", type=Path, default=RELEASED, metavar="DIR", help="whose encoder and map are used")
    parser.add_argument("--into", type=Path, metavar="DIR", help="bundle that the model is written into")
    parser.add_argument("--pass-rate", type=float, default=0.003, help="share of benign communities that may pass")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(given)
    try:
        if options.corpora:
            composed(options.corpora, options.bundle, seed=options.seed).save(options.table)
        elif not options.table.is_file():
            raise ValueError(f"there is no {options.table}, expected --corpora DIR to compose from")
        table = CommunityTable.load(options.table)
        fitted = fit_communities(table, options.pass_rate)
        sys.stdout.write(told(fitted, table))
        if options.into:
            sys.stdout.write(f"bundle     {put_into(options.into, fitted.model)}\n")
    except ValueError as fault:
        sys.stderr.write(f"communities: {fault}\n")
        return 2
    return 0
