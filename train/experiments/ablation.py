"""Ablation: what each family of features is worth on campaigns that were never seen, alone and left out.

`python -m train.ablation experiment=exam_cut corpora.dir=DIR ...` learns every fold of both settings once, fits the
classifier to each choice of features, and prints AUROC / TPR at 1 % FPR at the middle length by dilution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from serve.features.session_features import feature_names, n_judged
from train.config.settings import Goal, Settings, SettingsError
from train.evaluation.exam import FoldScores, auroc, exam_composition, exam_table, tpr
from train.experiments.run import answered
from train.inputs.prepared_inputs import prepare
from train.learning import classifier
from train.learning.model import learn_table
from train.learning.split import SETTINGS, folds

FPR = 0.01
LENGTH = 50


@dataclass(frozen=True, slots=True)
class Choice:
    """Features that a classifier may read: `columns` (n_chosen,) of the feature row."""

    name: str
    columns: NDArray[np.int64]


def choices(areas: tuple[str, ...]) -> tuple[Choice, ...]:
    """All features that are judged by, each family alone, and all but each family."""
    names = feature_names(areas)[: n_judged(areas)]
    family = np.array([name.split(".")[0] for name in names])
    found = [Choice("all", np.arange(len(names)))]
    for own in dict.fromkeys(family.tolist()):
        found.append(Choice(f"{own} alone", np.flatnonzero(family == own)))
        found.append(Choice(f"without {own}", np.flatnonzero(family != own)))
    return tuple(found)


def measure(settings: Settings) -> dict[str, list[FoldScores]]:
    """A result for each setting and fold, with a score for each choice of features."""
    if settings.goal is not Goal.exam:
        raise SettingsError(f"goal is {settings.goal}, expected exam: features are compared over all folds")
    base = prepare(settings.inputs)
    pool, cache, timing = base.inputs.pool, base.cache, base.inputs.timing
    areas = base.capabilities.areas
    names = np.array(feature_names(areas))
    asked = replace(settings.exam, lengths=(LENGTH,), n_evaluation=0)
    results: dict[str, list[FoldScores]] = {}
    for setting in SETTINGS:
        for fold in folds(pool, settings.split, setting, seed=settings.seed):
            evidence = replace(settings.evidence, known_organic=setting == SETTINGS[0])
            lesson = learn_table(pool, fold, cache, timing, replace(settings.recipe, evidence=evidence))
            composition, lengths = exam_composition(pool, fold, cache, timing, asked, seed=settings.seed + 100)
            examined = exam_table(composition, pool, cache, lesson.evidence)
            scores: dict[str, NDArray[np.float64]] = {}
            for choice in choices(areas):
                rows = replace(lesson.table, X=lesson.table.X[:, choice.columns])
                own = names[choice.columns].tolist()
                fitted = classifier.fit(rows, own, settings.classifier, seed=settings.seed)
                scores[choice.name] = fitted.margins(examined.X[:, choice.columns])
            results.setdefault(setting, []).append(
                FoldScores(fold.name, setting, lengths, examined.kind, examined.campaign, examined.dilution, scores)
            )
    return results


def ablation_table(results: Mapping[str, Sequence[FoldScores]], dilutions: Sequence[float]) -> str:
    """The results as a Markdown table for each setting."""
    return "\n".join(line for setting, own in results.items() for line in _table(setting, own, dilutions))


def _table(setting: str, own: Sequence[FoldScores], dilutions: Sequence[float]) -> Iterator[str]:
    yield f"{setting[0].upper()}{setting[1:]}, {LENGTH} exchanges, AUROC / TPR at {FPR:.0%} FPR by dilution:"
    yield ""
    yield "| features | " + " | ".join(f"{share:.0%}" for share in dilutions) + " |"
    yield "|---" * (len(dilutions) + 1) + "|"
    for name in own[0].scores:
        cells = [
            f"{auroc(own, name, LENGTH, share, 0).value:.2f} / {tpr(own, name, LENGTH, share, FPR, 0).value:.2f}"
            for share in dilutions
        ]
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""


def main(overrides: Sequence[str] | None = None) -> int:
    """Print the tables."""
    return answered("ablation", overrides, lambda own: ablation_table(measure(own), own.exam.dilutions) + "\n")
