"""How well campaigns are found: `python tests/bench/bench_campaigns.py PART ... --corpora DIR`.

    signs        how far campaigns lie from benign communities in populations of other seeds; the threshold is from them
    population   2,000 benign accounts and 9 campaigns of 20 to 60 accounts, 30 to 100 exchanges an account, by dilution
    benign       benign-only populations, by seed: how many false campaigns
    split        5,000 prompts of one harvest over 10, 100 and 500 accounts
    event        the three campaigns of February 2026, scaled 1:100 (--one-to)
    indicators   campaigns of one population told to another provider: sessions of either label that match them there
    scale        24,000 accounts, 4,000 of them in nine campaigns, linked from their sketches in a new process

Populations are composed from corpora. The prompt scorer is trained anew without the corpora of the population's
campaigns; the encoder, the map and the classifier are those of the bundle, and saw them. A third of benign sources is
left out of each population at random; benign sources are known traffic.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from serve.bundle.bundle import Bundle  # noqa: E402
from serve.bundle.files import RELEASED  # noqa: E402
from serve.campaigns import indicators  # noqa: E402
from serve.campaigns.archive import Archive  # noqa: E402
from serve.campaigns.detector import candidates, find  # noqa: E402
from serve.campaigns.sketches import Sketches, sketch  # noqa: E402
from serve.features.prompt_scorer import PromptInputs, PromptScorer  # noqa: E402
from serve.features.prompt_training import train  # noqa: E402
from serve.features.session_features import Evidenced  # noqa: E402
from serve.scoring.scorer import Scorer  # noqa: E402
from serve.sessions.canonical_text import canonical  # noqa: E402
from serve.sessions.normalization import canonical_sessions, form  # noqa: E402
from serve.sessions.records import Sessions  # noqa: E402
from train.corpora.loading import CorporaSettings, load_pool  # noqa: E402
from train.encoders.prompt_cache import PromptCache  # noqa: E402
from train.learning.evidence import EvidenceSettings, lessons  # noqa: E402
from train.synthesis.population import Population, PopulationSettings, populate  # noqa: E402

DILUTIONS = (0.0, 0.5, 0.75, 0.9)
FPR = 0.001
EVENT = (
    ("mathematics", 150_000, 2_000, 0.0), ("tool_use", 3_400_000, 5_000, 0.0), ("coding", 13_000_000, 20_000, 0.5)
)  # fmt: skip
"""Area, exchanges, accounts and dilution of the campaigns of February 2026; all but exchanges and 20,000 is ours."""
FOUND = "found.npy"
DEV_SEED = 100
BLOCK = 600  # accounts judged at a time


@dataclass(frozen=True)
class Truth:
    """How a population's campaigns were found; shares are 0-1.

    `flagged` is the share of campaign accounts that are in any campaign found, `accused` how many benign accounts are.
    """

    n_campaigns: int
    n_found: int
    n_false: int
    recall: float
    precision: float
    ari: float
    flagged: float
    accused: int


class Bench:
    """A pool of corpora whose prompts are encoded once, and what is needed to judge populations of them."""

    def __init__(self, corpora: Path, bundle: Path) -> None:
        self.pool = load_pool(
            CorporaSettings(dir=str(corpora), use=("train", "evaluate"), starter_prompts=24_000, max_prompts=6_000),
            seed=0,
        )
        self.bundle = Bundle.load(bundle)
        self.cache = PromptCache(self.bundle.encoder, self.bundle.capabilities)
        found = self.cache.lookup([canonical(text) for text in self.pool.texts])
        self.topic = found.assigned.cell.astype(np.int64)
        self.area = found.assigned.area.astype(np.int64)
        self.settings = EvidenceSettings()
        groups, counts = np.unique(self.pool.groups[self.pool.kinds == "harvest"], return_counts=True)
        self.harvest = [str(group) for group, count in zip(groups, counts, strict=True) if count >= 290]

    def population(self, settings: PopulationSettings, *, seed: int, harvest: Sequence[str] = ()) -> Population:
        """A population of some of the benign sources, and of these or of any campaign corpora."""
        rng = np.random.default_rng(seed)
        organic = np.isin(self.pool.kinds, ("person", "product"))
        dropped = [group for group in np.unique(self.pool.groups[organic]) if rng.random() < self._drop(group)]
        benign = np.flatnonzero(organic & ~np.isin(self.pool.groups, dropped))
        chosen = harvest or rng.permutation(self.harvest)[: 2 * settings.n_campaigns].tolist()
        return populate(self.pool, benign, chosen, self.topic, settings, seed=seed)

    def rows_about(self, area: str) -> NDArray[np.int64]:
        """Rows of all campaign corpora that are mostly about an area."""
        code = self.bundle.capabilities.areas.index(area)
        groups = [
            group for group in self.harvest
            if np.bincount(self.area[self.pool.groups == group] + 1).argmax() - 1 == code
        ]  # fmt: skip
        rows = np.flatnonzero(np.isin(self.pool.groups, groups))
        if not len(rows):
            raise SystemExit(f"no campaign corpus is mostly about {area}")
        return rows

    def matched(self, population: Population, known: indicators.Indicators) -> NDArray[np.bool_]:
        """Accounts whose one session matches an indicator."""
        names = tuple(f"a{index:06d}" for index in range(len(population)))
        texts = tuple(self.pool.texts[row] for row in population.rows.tolist())
        sessions = Sessions(names, names, population.offsets, texts, np.full(len(texts), np.nan))
        table = indicators.match(known, sessions, self.topic[population.rows], known.bundle_id)
        return np.isin(names, table.column("account_id").to_pylist())

    def _drop(self, group: str) -> float:
        return 0.7 if group.startswith("starter/") else 0.33

    def prompt_scorer(self, population: Population) -> PromptScorer:
        """A prompt scorer that saw nothing of the population's campaigns."""
        held = np.unique(self.pool.groups[population.rows[population.is_task]])
        learned = lessons(self.pool, np.flatnonzero(~np.isin(self.pool.groups, held)), self.cache, self.settings)
        return train(learned.examples, self.settings, seed=0)

    def sketches(self, population: Population) -> Sketches:
        """What would be kept of the population's accounts; no session is judged."""
        return self.judged(population, judge=False)[0]

    def judged(self, population: Population, *, judge: bool = True) -> tuple[Sketches, NDArray[np.float64]]:
        """What would be kept of the accounts, each one session on its own clock, and the sessions' scores."""
        prompt_scorer = self.prompt_scorer(population)
        scorer = Scorer(self.bundle)
        rng = np.random.default_rng(len(population))
        starts = 1_767_225_600.0 + rng.random(len(population)) * 20 * 86_400
        parts, scores = [], np.zeros(len(population))
        for first in range(0, len(population), BLOCK):
            last = min(first + BLOCK, len(population))
            low, high = int(population.offsets[first]), int(population.offsets[last])
            offsets = population.offsets[first : last + 1] - low
            texts = tuple(self.pool.texts[row] for row in population.rows[low:high].tolist())
            at = np.repeat(starts[first:last], np.diff(offsets)) + rng.random(high - low) * 10 * 86_400
            names = tuple(f"a{index:06d}" for index in range(first, last))
            sessions = Sessions(names, names, offsets, texts, at)
            bare = canonical_sessions(texts, offsets)
            found = self.cache.lookup(bare)
            evidence = prompt_scorer.of(PromptInputs.of(found.encoded))
            prompts = Evidenced(offsets, found.vectors, found.assigned, evidence, form(bare))
            p_value = np.full(last - first, np.nan)
            if judge:
                verdicts = scorer.judge_observed(sessions, prompts)
                p_value, scores[first:last] = verdicts.p_value, verdicts.score
            parts.append(sketch(sessions, prompts, p_value))
        return Sketches.joined(parts), scores


def truth(population: Population, campaign: NDArray[np.int64]) -> Truth:
    """Compare the campaign found for each account (-1 for none) with its own.

    An account is recalled where it is in the campaign that most accounts of its own are in.
    """
    names, real = np.unique(population.campaign, return_inverse=True)
    real = np.where(population.campaign == "", -1, real)
    right = np.zeros(len(real), dtype=bool)
    n_false, n_found = 0, 0
    for index in range(int(campaign.max(initial=-1)) + 1):
        own = campaign == index
        main = np.bincount(real[own] + 1, minlength=len(names) + 1).argmax() - 1
        n_false += main < 0
        right |= own & (real == main) & (main >= 0)
    recalled = 0
    for index in np.unique(real[real >= 0]):
        counts = np.bincount(campaign[real == index] + 1, minlength=2)[1:]
        recalled += counts.max(initial=0)
        n_found += counts.max(initial=0) >= 0.5 * (real == index).sum()
    flagged = campaign >= 0
    return Truth(
        len(np.unique(real[real >= 0])), int(n_found), int(n_false), float(recalled / max((real >= 0).sum(), 1)),
        float(right[flagged].mean()) if flagged.any() else 1.0, float(adjusted_rand_score(real, campaign)),
        float(flagged[real >= 0].mean()) if (real >= 0).any() else 1.0, int((flagged & (real < 0)).sum()),
    )  # fmt: skip


def tpr(score: NDArray[np.float64], is_harvest: NDArray[np.bool_]) -> float:
    """Share of campaign accounts above all but `FPR` of the benign ones."""
    benign = np.sort(score[~is_harvest])[::-1]
    return float((score[is_harvest] > benign[int(FPR * len(benign))]).mean())


def bench_population(bench: Bench, options: argparse.Namespace) -> None:
    """Dilution by dilution."""
    print(
        "dilution  campaigns  found  false  recall  precision   ARI  flagged  accused"
        "   TPR at 0.1 % FPR: account  session   seconds"
    )
    for seed in range(options.seed, options.seed + options.n_populations):
        for dilution in options.dilutions:
            population = bench.population(PopulationSettings(dilution=dilution), seed=seed)
            sketches, scores = bench.judged(population)
            began = time.monotonic()
            found = find(sketches, bench.bundle.capabilities, bench.bundle.communities)
            seconds = time.monotonic() - began
            result, is_harvest = truth(population, found.campaign), population.campaign != ""
            print(
                f"{dilution:8.2f}  {result.n_campaigns:9}  {result.n_found:5}  {result.n_false:5}  {result.recall:6.3f}"
                f"  {result.precision:9.3f}  {result.ari:5.3f}  {result.flagged:7.3f}  {result.accused:7}"
                f"  {tpr(found.probability, is_harvest):24.3f}  {tpr(scores, is_harvest):7.3f}  {seconds:8.0f}",
                flush=True,
            )


def bench_signs(bench: Bench, options: argparse.Namespace) -> None:
    """Log-odds of communities that are mostly one campaign's, or nobody's, whether they pass the threshold or not."""
    campaigns: list[float] = []
    benign: list[float] = []
    for seed in range(DEV_SEED + options.seed, DEV_SEED + options.seed + 4 * options.n_populations):
        hidden = (PopulationSettings(dilution=dilution) for dilution in DILUTIONS)
        for settings in (PopulationSettings(n_campaigns=0), *hidden):
            population = bench.population(settings, seed=seed)
            sketches = bench.sketches(population)
            for community, signs in candidates(sketches).communities:
                names, counts = np.unique(population.campaign[community.accounts], return_counts=True)
                share = counts.max() / counts.sum()
                (campaigns if names[counts.argmax()] and share >= 0.8 else benign).append(
                    bench.bundle.communities.log_odds(signs)
                )
    for name, odds in (("campaigns, lowest", np.sort(campaigns)), ("benign or mixed, highest", np.sort(benign)[::-1])):
        print(f"{len(odds):5} {name}: {', '.join(f'{value:+.2f}' for value in odds[:12])}")


def bench_benign(bench: Bench, options: argparse.Namespace) -> None:
    """Populations without a campaign."""
    n_clean = 0
    for seed in range(options.seed, options.seed + options.n_benign):
        population = bench.population(PopulationSettings(n_campaigns=0), seed=10_000 + seed)
        found = find(bench.sketches(population), bench.bundle.capabilities, bench.bundle.communities)
        n_clean += not found.campaigns
        accused = ", ".join(
            f"{len(campaign.ties)} accounts ({campaign.confidence:.2f})" for campaign in found.campaigns
        )
        print(f"seed {seed}: {len(found.campaigns)} false campaigns {accused}", flush=True)
    print(f"benign-only populations without a false campaign: {n_clean} of {options.n_benign}")


def bench_split(bench: Bench, options: argparse.Namespace) -> None:
    """The same harvest by few and by many."""
    rng = np.random.default_rng(options.seed)
    sizes = {group: int((bench.pool.groups == group).sum()) for group in bench.harvest}
    group = str(rng.choice([group for group, size in sizes.items() if size >= 5_000]))
    print("accounts  prompts an account  recall  precision")
    for n_accounts in (10, 100, 500):
        benign = bench.population(PopulationSettings(n_campaigns=0), seed=options.seed)
        rows = rng.permutation(np.flatnonzero(bench.pool.groups == group))[:5_000]
        population = with_campaigns(bench, benign, [(group, list(np.array_split(rows, n_accounts)))])
        result = truth(
            population, find(bench.sketches(population), bench.bundle.capabilities, bench.bundle.communities).campaign
        )
        print(f"{n_accounts:8}  {5_000 // n_accounts:18}  {result.recall:6.3f}  {result.precision:9.3f}", flush=True)


def bench_event(bench: Bench, options: argparse.Namespace) -> None:
    """Three campaigns among benign accounts, scaled; the largest hides half of its traffic."""
    rng = np.random.default_rng(options.seed)
    benign = bench.population(PopulationSettings(n_campaigns=0), seed=options.seed)
    cover = benign.rows
    campaigns = []
    for area, whole, whole_accounts, dilution in EVENT:
        n_exchanges, n_accounts = whole // options.one_to, max(10, whole_accounts // options.one_to)
        rows = bench.rows_about(area)
        parts = []
        for size in np.diff(np.linspace(0, n_exchanges, n_accounts + 1).astype(np.int64)).tolist():
            own = rng.choice(rows, size=round(size * (1 - dilution)))
            parts.append(np.concatenate([own, rng.choice(cover, size=size - len(own))]))
        campaigns.append((area, parts))
    population = with_campaigns(bench, benign, campaigns)
    found = find(bench.sketches(population), bench.bundle.capabilities, bench.bundle.communities)
    print("campaign     exchanges  found   accounts  found   top areas")
    sizes = np.diff(population.offsets)
    for area, *_ in EVENT:
        own = population.campaign == area
        counts = np.bincount(found.campaign[own] + 1, minlength=2)[1:]
        index = int(counts.argmax())
        if not counts[index]:
            print(f"{area:12} {sizes[own].sum():9,}  none")
            continue
        campaign = found.campaigns[index]
        top = ", ".join(f"{name} {share:.0%}" for name, share in list(campaign.areas.items())[:3])
        print(
            f"{area:12} {sizes[own].sum():9,}  {campaign.n_exchanges / sizes[own].sum():5.1%}  {own.sum():8,}"
            f"  {len(campaign.ties) / own.sum():5.1%}  {top} (dilution {campaign.dilution:.2f})"
        )
    print(f"false campaigns: {truth(population, found.campaign).n_false}")


def bench_indicators(bench: Bench, options: argparse.Namespace) -> None:
    """What one provider tells another: the same campaigns' other accounts there, other campaigns', and benign ones."""
    print("dilution  campaigns told  matched: their accounts  other campaigns' accounts  benign accounts (of)")
    for dilution in options.dilutions:
        settings = PopulationSettings(dilution=dilution)
        here = bench.population(settings, seed=options.seed)
        groups = harvested(here)
        there = bench.population(settings, seed=options.seed + 500, harvest=groups)
        rest = [group for group in bench.harvest if group not in groups]
        strangers = PopulationSettings(n_benign=0, n_campaigns=min(4, len(rest)), dilution=dilution)
        others = bench.population(strangers, seed=options.seed + 501, harvest=rest)
        sketches = bench.sketches(here)
        found = find(sketches, bench.bundle.capabilities, bench.bundle.communities)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "indicators.json"
            n_cells = len(bench.bundle.capabilities.cells)
            indicators.write(path, found.campaigns, sketches, n_cells, bench.bundle.bundle_id)
            known = indicators.read(path)
        matched, elsewhere = bench.matched(there, known), bench.matched(others, known)
        own = there.campaign != ""
        print(
            f"{dilution:8.2f}  {len(found.campaigns):14}  {matched[own].mean():23.3f}  {elsewhere.mean():25.3f}"
            f"  {matched[~own].sum():6} ({(~own).sum()})",
            flush=True,
        )


def harvested(population: Population) -> list[str]:
    """The corpora that a population's campaigns hand out."""
    campaigns = np.unique(population.campaign[population.campaign != ""])
    return sorted({group for name in campaigns for group in str(name).partition(":")[2].split("+")})


def with_campaigns(
    bench: Bench, benign: Population, campaigns: Sequence[tuple[str, Sequence[NDArray[np.int64]]]]
) -> Population:
    """A population with accounts added that send these rows."""
    parts = [part for _, own in campaigns for part in own]
    names = [name for name, own in campaigns for _ in own]
    sizes = np.concatenate([np.diff(benign.offsets), [len(part) for part in parts]])
    return Population(
        np.concatenate([benign.rows, *parts]),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.concatenate([benign.kind, np.full(len(parts), "harvest")]),
        np.concatenate([benign.campaign, names]),
        np.concatenate([benign.is_task, bench.pool.kinds[np.concatenate(parts)] == "harvest"]),
    )


def bench_scale(bench: Bench, options: argparse.Namespace) -> None:
    """The whole event's accounts, of which sketches keep 96 prompts however much they send; linked in a new process."""
    settings = PopulationSettings(n_benign=20_000, accounts=(400, 490), exchanges=(96, 160), dilution=options.dilution)
    population = bench.population(settings, seed=options.seed)
    sketches = bench.sketches(population)
    n_exchanges, n_kept = int(sketches.n_exchanges.sum()), len(sketches.items)
    print(f"{len(sketches):,} accounts, {n_exchanges:,} exchanges, {n_kept:,} prompts kept", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        Archive.load(Path(folder), "").save(Path(folder), bench.bundle.bundle_id, sketches, (), ())
        command = (sys.executable, __file__, "--link", folder, "--bundle", str(bench.bundle.folder))
        subprocess.run(command, check=True)
        found = np.load(Path(folder) / FOUND)
    print(truth(population, found))


def peak_gib() -> float:
    """Most memory that this process held; `getrusage` would tell that of the parent, too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def link(folder: Path, bundle_folder: Path) -> None:
    """Link the accounts of an archive in this process, which has done nothing else; leaves the campaign of each."""
    bundle = Bundle.load(bundle_folder)
    sketches = Archive.load(folder, bundle.bundle_id).sketches
    assert sketches is not None
    before = peak_gib()
    began, worked = time.monotonic(), time.process_time()
    found = find(sketches, bundle.capabilities, bundle.communities)
    seconds, worked = time.monotonic() - began, time.process_time() - worked
    print(
        f"linked in {seconds:.0f} s ({worked:.0f} s of processor time), {peak_gib():.2f} GiB at the peak "
        f"({before:.2f} GiB before), {len(found.campaigns)} campaigns",
        flush=True,
    )
    np.save(folder / FOUND, found.campaign)


PARTS = {
    "signs": bench_signs, "population": bench_population, "benign": bench_benign, "split": bench_split,
    "event": bench_event, "indicators": bench_indicators, "scale": bench_scale,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"some of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--corpora", type=Path, default=ROOT.parent / "shared" / "corpora", metavar="DIR")
    parser.add_argument("--bundle", type=Path, default=RELEASED, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--n-populations", type=int, default=1, help="populations a dilution")
    parser.add_argument("--n-benign", type=int, default=20, help="benign-only populations")
    parser.add_argument("--one-to", type=int, default=100, metavar="N", help="scale of the event (default: 100)")
    parser.add_argument("--dilution", type=float, default=0.5, help="of the campaigns of `scale`")
    parser.add_argument("--link", type=Path, metavar="ARCHIVE", help="only link the accounts of an archive")
    parser.add_argument("--dilutions", type=float, nargs="+", default=DILUTIONS)
    options = parser.parse_args()
    if options.link:
        link(options.link, options.bundle)
        return
    if not (options.corpora / "CARDS.json").exists():
        raise SystemExit(f"{options.corpora} holds no corpora")
    began = time.monotonic()
    bench = Bench(options.corpora, options.bundle)
    print(f"{len(bench.pool):,} prompts encoded in {time.monotonic() - began:.0f} s", flush=True)
    for part in options.parts:
        print(f"\n{part}")
        PARTS[part](bench, options)


if __name__ == "__main__":
    main()
