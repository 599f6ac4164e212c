"""Campaigns among sources that nothing learned from: `python tests/bench/bench_unseen.py PART ... --corpora DIR`.

    benign     benign-only populations: false campaigns and accused accounts, by source
    campaigns  four campaigns hidden among benign accounts, by dilution: found, recall, precision

Corpora are those for evaluation only, of groups that no other corpus belongs to. The bundle judges as it is or, with
`--adapt`, adapted to the benign traffic of half of the people; populations are then of the other half. Each
population is linked once and judged by the bundle's model of communities and by the one built in for older bundles.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from serve.adaptation.adapt import Adaptation, adapt  # noqa: E402
from serve.bundle.bundle import Bundle  # noqa: E402
from serve.bundle.files import RELEASED  # noqa: E402
from serve.campaigns.community_features import Community  # noqa: E402
from serve.campaigns.detector import candidates  # noqa: E402
from serve.model.community_model import BUILT_IN, CommunityFeatures, CommunityModel  # noqa: E402
from train.corpora.loading import CorporaSettings, load_pool  # noqa: E402
from train.encoders.prompt_cache import PromptCache  # noqa: E402
from train.learning.sketched_population import sketched  # noqa: E402
from train.synthesis.population import Population, PopulationSettings, populate, without_twins  # noqa: E402

DILUTIONS = (0.0, 0.5, 0.75, 0.9, 0.95)
CUSTOMERS = ((1, 20), (20, 150))
MIN_PROMPTS = 200
OWN_ACCOUNTS = 1_000  # benign accounts to adapt to


@dataclass(frozen=True)
class Judged:
    """What a model makes of one population: campaigns, how many of them hold mostly benign accounts, benign accounts
    accused, by source, and campaigns and their accounts found."""

    n_campaigns: int
    n_false: int
    accused: Counter[str]
    n_benign: int
    n_real: int
    n_found: int
    n_members: int
    n_recalled: int


class Unseen:
    """Prompts of unseen corpora, encoded once, with what the bundle needs to judge populations of them."""

    def __init__(self, corpora: Path, bundle: Path, n_benign: int) -> None:
        settings = CorporaSettings(dir=str(corpora), use=("evaluate",), starter=False, max_prompts=6_000)
        learned = CorporaSettings(dir=str(corpora), use=("train",), starter=False, max_prompts=1)
        seen = {source.group for source in load_pool(learned, seed=0).sources}
        self.pool, self.bundle, self.n_benign = load_pool(settings, seed=0), Bundle.load(bundle), n_benign
        self.bundle_folder = bundle
        self.cache = PromptCache(self.bundle.encoder, self.bundle.capabilities)
        self.topic = self.cache.lookup_raw(self.pool.texts).assigned.cell.astype(np.int64)
        is_new = ~np.isin(self.pool.groups, sorted(seen))
        self.benign = np.flatnonzero(is_new & np.isin(self.pool.kinds, ("person", "product")))
        names, counts = np.unique(self.pool.groups[is_new & (self.pool.kinds == "harvest")], return_counts=True)
        self.harvest = names[counts >= MIN_PROMPTS].tolist()

    def adapt(self) -> None:
        """Adapt the bundle to benign accounts of half of the people, and keep the other half to draw populations of."""
        is_own = np.random.default_rng(0).random(int(self.pool.person.max()) + 1)[self.pool.person[self.benign]] < 0.5
        settings = PopulationSettings(OWN_ACCOUNTS, 0, (10, 40), (25, 60), (1, 60))
        own = populate(self.pool, self.benign[is_own], [], self.topic, settings, seed=0)
        with tempfile.TemporaryDirectory() as folder:
            log, out = Path(folder) / "own.jsonl", Path(folder) / "adapted"
            with log.open("w", encoding="utf-8") as file:
                for place, (account, row) in enumerate(zip(own.owner.tolist(), own.rows.tolist(), strict=True)):
                    exchange = {"account_id": f"account-{account}", "at": 60.0 * place, "prompt": self.pool.texts[row]}
                    file.write(json.dumps(exchange) + "\n")
            adapt(Adaptation((log,), out, self.bundle_folder))
            self.bundle = Bundle.load(out)
        self.benign = self.benign[~is_own]

    def population(self, n_campaigns: int, dilution: float, seed: int) -> Population:
        """Benign accounts, with campaigns of 10 to 40 accounts among them; 25 to 60 exchanges an account."""
        settings = PopulationSettings(
            self.n_benign, n_campaigns, (10, 40), (25, 60), CUSTOMERS[seed % len(CUSTOMERS)], dilution
        )
        return without_twins(populate(self.pool, self.benign, self.harvest, self.topic, settings, seed=seed), self.pool)

    def judged(self, population: Population, models: Mapping[str, CommunityModel]) -> dict[str, Judged]:
        """What each model makes of a population."""
        found = candidates(sketched(population, self.pool, self.cache, self.bundle.prompt_scorer)).communities
        return {name: self._judged(population, found, model) for name, model in models.items()}

    def _judged(
        self, population: Population, found: Sequence[tuple[Community, CommunityFeatures]], model: CommunityModel
    ) -> Judged:
        campaigns = [own.accounts for own, signs in found if model.is_campaign(signs)]
        members = np.unique(np.concatenate([np.zeros(0, np.int64), *campaigns]))
        is_benign = population.campaign == ""
        accused = members[is_benign[members]]
        main = [self.main_source(population, account) for account in accused.tolist()]
        names, sizes = np.unique(population.campaign[~is_benign], return_counts=True)
        recalled = [max((_n(population, own, name) for own in campaigns), default=0) for name in names.tolist()]
        return Judged(
            len(campaigns), sum(bool(is_benign[own].mean() > 0.5) for own in campaigns), Counter(main),
            int(is_benign.sum()), len(names),
            sum(2 * n >= size for n, size in zip(recalled, sizes.tolist(), strict=True)),
            int((~is_benign).sum()), sum(recalled),
        )  # fmt: skip

    def main_source(self, population: Population, account: int) -> str:
        """The group that most of an account's exchanges are of."""
        rows = population.rows[population.offsets[account] : population.offsets[account + 1]]
        return Counter(self.pool.groups[rows].tolist()).most_common(1)[0][0]


def _n(population: Population, accounts: NDArray[np.int64], campaign: str) -> int:
    return int((population.campaign[accounts] == campaign).sum())


def summary(label: str, found: Sequence[Judged]) -> str:
    """One line for some populations of a kind, judged by one model."""
    n_accused, n_recalled = sum(part.accused.total() for part in found), sum(part.n_recalled for part in found)
    real = sum(part.n_real for part in found)
    line = (
        f"{label:20} {sum(not part.n_false for part in found):3} of {len(found)} populations clean, "
        f"{sum(part.n_false for part in found)} false campaigns, "
        f"{1000 * n_accused / sum(part.n_benign for part in found):.1f} accused of 1,000"
    )
    if real:
        line += (
            f"; found {sum(part.n_found for part in found)} of {real}, "
            f"recall {n_recalled / sum(part.n_members for part in found):.2f}, "
            f"precision {n_recalled / max(n_recalled + n_accused, 1):.2f}"
        )
    return line


def shown(unseen: Unseen, cases: Sequence[tuple[str, int, float]], seeds: Sequence[int]) -> None:
    """Each case (name, campaigns, dilution) on populations of all seeds, then who was accused."""
    models = {"built in": BUILT_IN, "bundle": unseen.bundle.communities}
    for name, n_campaigns, dilution in cases:
        found = [unseen.judged(unseen.population(n_campaigns, dilution, seed), models) for seed in seeds]
        for model in models:
            parts = [own[model] for own in found]
            sources = sum((part.accused for part in parts), Counter[str]())
            print(summary(f"{name:9} {model}", parts), dict(sources.most_common()) or "", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["benign", "campaigns"], help="benign, campaigns (default: both)")
    parser.add_argument("--corpora", type=Path, default=ROOT.parent / "shared" / "corpora", metavar="DIR")
    parser.add_argument("--bundle", type=Path, default=RELEASED, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--n-populations", type=int, default=8, help="populations of each kind")
    parser.add_argument("--n-benign", type=int, default=600, help="benign accounts drawn")
    parser.add_argument("--adapt", action="store_true", help="adapt the bundle to half of the people first")
    options = parser.parse_args()
    unseen = Unseen(options.corpora, options.bundle, options.n_benign)
    if options.adapt:
        unseen.adapt()
    seeds = range(options.seed, options.seed + options.n_populations)
    if "benign" in options.parts:
        shown(unseen, [("benign", 0, 0.0)], seeds)
    if "campaigns" in options.parts:
        shown(unseen, [(f"{dilution:.0%}", 4, dilution) for dilution in DILUTIONS], seeds)


if __name__ == "__main__":
    main()
