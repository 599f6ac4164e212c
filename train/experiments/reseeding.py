"""Reseeding: whether a false-positive rate that was asked for is kept, over runs that share nothing but the corpora.

`python -m train.reseeding --runs 20 experiment=exam_cut corpora.dir=DIR ...` draws people, campaigns and sessions anew
for each seed, learns and calibrates on known traffic, and counts the organic sessions of new people that are flagged.
With `--new-provider` benign sources are left out, too, and those that are flagged are of sources never seen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binom

from train.config.settings import Goal, Settings, SettingsError
from train.evaluation.exam import ExamSettings, exam_composition, exam_table
from train.experiments.run import answered
from train.inputs.prepared_inputs import prepare
from train.learning.calibration import expected_calibration_error
from train.learning.model import learn
from train.learning.split import KNOWN, NEW, folds

FPRS = (0.01, 0.001)
EXAM = ExamSettings(n_harvesting=250, n_organic=1000, n_evaluation=0, lengths=(50,))
_BAND = 0.95


@dataclass(frozen=True, slots=True)
class Reseeded:
    """What one run flagged: `n_flagged` of `n_organic` sessions at each of `FPRS`, and the calibration error of scores
    over as many harvesting as organic sessions."""

    seed: int
    n_organic: int
    n_flagged: tuple[int, ...]
    ece: float


def band(n_sessions: int, fpr: float) -> tuple[int, int]:
    """Fewest and most flags that lie in the central 95 % of a binomial of these sessions at this rate."""
    low, high = binom.interval(_BAND, n_sessions, fpr)
    return int(low), int(high)


def measure(settings: Settings, n_runs: int, setting: str = KNOWN) -> Iterator[Reseeded]:
    """Runs of a setting with seeds 0, 1, ..., as they are ready."""
    if settings.goal is not Goal.exam:
        raise SettingsError(f"goal is {settings.goal}, expected exam: its encoder and map know nothing of any fold")
    base = prepare(settings.inputs)
    pool, cache, timing = base.inputs.pool, base.cache, base.inputs.timing
    evidence = replace(settings.evidence, known_organic=setting == KNOWN)
    for seed in range(n_runs):
        fold = next(folds(pool, settings.split, setting, seed=seed))
        model = learn(pool, fold, cache, timing, replace(settings.recipe, evidence=evidence, seed=seed))
        composition, _ = exam_composition(pool, fold, cache, timing, EXAM, seed=seed + 100)
        examined = exam_table(composition, pool, cache, model.evidence)
        margins = model.margins(examined.X)
        organic = ~composition.is_harvesting
        p_value = model.calibration.p_value(margins, examined.n_exchanges)[organic]
        ece = expected_calibration_error(model.calibration.score(margins), examined.y)
        yield Reseeded(seed, len(p_value), tuple(int((p_value <= fpr).sum()) for fpr in FPRS), ece)


def reseeding_text(runs: Sequence[Reseeded]) -> str:
    """All runs together, as a line for each rate."""
    lines = []
    for index, fpr in enumerate(FPRS):
        n_inside = sum(band(r.n_organic, fpr)[0] <= r.n_flagged[index] <= band(r.n_organic, fpr)[1] for r in runs)
        rate = sum(r.n_flagged[index] for r in runs) / sum(r.n_organic for r in runs)
        lines.append(f"{fpr:.1%} asked: {rate:.3%} realised over all; {n_inside} of {len(runs)} runs inside the band")
    return "\n".join([*lines, f"ECE: mean {np.mean([r.ece for r in runs]):.3f}"]) + "\n"


def main(given: Sequence[str] | None = None) -> int:
    """Print a line a run, then all together."""
    parser = argparse.ArgumentParser(prog="python -m train.reseeding", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="how many seeds (20)")
    parser.add_argument("--new-provider", action="store_true", help="leave benign sources out of what is learned, too")
    options, overrides = parser.parse_known_args(given)
    setting = NEW if options.new_provider else KNOWN
    return answered(
        "reseeding",
        overrides,
        lambda settings: reseeding_text([*map(_shown, measure(settings, options.runs, setting))]),
    )


def _shown(run: Reseeded) -> Reseeded:
    """The run, printed as soon as it is there."""
    flagged = ", ".join(f"{n} at {fpr:.1%}" for n, fpr in zip(run.n_flagged, FPRS, strict=True))
    sys.stdout.write(f"seed {run.seed}: of {run.n_organic} organic sessions {flagged}; ECE {run.ece:.3f}\n")
    sys.stdout.flush()
    return run
