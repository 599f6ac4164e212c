"""What linking costs, and what may not change it: `python tests/bench/bench_linking.py PART ... --corpora DIR`.

    same     accounts shuffled, renamed or told in two parts, and one thread or two: is the partition the same?
    growth   processor time and memory for more and more accounts, each number in a new process

Prompts are those of corpora for evaluation only, drawn again and again: for `growth` each is moved a little, so that no
two are the same. A sixth of the accounts are of nine campaigns whose tasks are half of what they send.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from serve.bundle.bundle import Bundle  # noqa: E402
from serve.bundle.files import RELEASED  # noqa: E402
from serve.campaigns.archive import read_sketches, write_sketches  # noqa: E402
from serve.campaigns.detector import find  # noqa: E402
from serve.campaigns.fingerprints import fingerprint_keys  # noqa: E402
from serve.campaigns.results import CampaignResult, report  # noqa: E402
from serve.campaigns.sketches import N_LOWEST, Items, Sketches, text_hashes  # noqa: E402
from serve.features.prompt_scorer import PromptInputs  # noqa: E402
from serve.sessions.canonical_text import canonical  # noqa: E402
from tests.bench.bench_campaigns import peak_gib  # noqa: E402
from tests.bench.bench_unseen import Unseen  # noqa: E402

PROMPTS = 40
CAMPAIGNS = 9
SHARE = 1 / 6


class Drawn:
    """Sketches of accounts that draw prompts of a pool, without composing a single text."""

    def __init__(self, corpora: Path, bundle: Path) -> None:
        unseen = Unseen(corpora, bundle, 0)
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


def partition(sketches: Sketches, bundle: Bundle) -> frozenset[frozenset[str]]:
    """The accounts of each campaign found."""
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
    n, bundle = options.accounts[0], drawn.unseen.bundle
    for seed in range(options.seed, options.seed + options.n_populations):
        sketches = drawn.sketches(n, seed=seed, moved=False)
        plain = partition(sketches, bundle)
        print(
            f"seed {seed}, {n:,} accounts, {len(sketches.items):,} prompts: {len(plain)} campaigns of "
            f"{sum(map(len, plain))} accounts",
            flush=True,
        )
        for name, other, former in changed(sketches, np.random.default_rng(seed)):
            found = frozenset(frozenset(former[account] for account in own) for own in partition(other, bundle))
            print(f"{name:24} {'the same' if found == plain else difference(plain, found)}", flush=True)
        told = {threads: in_process(sketches, options, threads) for threads in (1, 2)}
        print(f"{'one thread, two':24} {'the same' if len(set(told.values())) == 1 else 'differ'}", flush=True)


def difference(plain: frozenset[frozenset[str]], found: frozenset[frozenset[str]]) -> str:
    """How many accounts are in a campaign in one of both partitions only."""
    one, other = (frozenset().union(*parts) for parts in (plain, found))
    return f"differ: {len(found)} campaigns, {len(one ^ other)} of {len(one | other)} accounts in one only"


def in_process(sketches: Sketches, options: argparse.Namespace, threads: int, *, cost: bool = False) -> str:
    """What `--link` prints in a new process of so many threads."""
    with tempfile.TemporaryDirectory() as folder:
        write_sketches(Path(folder), 0, sketches)
        command = [
            sys.executable, __file__, "--link", folder, "--bundle", str(options.bundle), *(["--cost"] if cost else [])
        ]  # fmt: skip
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, str(threads))
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def link(options: argparse.Namespace) -> None:
    """Link stored sketches in this process; with `--cost` print what it takes, else the campaigns in full."""
    sketches, bundle = read_sketches(options.link, 0), Bundle.load(options.bundle)
    before, worked, began = peak_gib(), time.process_time(), time.monotonic()
    found = find(sketches, bundle.capabilities, bundle.communities)
    if not options.cost:
        print(report(CampaignResult(found, sketches, 0, 0, 0, {}), bundle.bundle_id))
        return
    print(
        f"{len(sketches):8,}  {len(sketches.items):9,}  {time.process_time() - worked:9.1f}"
        f"  {time.monotonic() - began:9.1f}  {peak_gib():8.2f}  {before:6.2f}  {len(found.campaigns):9}"
    )


def growth(drawn: Drawn, options: argparse.Namespace) -> None:
    """A line for each number of accounts."""
    print("accounts    prompts  processor s  seconds  peak GiB  before  campaigns")
    for n in options.accounts:
        sketches = drawn.sketches(n, seed=options.seed, moved=True)
        print(in_process(sketches, options, options.threads, cost=True), end="", flush=True)


PARTS = {"same": same, "growth": growth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"some of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--corpora", type=Path, default=ROOT.parent / "shared" / "corpora", metavar="DIR")
    parser.add_argument("--bundle", type=Path, default=RELEASED, metavar="DIR")
    parser.add_argument("--accounts", type=int, nargs="+", default=[1_000, 4_000, 16_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-populations", type=int, default=3, help="populations of `same`")
    parser.add_argument("--threads", type=int, default=2, help="threads of each process of `growth`")
    parser.add_argument("--link", type=Path, metavar="DIR", help="only link the sketches of a folder in this process")
    parser.add_argument("--cost", action="store_true", help="with --link, print what it takes")
    options = parser.parse_args()
    if options.link:
        link(options)
        return
    drawn = Drawn(options.corpora, options.bundle)
    for part in options.parts:
        print(f"\n{part}", flush=True)
        PARTS[part](drawn, options)


if __name__ == "__main__":
    main()
