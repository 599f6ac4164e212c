"""What addresses add to what accounts ask: `python tests/bench/bench_addresses.py --corpora DIR`.

Four unseen campaigns among benign accounts, composed as bench_unseen.py does, by dilution: found by what accounts ask,
by addresses, by both, and by both where campaigns share no address. A campaign has three addresses, each of its
accounts two of them; five offices have one each, two of them all of whose people are customers of one product; every
other account has an address of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from serve.bundle.files import RELEASED  # noqa: E402
from serve.campaigns.community_features import MIN_ACCOUNTS  # noqa: E402
from serve.campaigns.detector import campaigns_among, linked  # noqa: E402
from serve.campaigns.sketches import text_hashes  # noqa: E402
from serve.infrastructure.account_metadata import AccountMetadata  # noqa: E402
from tests.bench.bench_campaigns import Truth, truth  # noqa: E402
from tests.bench.bench_unseen import DILUTIONS, Unseen  # noqa: E402
from train.learning.sketched_population import sketched  # noqa: E402
from train.synthesis.population import Population  # noqa: E402

OFFICES, OFFICE = 5, 16
TOLD = ("content alone", "addresses alone", "both", "campaigns share nothing")


def addresses(
    population: Population, source: Sequence[str], rng: np.random.Generator, *, told: bool
) -> list[list[str]]:
    """Addresses of each account: two of its campaign's three where `told`, an office's one, else its own. Two of the
    offices are customers of one product, who ask alike; the others are anybody."""
    own = [[f"a{index}"] for index in range(len(population))]
    benign = rng.permutation(np.flatnonzero(population.campaign == "")).tolist()
    products = Counter(source[index] for index in benign if population.kind[index] == "product").most_common(2)
    for office in range(OFFICES):
        wanted = products[office][0] if office < len(products) else None
        some = [index for index in benign if wanted is None or source[index] == wanted][:OFFICE]
        benign = [index for index in benign if index not in some]
        for index in some:
            own[index] = [f"office{office}"]
    for index in np.flatnonzero(population.campaign != "").tolist() if told else ():
        own[index] = [f"{population.campaign[index]} {place}" for place in rng.permutation(3)[:2].tolist()]
    return own


def metadata_of(own: Sequence[Sequence[str]]) -> AccountMetadata:
    """As read from logs: the accounts of a sketched population have these addresses."""
    hashed = {
        f"a{index:06d}": {(0, int(text_hashes([address])[0])) for address in addresses}
        for index, addresses in enumerate(own)
    }
    return AccountMetadata.of_pairs(hashed)


def shared(unseen: Unseen, options: argparse.Namespace) -> None:
    """A line for each dilution and what is told: campaigns of all populations found, and who was accused."""
    bundle = unseen.bundle
    for dilution in options.dilutions:
        results: dict[str, list[tuple[Truth, int, int]]] = {name: [] for name in TOLD}
        for seed in range(options.seed, options.seed + options.n_populations):
            population = unseen.population(4, dilution, seed)
            source = [unseen.main_source(population, account) for account in range(len(population))]
            sketches = sketched(population, unseen.pool, unseen.cache, bundle.prompt_scorer)
            compared = linked(sketches)
            for name in TOLD:
                told = addresses(population, source, np.random.default_rng(seed), told=name != TOLD[3])
                metadata = None if name == TOLD[0] else metadata_of(told)
                if name == TOLD[1]:
                    campaign = grouped(told)
                else:
                    found = compared.candidates(metadata)
                    campaign = campaigns_among(sketches, found, bundle.capabilities, bundle.communities).campaign
                office = [own[0].startswith("office") for own in told]
                n_office = int((np.array(office) & (campaign >= 0)).sum())
                benign = int((population.campaign == "").sum())
                results[name].append((truth(population, campaign), n_office, benign))
        for name, parts in results.items():
            print(f"{dilution:.0%} {name:24} {told_of(parts)}", flush=True)


def grouped(told: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Accounts that addresses link as campaigns, whatever they ask, -1 for groups of fewer than five."""
    names = {address: len(told) + place for place, address in enumerate(sorted({own for row in told for own in row}))}
    pairs = [(index, names[address]) for index, row in enumerate(told) for address in row]
    n = len(told) + len(names)
    links = scipy.sparse.csr_array((np.ones(len(pairs)), tuple(zip(*pairs, strict=True))), shape=(n, n))
    label = connected_components(links, directed=False)[1][: len(told)]
    size = np.bincount(label)
    rank = np.cumsum(size >= MIN_ACCOUNTS) - 1
    return np.where(size[label] >= MIN_ACCOUNTS, rank[label], -1)


def told_of(found: Sequence[tuple[Truth, int, int]]) -> str:
    """Means over populations, weighed alike."""
    parts = [part for part, _, _ in found]
    accused, benign = sum(part.accused for part in parts), sum(n for _, _, n in found)
    return (
        f"found {sum(part.n_found for part in parts):2} of {sum(part.n_campaigns for part in parts)}, "
        f"recall {np.mean([part.recall for part in parts]):.2f}, "
        f"precision {np.mean([part.precision for part in parts]):.2f}, "
        f"ARI {np.mean([part.ari for part in parts]):.2f}, "
        f"false campaigns {sum(part.n_false for part in parts)}, accused {1000 * accused / benign:.1f} of 1,000 "
        f"(in offices {sum(n for _, n, _ in found)} of {len(found) * OFFICES * OFFICE})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=ROOT.parent / "shared" / "corpora", metavar="DIR")
    parser.add_argument("--bundle", type=Path, default=RELEASED, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--dilutions", type=float, nargs="+", default=DILUTIONS)
    parser.add_argument("--n-populations", type=int, default=3, help="populations a dilution")
    parser.add_argument("--n-benign", type=int, default=600, help="benign accounts drawn for one")
    options = parser.parse_args()
    shared(Unseen(options.corpora, options.bundle, options.n_benign), options)


if __name__ == "__main__":
    main()
