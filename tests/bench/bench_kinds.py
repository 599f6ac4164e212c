"""Kinds of traffic that nothing learned from: `python tests/bench/bench_kinds.py`.

`kinds/` holds families of prompts in the format of the starter corpus (train/corpora/starter/grammar.py): campaigns,
products and people, written apart from what the released bundle learned. Sessions of one length are composed of them,
and the bundle judges them as it is: AUROC, the share of campaign sessions above a true 1 % of the benign ones, what
its own threshold flags of either label, and the kinds that it flags or misses. Written prompts are easier to write
alike than real ones: read it as a test of breadth, beside the exam.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from serve import load  # noqa: E402
from serve.bundle.files import RELEASED  # noqa: E402
from serve.scoring.scorer import Scorer  # noqa: E402
from train.corpora.pool import Pool  # noqa: E402
from train.corpora.starter.corpus import corpora_of, families  # noqa: E402
from train.encoders.prompt_cache import PromptCache  # noqa: E402
from train.evaluation.thresholds import fpr_limit  # noqa: E402
from train.synthesis.arrival_times import Timing  # noqa: E402
from train.synthesis.compose import Composer  # noqa: E402
from train.synthesis.composition import Composition  # noqa: E402

KINDS = Path(__file__).parent / "kinds"
FPR = 0.01
"""Nominal, and that of the true threshold."""
N_PROMPTS = 300  # of each kind
N_SHOWN = 12
MIN_SESSIONS = 4
N_ORGANIC, N_HARVEST = 1_200, 500


def judged(scorer: Scorer, sessions: Composition, pool: Pool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Margins and p-values, one a session."""
    parts = [scorer.judge(part) for part in sessions.sessions(pool).chunks(4_000)]
    margins = [scorer.bundle.classifier.margins(part.features) for part in parts]
    return np.concatenate(margins), np.concatenate([part.p_value for part in parts])


def by_kind(sessions: Composition, flagged: NDArray[np.bool_]) -> list[tuple[float, int, str]]:
    """Share flagged, number of sessions and name of each kind with several sessions of its own, most flagged first."""
    rows = []
    for name in np.unique(sessions.campaign).tolist():
        is_own = sessions.campaign == name
        if is_own.sum() >= MIN_SESSIONS and "+" not in name:
            rows.append((float(flagged[is_own].mean()), int(is_own.sum()), name.removeprefix("starter/")))
    return sorted(rows, reverse=True)


def shown(title: str, rows: list[tuple[float, int, str]]) -> None:
    print(f"\n{title}")
    for share, n, name in rows:
        print(f"{share:6.2f} of {n:3}  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=RELEASED, metavar="DIR")
    parser.add_argument("--exchanges", type=int, default=50, help="of each session (default: 50)")
    parser.add_argument("--dilutions", type=float, nargs="+", default=[0.0, 0.5, 0.75, 0.9])
    options = parser.parse_args()
    scorer = load(str(options.bundle))
    members = families(KINDS)
    pool = Pool.of(corpora_of(members, N_PROMPTS, seed=1))
    cells = PromptCache(scorer.bundle.encoder, scorer.bundle.capabilities).lookup_raw(pool.texts).assigned.cell
    composer = Composer(pool, np.arange(len(pool)), cells.astype(np.int64), Timing.default(), seed=1)
    organic = composer.fixed("organic", N_ORGANIC, options.exchanges)
    margins, p_values = judged(scorer, organic, pool)
    counts = {kind: sum(member.kind == kind for member in members) for kind in ("harvest", "product", "person")}
    print(f"kinds: {counts}; {len(pool):,} prompts; sessions of {options.exchanges}")
    print(f"benign: its own 1 % flags {(p_values <= FPR).mean():.3f} of {N_ORGANIC}")
    print("\ndilution  AUROC  TPR at a true 1 %  by its own threshold")
    found = {}
    for dilution in options.dilutions:
        harvest = composer.fixed("harvest", N_HARVEST, options.exchanges, dilution)
        own, p_own = judged(scorer, harvest, pool)
        labels = np.repeat([1, 0], [len(own), len(margins)])
        area, found_at = roc_auc_score(labels, np.concatenate([own, margins])), (own > fpr_limit(margins, FPR)).mean()
        print(f"{dilution:8.0%}  {area:5.3f}  {found_at:17.2f}  {(p_own <= FPR).mean():20.2f}", flush=True)
        found[dilution] = by_kind(harvest, p_own <= FPR)
    shown("benign kinds flagged most", by_kind(organic, p_values <= FPR)[:N_SHOWN])
    least = min(found)
    shown(f"campaigns flagged at {least:.0%}", found[least])


if __name__ == "__main__":
    main()
