"""The capability map against what is known: areas of corpora, subjects of MMLU, cuts of the same traffic, and speed.

    python tests/bench/bench_map.py CORPORA [--bundle DIR] [--only areas,subjects,cuts,speed,index]

Areas: top-1 accuracy where a corpus's card says its area (the words of `KNOWN`), with the confusion table and the
expected calibration error of the confidence. Subjects: sessions of a known number of MMLU subjects, and of a known
number of skills. Cuts: sessions of 100 cut into 50 and 25. Speed: assignments, after encoding.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from serve.bundle.bundle import Bundle
from serve.bundle.files import RELEASED
from serve.capability import coverage, vector_index
from serve.capability.capability_map import N_NEIGHBOURS
from serve.capability.coverage import CellCounts
from serve.embedding.encoders import quantise
from serve.sessions.canonical_text import canonical
from train.corpora.loading import CorporaSettings, load_pool
from train.encoders.prompt_cache import PromptCache
from train.learning.calibration import expected_calibration_error
from train.learning.model import topics
from train.synthesis.arrival_times import Timing
from train.synthesis.compose import Composer

KNOWN = {
    "coding": "coding", "competitive coding": "coding", "coding help in IDE study": "coding",
    "maths word problems": "mathematics", "theorem maths": "mathematics", "tool use (RapidAPI)": "tool_use",
    "tool use (nested calls)": "tool_use", "tool use / ML-API selection": "tool_use",
    "tool use (API schema)": "tool_use", "banking support intents": "customer_support",
    "voice assistant": "device_assistant", "creative/role-play": "role_play",
}  # fmt: skip
"""Area ids by the words that cards use, for corpora whose prompts are all of one area."""

N_EACH = 600
MMLU = "mmlu_test.jsonl.gz"
N_SUBJECTS = 57
Texts = list[str]


def texts_of(path: Path) -> tuple[Texts, list[str]]:
    """Distinct canonical texts of a corpus in order, and the conversation of each."""
    found: dict[str, str] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if isinstance(row["text"], str) and row["text"].strip():
                found.setdefault(canonical(row["text"]), str(row["conversation_id"]))
    return list(found), list(found.values())


def areas(folder: Path, bundle: Bundle) -> None:
    """Accuracy by corpus and area, macro over areas, the confusion table, and calibration."""
    names = [*bundle.capabilities.areas, "none"]
    cards = json.loads((folder / "CARDS.json").read_text(encoding="utf-8"))
    examples = {vector.tobytes() for vector in bundle.capabilities.anchors}
    rng = np.random.default_rng(0)
    table: dict[str, list[NDArray[np.float64]]] = {}
    sure, right = [], []
    for card in cards:
        if (area := KNOWN.get(card["areas"])) is None:
            continue
        texts, _ = texts_of(folder / f"{card['name']}.jsonl.gz")
        vectors = bundle.encoder.encode([texts[i] for i in rng.permutation(len(texts))[:N_EACH]])
        vectors = vectors[[vector.tobytes() not in examples for vector in vectors]]
        found = bundle.capabilities.assign(vectors)
        shares = np.bincount(np.where(found.area < 0, len(names) - 1, found.area), minlength=len(names)) / len(vectors)
        table.setdefault(area, []).append(shares)
        placed = found.area >= 0
        sure.append(found.confidence[placed])
        right.append(found.area[placed] == names.index(area))
        top = ", ".join(f"{names[i]} {shares[i]:.2f}" for i in np.argsort(-shares)[:3])
        print(f"  {card['name']:22s} {area:17s} {shares[names.index(area)]:.3f}  ({top})")
    means = {area: np.mean(rows, axis=0) for area, rows in table.items()}
    macro = np.mean([means[area][names.index(area)] for area in means])
    error = expected_calibration_error(np.concatenate(sure), np.concatenate(right).astype(np.int64))
    print(f"area accuracy, top-1, macro over {len(means)} areas: {macro:.3f}; ECE of the confidence {error:.3f}")
    shown = [i for i in range(len(names)) if max(row[i] for row in means.values()) >= 0.03]
    print("| known \\ placed | " + " | ".join(names[i] for i in shown) + " |\n|---" * 1 + "|---" * len(shown) + "|")
    for area, row in means.items():
        print(f"| {area} | " + " | ".join(f"{row[i]:.2f}" for i in shown) + " |")


def subjects(folder: Path, bundle: Bundle) -> None:
    """Rank correlation of estimated and true numbers of MMLU subjects and of skills, and rarefied estimates."""
    texts, conversations = texts_of(folder / MMLU)
    found = bundle.capabilities.assign(bundle.encoder.encode(texts))
    cell, skill = found.cell.astype(np.int64), found.skill.astype(np.int64)
    _, subject = np.unique([name.rpartition("_test")[0] for name in conversations], return_inverse=True)
    for what, code, units in (("MMLU subjects", subject, cell), ("skills", skill, skill)):
        groups = [np.flatnonzero(code == group) for group in np.unique(code[code >= 0])]
        groups = [group for group in groups if len(group) >= 20][:N_SUBJECTS]
        rng = np.random.default_rng(0)
        for n in (50, 200, 1000):
            true = rng.integers(1, len(groups) + 1, size=300)
            counts = CellCounts.of(np.repeat(np.arange(300), n), units[drawn(rng, groups, true, n)], 300)
            said = {m.__name__: m(counts) for m in (coverage.richness, coverage.chao1, coverage.shannon)}
            said["rarefied to 50"] = coverage.rarefied(counts, 50)
            shown = ", ".join(f"{name} {spearmanr(value, true)[0]:.3f}" for name, value in said.items())
            print(f"  {what}, 1 to {len(groups)}, {n:4d} prompts: Spearman of {shown}")
        true = rng.integers(1, len(groups) + 1, size=300)
        both = drawn(rng, groups, true, 550).reshape(300, 550)
        few = CellCounts.of(np.repeat(np.arange(300), 50), units[both[:, :50].ravel()], 300)
        many = CellCounts.of(np.repeat(np.arange(300), 500), units[both[:, 50:].ravel()], 300)
        for size in (8, 25, 50):
            ratio = coverage.rarefied(few, size) / np.maximum(coverage.rarefied(many, size), 1e-9)
            within = float((np.abs(ratio - 1.0) <= 0.15).mean())
            print(f"  {what}: rarefied to {size:2d}, from 50 prompts within 15 % of that from 500 for {within:.3f}")


def drawn(
    rng: np.random.Generator, groups: list[NDArray[np.int64]], true: NDArray[np.int64], n: int
) -> NDArray[np.int64]:
    """`n` prompts a session, of `true` groups drawn at random, every group as likely."""
    rows = []
    for k in true.tolist():
        own = rng.choice(len(groups), size=k, replace=False)
        rows.append([rng.choice(groups[group]) for group in rng.choice(own, size=n)])
    return np.array(rows, dtype=np.int64).ravel()


def cuts(folder: Path, bundle: Bundle) -> None:
    """Systematicness of the same traffic in sessions of 25, 50 and 100."""
    if bundle.benign is None:
        print("cuts: the bundle knows no benign coverage")
        return
    pool = load_pool(CorporaSettings(dir=str(folder), starter=False, max_prompts=4000), seed=0)
    topic = topics(pool, PromptCache(bundle.encoder, bundle.capabilities))
    composer = Composer(pool, np.arange(len(pool)), topic, Timing.default(), seed=5)
    n_areas, cell_areas = len(bundle.capabilities.areas), bundle.capabilities.cell_areas
    for kind in ("organic", "harvest"):
        rows = composer.fixed(kind, 900, 100).rows
        means = []
        for n in (25, 50, 100):
            counts = CellCounts.of(np.arange(len(rows)) // n, topic[rows], len(rows) // n)
            value = bundle.benign.coverage.of(counts, cell_areas, n_areas)
            # every account weighs the same whatever its parts
            owner = np.arange(len(value)) // (100 // n)
            known = ~np.isnan(value)
            sums = np.bincount(owner[known], weights=value[known], minlength=900)
            means.append(sums / np.maximum(np.bincount(owner[known], minlength=900), 1))
        slopes = (means[2] - means[0]) / 2.0
        error = slopes.std() / np.sqrt(len(slopes))
        shown = ", ".join(f"{n}: {mean.mean():+.3f}" for n, mean in zip((25, 50, 100), means, strict=True))
        print(f"  {kind:8s} systematicness at {shown}; slope {slopes.mean():+.4f} ± {error:.4f} a doubling")


def speed(bundle: Bundle, n: int = 1_000_000) -> None:
    """Seconds to place a million encoded prompts, in chunks as a batch has them."""
    rng = np.random.default_rng(0)
    base = bundle.capabilities.anchors[rng.integers(len(bundle.capabilities.anchors), size=20_000)]
    noise = rng.integers(-20, 21, size=base.shape)
    vectors = np.clip(base + noise, -127, 127).astype(np.int8)
    began_at, worked_at = time.perf_counter(), time.process_time()
    for _ in range(n // len(vectors)):
        bundle.capabilities.assign(vectors)
    seconds, work = time.perf_counter() - began_at, time.process_time() - worked_at
    print(f"  {n:,} prompts placed in {seconds:.1f} s, {work:.1f} s of one core's work")


def index(bundle: Bundle) -> None:
    """Exact index against inverted file, by number of anchors: time of the second over the first, and its recall."""
    rng = np.random.default_rng(0)
    anchors = bundle.capabilities.anchors
    asked = anchors[rng.integers(len(anchors), size=1_000)] + rng.integers(-20, 21, size=(1_000, anchors.shape[1]))
    asked = quantise(asked.astype(np.float64)).astype(np.float32)
    for n in (2_000, 10_000, 50_000, 100_000):
        rows = anchors[rng.integers(len(anchors), size=n)] + rng.integers(-20, 21, size=(n, anchors.shape[1]))
        rows = quantise(rows.astype(np.float64)).astype(np.float32)
        found, seconds = [], []
        for limit in (n, n - 1):
            vector_index.FLAT_LIMIT = limit
            built = vector_index.build_index(rows)
            began_at = time.perf_counter()
            found.append(built.search(asked, N_NEIGHBOURS)[1])
            seconds.append(time.perf_counter() - began_at)
        shared = [len(set(a) & set(b)) for a, b in zip(found[0].tolist(), found[1].tolist(), strict=True)]
        recall = np.mean(shared) / N_NEIGHBOURS
        print(f"  {n:7,} anchors: inverted file over exact {seconds[1] / seconds[0]:.2f}, recall {recall:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", type=Path, help="folder of corpora")
    parser.add_argument("--bundle", type=Path, default=RELEASED)
    parser.add_argument("--only", default="areas,subjects,cuts,speed,index")
    options = parser.parse_args()
    bundle, wanted = Bundle.load(options.bundle), options.only.split(",")
    print(f"bundle {bundle.bundle_id}")
    for name, run in (("areas", areas), ("subjects", subjects), ("cuts", cuts)):
        if name in wanted:
            print(f"\n{name}", flush=True)
            run(options.corpora, bundle)
    for name, run_alone in (("speed", speed), ("index", index)):
        if name in wanted:
            print(f"\n{name}", flush=True)
            run_alone(bundle)


if __name__ == "__main__":
    main()
