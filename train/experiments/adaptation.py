"""Adaptation: what `stillwatch adapt` is worth to a provider whose benign traffic was never seen.

`python -m train.adaptation experiment=corpora ...` (settings as for a run) leaves campaigns and organic sources out, as
a new provider's; adapts the bundle with traffic of half of their people; and examines three models on the
other half and the campaigns: the bundle as it is, the adapted one, and a model that learned from the first half itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from serve.adaptation.adapt import Adaptation, adapt
from serve.adaptation.provider_rows import are_learned
from serve.scoring.scorer import Scorer, load
from train.config.settings import HoldOut, Settings, SettingsError
from train.evaluation.exam import ExamSettings, exam_composition, exam_table
from train.evaluation.thresholds import fpr_limit
from train.experiments.run import answered, bundled
from train.inputs.prepared_inputs import PreparedInputs, prepare
from train.learning.model import learn, topics
from train.learning.split import Fold
from train.synthesis.compose import Composer
from train.synthesis.composition import Composition
from train.synthesis.traffic_files import account_name, write_traffic

FPR = 0.01
N_OWN = 3000
"""Benign sessions that the provider adapts with."""
EXAM = ExamSettings(n_harvesting=160, n_organic=2000, n_evaluation=0, lengths=(50,))


@dataclass(frozen=True, slots=True)
class AdaptationOutcome:
    """What a model does on the examined sessions: AUROC and TPR at `FPR` by dilution, the realised FPR of its own
    threshold, and the TPR at that threshold by dilution."""

    auroc: Mapping[float, float]
    tpr: Mapping[float, float]
    realised_fpr: float
    flagged: Mapping[float, float]


def measure(settings: Settings) -> dict[str, AdaptationOutcome]:
    """Outcomes of the bundle as it is, adapted, and of a model that knows the traffic."""
    settings = replace(settings, hold_out=HoldOut.new_provider)
    base = prepare(settings.inputs)
    fold = base.inputs.fold
    if fold is None:
        raise SettingsError("the exam makes no bundle, expected goal=bundle")
    own, examined = people_halves(base, fold, seed=settings.seed)
    composition, _ = exam_composition(
        base.inputs.pool, replace(fold, test=examined), base.cache, base.inputs.timing, EXAM, seed=settings.seed + 7
    )
    folder = bundled(settings).folder
    with tempfile.TemporaryDirectory() as aside:
        exchanges = write_traffic(_own_traffic(base, own, settings), base.inputs.pool, Path(aside) / "own")
        adapt(Adaptation((exchanges / "exchanges.jsonl.gz",), Path(aside) / "adapted", folder, FPR))
        outcomes = {
            "as it is": _judged(load(folder), composition, base),
            "adapted": _judged(load(Path(aside) / "adapted"), composition, base),
        }
    return {**outcomes, "known traffic": _known(base, fold, own, composition, settings)}


def people_halves(base: PreparedInputs, fold: Fold, *, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of half the people of the organic sources that are left out, and all other rows to examine."""
    pool = base.inputs.pool
    chance = np.random.default_rng(seed + 5).random(int(pool.person.max()) + 1)[pool.person[fold.test]]
    is_own = (pool.labels[fold.test] == "organic") & (chance < 0.5)
    return fold.test[is_own], fold.test[~is_own]


def adaptation_table(outcomes: Mapping[str, AdaptationOutcome]) -> str:
    """The outcomes as a Markdown table."""
    dilutions = list(next(iter(outcomes.values())).tpr)
    head = " | ".join(f"{share:.0%}" for share in dilutions)
    lines = [
        f"| bundle | realised FPR at {FPR:.0%} | TPR at {FPR:.0%} FPR: {head} | AUROC: {head} | flagged: {head} |",
        "|---" * (2 + 3 * len(dilutions)) + "|",
    ]
    for name, outcome in outcomes.items():
        cells = [f"{outcome.realised_fpr:.4f}"]
        cells += [f"{part[d]:.2f}" for part in (outcome.tpr, outcome.auroc, outcome.flagged) for d in dilutions]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _own_traffic(base: PreparedInputs, rows: NDArray[np.int64], settings: Settings) -> Composition:
    """Accounts of which those that `adapt` learns from and those it calibrates on are different people, as real ones
    are: drawn at random, one person would be several accounts."""
    pool = base.inputs.pool
    learned = are_learned([account_name(index) for index in range(N_OWN)])
    is_first = np.random.default_rng(settings.seed + 8).random(int(pool.person.max()) + 1)[pool.person[rows]] < 0.5
    wanted = replace(settings.compose, harvest_share=0.0, min_exchanges=5)
    drawn = []
    for own, n_sessions in ((rows[is_first], learned.sum()), (rows[~is_first], (~learned).sum())):
        composer = Composer(pool, own, topics(pool, base.cache), base.inputs.timing, seed=settings.seed + 3)
        composed = composer.mixed(int(n_sessions), wanted)
        drawn.append(iter([composed.part(index, index + 1) for index in range(len(composed))]))
    return Composition.joined([next(drawn[0] if first else drawn[1]) for first in learned.tolist()])


def _judged(scorer: Scorer, composition: Composition, base: PreparedInputs) -> AdaptationOutcome:
    verdicts = [scorer.judge(part) for part in composition.sessions(base.inputs.pool).chunks(20_000)]
    score = np.concatenate([scorer.bundle.classifier.margins(part.features) for part in verdicts])
    return outcome(score, np.concatenate([part.p_value for part in verdicts]) <= FPR, composition)


def _known(
    base: PreparedInputs, fold: Fold, own: NDArray[np.int64], composition: Composition, settings: Settings
) -> AdaptationOutcome:
    """A model learned with the provider's people, a share of them to calibrate on, as in the known-traffic exam."""
    pool = base.inputs.pool
    chance = np.random.default_rng(settings.seed + 6).random(int(pool.person.max()) + 1)[pool.person[own]]
    aside = own[chance < 0.3]
    known = replace(fold, train=np.sort(np.concatenate([fold.train, own[chance >= 0.3]])), calibrate=aside)
    recipe = replace(settings.recipe, evidence=replace(settings.evidence, known_organic=True))
    model = learn(pool, known, base.cache, base.inputs.timing, recipe)
    rows = exam_table(composition, pool, base.cache, model.evidence)
    margins = model.margins(rows.X)
    return outcome(margins, model.calibration.p_value(margins, rows.n_exchanges) <= FPR, composition)


def outcome(score: NDArray[np.float64], is_flagged: NDArray[np.bool_], composition: Composition) -> AdaptationOutcome:
    """What scores and flags of a composition's sessions come to."""
    organic = ~composition.is_harvesting
    limit = fpr_limit(score[organic], FPR)
    auroc, tpr, flagged = {}, {}, {}
    for dilution in EXAM.dilutions:
        own = composition.is_harvesting & np.isclose(composition.dilution, dilution)
        y = np.repeat([1, 0], [own.sum(), organic.sum()])
        auroc[dilution] = float(roc_auc_score(y, np.concatenate([score[own], score[organic]])))
        tpr[dilution] = float((score[own] > limit).mean())
        flagged[dilution] = float(is_flagged[own].mean())
    return AdaptationOutcome(auroc, tpr, float(is_flagged[organic].mean()), flagged)


def main(overrides: Sequence[str] | None = None) -> int:
    """Print the table."""
    return answered("adaptation", overrides, lambda settings: adaptation_table(measure(settings)))
