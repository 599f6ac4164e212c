"""What linking costs, and what may not change it: `python tests/bench/bench_linking.py PART ... --corpora DIR`.

    same     accounts shuffled, renamed or told in two parts, and one thread or two: is the partition the same?
    growth   processor time and memory for more and more accounts, each number in a new process
    shared   what addresses add where campaigns hide: three a campaign, five offices behind one each, own ones else
    dilution unseen campaigns among benign accounts, from their prompts alone: found, recall, precision, ARI

Prompts are those of corpora for evaluation only, drawn again and again: for `growth` each is moved a little, so that no
two are the same. A sixth of the accounts are of nine campaigns whose tasks are half of what they send. `shared` and
`dilution` compose populations as bench_unseen.py does.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from serve.bundle.files import RELEASED  # noqa: E402
from serve.campaigns.community_features import MIN_ACCOUNTS  # noqa: E402
from serve.campaigns.detector import campaigns_among, find, linked  # noqa: E402
from serve.campaigns.fingerprints import fingerprint_keys  # noqa: E402
from serve.campaigns.sketches import N_LOWEST, Items, Sketches, text_hashes  # noqa: E402
from serve.features.prompt_scorer import PromptInputs  # noqa: E402
from serve.infrastructure.account_metadata import AccountMetadata  # noqa: E402
from serve.sessions.canonical_text import canonical  # noqa: E402
from tests.bench.bench_campaigns import Truth, peak_gib, truth  # noqa: E402
from tests.bench.bench_unseen import Unseen  # noqa: E402
from train.learning.sketched_population import sketched  # noqa: E402
from train.synthesis.population import Population  # noqa: E402

PROMPTS = 40
CAMPAIGNS = 9
SHARE = 1 / 6


class Drawn:
    """Sketches of accounts that draw prompts of a pool, without composing a single text."""

    def __init__(self, corpora: Path, bundle: Path, n_benign: int) -> None:
        unseen = Unseen(corpora, bundle, n_benign)
        self.unseen, pool = unseen, unseen.pool
        texts = [canonical(text) for text in pool.texts]
        found = unseen.cache.lookup(texts)
        self.evidence = np.tanh(unseen.bundle.prompt_scorer.of(PromptInputs.of(found.encoded)) / 2.0)
        self.found, self.keys, self.hashes = found, fingerprint_keys(texts), text_hashes(texts)
        groups = np.unique(pool.groups[unseen.benign])
        self.sources = [unseen.benign[pool.groups[unseen.benign] == group] for group in groups]
        self.tasks = [np.flatnonzero(pool.groups == group) for group in unseen.harvest]

    def rows(self, n_accounts: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Rows of the pool (n_accounts, PROMPTS); the first accounts are campaigns'."""
        sources = [self.sources[index] for index in rng.integers(len(self.sources), size=n_accounts)]
        rows = np.stack([rng.choice(own, PROMPTS) for own in sources])
        for index, own in enumerate(np.array_split(np.arange(round(SHARE * n_accounts)), CAMPAIGNS)):
            task = self.tasks[index % len(self.tasks)]
            part = np.array_split(task, 2)[index // len(self.tasks) % 2]
            rows[own, : PROMPTS // 2] = rng.choice(part, (len(own), PROMPTS // 2))
        return rows

    def sketches(self, n_accounts: int, *, seed: int, moved: bool) -> Sketches:
        """Sketches; with `moved` no two prompts are the same."""
        rng = np.random.default_rng(seed)
        rows = self.rows(n_accounts, rng).ravel()
        owner = np.repeat(np.arange(n_accounts), PROMPTS)
        vector, text = self.found.vectors[rows], self.hashes[rows].copy()
        if moved:
            noise = rng.integers(-6, 7, size=vector.shape, dtype=np.int16)
            vector = np.clip(vector + noise, -127, 127).astype(np.int8)
            text += np.arange(len(text), dtype=np.uint64)
        else:
            kept = np.unique(np.stack([owner, rows], axis=1), axis=0, return_index=True)[1]
            rows, owner, vector, text = rows[kept], owner[kept], vector[kept], text[kept]
        places = self.found.assigned.rows(rows)
        items = Items(
            owner=owner, text=text, count=np.ones(len(rows), np.int64), priority=1.0 + rng.random(len(rows)),
            evidence=self.evidence[rows].astype(np.float32), vector=vector, area=places.area, skill=places.skill,
            cell=places.cell, keys=self.keys[rows], at=np.full(len(rows), np.nan),
        )  # fmt: skip
        return sketches_of(items, tuple(f"a{index:06d}" for index in range(n_accounts)))


def sketches_of(items: Items, names: tuple[str, ...]) -> Sketches:
    """Sketches of accounts all of whose prompts are kept, in the order that a sketch keeps them in."""
    n = len(names)
    unknown = np.full(n, np.nan)
    return Sketches.joined([Sketches(
        names, np.bincount(items.owner, minlength=n), np.ones(n, np.int64), unknown, unknown,
        np.zeros((n, 24), np.int64), np.full((n, N_LOWEST), np.nan), np.zeros(n), items,
    )])  # fmt: skip


def partition(sketches: Sketches, drawn: Drawn) -> frozenset[frozenset[str]]:
    """The accounts of each campaign found."""
    bundle = drawn.unseen.bundle
    found = find(sketches, bundle.capabilities, bundle.communities)
    return frozenset(campaign.account_ids for campaign in found.campaigns)


def changed(sketches: Sketches, rng: np.random.Generator) -> Iterator[tuple[str, Sketches, dict[str, str]]]:
    """The same accounts told otherwise, with their former names."""
    names = sketches.account_ids
    plain = {name: name for name in names}
    halves = rng.random(len(sketches.items)) < 0.5
    parts = [sketches_of(sketches.items.take(own), names) for own in (halves, ~halves)]
    yield "exchanges in two parts", Sketches.joined(parts), plain
    order = rng.permutation(len(names))
    renamed = tuple(f"x{index:06d}" for index in range(len(names)))
    items = sketches.items.owned(np.argsort(order)[sketches.items.owner])
    yield (
        "shuffled and renamed",
        sketches_of(items, renamed),
        {new: names[old] for new, old in zip(renamed, order.tolist(), strict=True)},
    )


def same(drawn: Drawn, options: argparse.Namespace) -> None:
    """Prints how many campaigns there are and whether each telling gives the same partition."""
    n = options.accounts[0]
    sketches = drawn.sketches(n, seed=options.seed, moved=False)
    plain = partition(sketches, drawn)
    print(f"{n:,} accounts, {len(sketches.items):,} prompts: {len(plain)} campaigns of {sum(map(len, plain))} accounts")
    for name, other, former in changed(sketches, np.random.default_rng(options.seed)):
        found = frozenset(frozenset(former[account] for account in own) for own in partition(other, drawn))
        print(f"{name:24} {'the same' if found == plain else difference(plain, found)}", flush=True)
    told = {threads: in_process(options, n, threads, moved=False) for threads in (1, 2)}
    print(f"{'one thread, two':24} {'the same' if len(set(told.values())) == 1 else 'differ'}")


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


def shared(drawn: Drawn, options: argparse.Namespace) -> None:
    """A line for each dilution and what is told: campaigns of all populations found, and who was accused."""
    unseen, bundle = drawn.unseen, drawn.unseen.bundle
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


def dilution(drawn: Drawn, options: argparse.Namespace) -> None:
    """A line for each dilution, from prompts alone."""
    unseen, bundle = drawn.unseen, drawn.unseen.bundle
    for share in options.dilutions:
        found = []
        for seed in range(options.seed, options.seed + options.n_populations):
            population = unseen.population(4, share, seed)
            sketches = sketched(population, unseen.pool, unseen.cache, bundle.prompt_scorer)
            campaign = find(sketches, bundle.capabilities, bundle.communities).campaign
            found.append((truth(population, campaign), 0, int((population.campaign == "").sum())))
            print(f"{share:.0%} seed {seed} ({found[-1][2]} benign) {told_of(found[-1:])}", flush=True)
        print(f"{share:.0%} all    {told_of(found)}", flush=True)


def difference(plain: frozenset[frozenset[str]], found: frozenset[frozenset[str]]) -> str:
    """How many accounts are in a campaign in one of both partitions only."""
    one, other = (frozenset().union(*parts) for parts in (plain, found))
    return f"differ: {len(found)} campaigns, {len(one ^ other)} of {len(one | other)} accounts in one only"


def in_process(options: argparse.Namespace, n: int, threads: int, *, moved: bool) -> str:
    """What `--link` prints in a new process of so many threads."""
    command = [
        sys.executable, __file__, "--link", str(n), "--seed", str(options.seed), "--corpora", str(options.corpora),
        "--bundle", str(options.bundle), *(["--moved"] if moved else []),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def link(drawn: Drawn, options: argparse.Namespace) -> None:
    """Link so many accounts in this process; with `--moved` print the cost, else the members."""
    sketches = drawn.sketches(options.link, seed=options.seed, moved=options.moved)
    before, worked = peak_gib(), time.process_time()
    campaigns = partition(sketches, drawn)
    if not options.moved:
        print(sorted(map(sorted, campaigns)))
        return
    print(
        f"{options.link:8,}  {len(sketches.items):9,}  {time.process_time() - worked:9.1f}  {peak_gib():8.2f}"
        f"  {before:6.2f}  {len(campaigns):9}"
    )


def growth(drawn: Drawn, options: argparse.Namespace) -> None:
    """A line for each number of accounts."""
    print("accounts    prompts  processor s  peak GiB  before  campaigns")
    for n in options.accounts:
        print(in_process(options, n, 2, moved=True), end="", flush=True)


PARTS = {"same": same, "growth": growth, "shared": shared, "dilution": dilution}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"some of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--corpora", type=Path, default=ROOT.parent / "shared" / "corpora", metavar="DIR")
    parser.add_argument("--bundle", type=Path, default=RELEASED, metavar="DIR")
    parser.add_argument("--accounts", type=int, nargs="+", default=[1_000, 4_000, 16_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dilutions", type=float, nargs="+", default=[0.9, 0.95], help="of `shared` and `dilution`")
    parser.add_argument("--n-populations", type=int, default=3, help="populations a dilution")
    parser.add_argument("--n-benign", type=int, default=600, help="benign accounts drawn for one")
    parser.add_argument("--link", type=int, metavar="N", help="only link N accounts in this process")
    parser.add_argument("--moved", action="store_true", help="with --link, no two prompts are the same")
    options = parser.parse_args()
    drawn = Drawn(options.corpora, options.bundle, options.n_benign)
    if options.link:
        link(drawn, options)
        return
    for part in options.parts:
        print(f"\n{part}", flush=True)
        PARTS[part](drawn, options)


if __name__ == "__main__":
    main()
