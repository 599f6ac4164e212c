"""Static encoders beside MiniLM: cost, and how far they agree with it on corpora that no encoder was taught on.

    python tests/bench/bench_encoders.py CORPORA [--also NAME=FOLDER ...] [--texts 400]

Cost: each encoder in a process and on a thread of its own, in processor time, so that what else a machine does is not
counted; prompts/s are the best of three, of distinct prompts of 20 to 60, 120 to 160 and 1,000 to 3,000 characters.
Agreement: texts of the corpora whose card says `evaluate`, which neither shape a bundle nor its encoder. Cosines
between spaces are taken after the best rotation, learned on one half of the texts and measured on the other; areas are
those of maps made of the same examples, each in its encoder's own vectors.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

SIZES = {"short": (20, 60), "median": (120, 160), "long": (1000, 3000)}
N_TIMED = {"static": 8000, "minilm": 96}
MINILM = "minilm"
N_NEAREST = 10
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}


def rows_of(folder: Path, use: str) -> dict[str, list[str]]:
    """Distinct canonical texts, sorted, by the name of their corpus."""
    from serve.sessions.canonical_text import canonical

    cards = json.loads((folder / "CARDS.json").read_text(encoding="utf-8"))
    found = {}
    for card in (card for card in cards if card["use"] == use):
        with gzip.open(folder / f"{card['name']}.jsonl.gz", "rt", encoding="utf-8") as lines:
            texts = {canonical(json.loads(line)["text"]) for line in lines}
        found[card["name"]] = sorted(text for text in texts if text.strip())
    return found


def cost(kind: str, folder: str, prompts: Path) -> None:
    """Print what one encoder costs, in a process that has done nothing else; `folder` is empty for MiniLM."""
    worked_at = time.process_time()
    import psutil

    before = psutil.Process().memory_info().rss
    from serve.embedding.encoders import StaticEncoder, minilm

    encoder = minilm() if kind == MINILM else StaticEncoder(Path(folder))
    encoder.encode(["hello"])
    found = {"cold": time.process_time() - worked_at, "bytes": psutil.Process().memory_info().rss - before}
    texts: dict[str, list[str]] = json.loads(prompts.read_text(encoding="utf-8"))
    for size, all_texts in texts.items():
        n = min(len(all_texts) // 4, N_TIMED[kind])
        encoder.encode(all_texts[:n])  # the tokenizer has seen common words, as in any traffic
        rates = []
        for part in range(1, 4):
            worked_at = time.process_time()
            encoder.encode(all_texts[part * n : (part + 1) * n])
            rates.append(n / (time.process_time() - worked_at))
        found[size] = max(rates)
    print(json.dumps(found))


def costs(kind: str, folder: str, prompts: Path) -> dict[str, float]:
    """The numbers of `cost` in a child on one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, __file__, str(prompts.parent), "--child", kind, folder, str(prompts)], check=True,
        env=os.environ | threads | {"TOKENIZERS_PARALLELISM": "false"} | QUIET,
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@dataclass(frozen=True)
class Agreement:
    """How far an encoder agrees with MiniLM."""

    cosine: float
    spearman: float
    within: dict[str, float]
    nearest: float
    nearest_ten: float
    area: float


def unit(vectors: NDArray[np.number]) -> NDArray[np.float64]:
    """Rows of length 1; zero rows stay zero."""
    floats = vectors.astype(np.float64)
    return floats / np.maximum(np.linalg.norm(floats, axis=1, keepdims=True), 1e-9)


def agreement(
    own: NDArray[np.float64], theirs: NDArray[np.float64], corpus: NDArray[np.str_],
    area: NDArray[np.int16], their_area: NDArray[np.int16],
) -> Agreement:  # fmt: skip
    """Of unit vectors (n_texts, n_dims) with MiniLM's, in random order; `corpus` (n_texts,) is where each is from."""
    half = len(own) // 2
    left, _, right = np.linalg.svd(own[:half].T @ theirs[:half], full_matrices=False)  # orthogonal Procrustes
    cosine = float((unit(own[half:] @ left @ right) * theirs[half:]).sum(axis=1).mean())
    similar, goal = own @ own.T, theirs @ theirs.T
    pairs = np.triu(np.ones(similar.shape, bool), 1)
    inside = {str(name): pairs & np.outer(corpus == name, corpus == name) for name in np.unique(corpus)}
    of_corpus = {name: float(spearmanr(similar[mask], goal[mask])[0]) for name, mask in inside.items()}
    spearman = float(spearmanr(similar[pairs], goal[pairs])[0])
    for table in (similar, goal):
        np.fill_diagonal(table, -2.0)
    first, second = (np.argsort(-table, axis=1)[:, :N_NEAREST] for table in (similar, goal))
    shared = [len(set(a) & set(b)) / N_NEAREST for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    return Agreement(
        cosine, spearman, of_corpus, float((first[:, 0] == second[:, 0]).mean()), float(np.mean(shared)),
        float((area == their_area).mean()),
    )  # fmt: skip


def agreements(folder: Path, encoders: dict[str, str], n_texts: int) -> dict[str, Agreement]:
    """By encoder, on held-out texts; the folder of MiniLM is empty."""
    from serve.embedding.encoders import StaticEncoder, minilm, quantise
    from train.taxonomy.areas import AreaSettings, build_map, read_taxonomy

    rng = np.random.default_rng(0)
    held = {name: rng.permutation(texts)[:n_texts].tolist() for name, texts in rows_of(folder, "evaluate").items()}
    rows = [(name, text) for name, texts in held.items() for text in texts]
    rng.shuffle(rows)
    corpus, texts = np.array([name for name, _ in rows]), [text for _, text in rows]
    print(f"\n{len(texts)} held-out texts of {', '.join(held)}:\n", flush=True)
    settings = AreaSettings()
    taxonomy = read_taxonomy(Path(settings.file))
    vectors, areas = {}, {}
    for name, own in encoders.items():
        if own:
            encoder = StaticEncoder(Path(own))
            found = encoder.encode(texts)
            vectors[name] = unit(found)
        else:
            encoder = minilm()
            vectors[name] = unit(encoder.embed(texts))
            found = quantise(vectors[name])
        areas[name] = build_map(taxonomy, encoder, found, settings, seed=0).assign(found).area
    return {name: agreement(vectors[name], vectors[MINILM], corpus, areas[name], areas[MINILM]) for name in encoders}


def timed_prompts(folder: Path) -> dict[str, list[str]]:
    """Prompts of each size from all corpora that may shape a bundle, shuffled."""
    texts = list(itertools.chain.from_iterable(rows_of(folder, "train").values()))
    order = np.random.default_rng(0).permutation(len(texts))
    n = 4 * max(N_TIMED.values())
    return {size: [texts[i] for i in order if low <= len(texts[i]) <= high][:n] for size, (low, high) in SIZES.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", type=Path, help="folder of corpora")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=FOLDER", help="another static encoder")
    parser.add_argument("--texts", type=int, default=400, help="texts of each held-out corpus")
    parser.add_argument("--child", nargs=3, metavar=("KIND", "FOLDER", "PROMPTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, own, prompts = options.child
        cost(kind, own, Path(prompts))
        return
    with tempfile.TemporaryDirectory(prefix="bench-encoders-") as aside:
        compare(options.corpora, options.also, options.texts, Path(aside))


def compare(corpora: Path, also: Sequence[str], n_texts: int, aside: Path) -> None:
    os.environ.update(QUIET)
    from serve.bundle.files import RELEASED, STATIC
    from train.encoders.distillation import taught
    from train.encoders.settings import DistillSettings

    taught((), np.zeros((0, 384), np.float32), DistillSettings(n_texts=0), aside / "plain", seed=0)
    encoders = {"static, released": str(RELEASED / STATIC), "static, plain": str(aside / "plain")}
    encoders |= dict(named.split("=", 1) for named in also)
    encoders[MINILM] = ""
    prompts = aside / "prompts.json"
    prompts.write_text(json.dumps(timed_prompts(corpora)), encoding="utf-8")
    spent = {name: costs("static" if own else MINILM, own, prompts) for name, own in encoders.items()}
    print("| encoder | prompts/s a core: short | median | long | memory | cold start |\n|" + "---|" * 6)
    for name, found in spent.items():
        ratios = (f"{found[size]:,.0f} ({found[size] / spent[MINILM][size]:,.0f}×)" for size in SIZES)
        print(
            f"| {name} | {' | '.join(ratios)} | {found['bytes'] / 2**20:.0f} MiB | {found['cold']:.2f} s |", flush=True
        )
    agreed = agreements(corpora, encoders, n_texts)
    print("| encoder | cosine | Spearman, all pairs | within a corpus | nearest | nearest ten | area |\n|" + "---|" * 7)
    for name, own in agreed.items():
        within = ", ".join(f"{corpus} {value:.2f}" for corpus, value in own.within.items())
        print(
            f"| {name} | {own.cosine:.3f} | {own.spearman:.3f} | {within} | {own.nearest:.2f} |"
            f" {own.nearest_ten:.2f} | {own.area:.2f} |"
        )


if __name__ == "__main__":
    main()
