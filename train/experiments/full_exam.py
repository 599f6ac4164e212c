"""Full exam: every fold of both settings learned and examined, with the baselines and the leakage gate beside ours."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from serve.features.session_features import feature_names
from train.config.settings import Settings
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.evaluation.baselines import BASELINES
from train.evaluation.exam import FoldScores, exam_accounts, exam_composition, exam_table
from train.evaluation.leakage import shuffled, surface_margins, surface_numbers
from train.evaluation.session_blocks import Traffic
from train.learning import classifier
from train.learning.model import Model, learn
from train.learning.split import KNOWN, LABELLED, SETTINGS, TEST, TRAIN, Fold, folds
from train.learning.table import Table, session_vectors
from train.reports.exam_report import REPORTS, write_exam
from train.synthesis.arrival_times import Timing
from train.synthesis.composition import Composition
from train.tracking import mlflow_runs as tracking

STARTER_ONLY = "starter only"
_GROWTH = (5, 10, 15, 20, 30, 40, 50, 75, 100)
_N_FIT = 1500  # sessions of each label that baselines are fitted on


def exam(settings: Settings, pool: Pool, cache: PromptCache, timing: Timing) -> None:
    """Run the exam, print its tables, write its report and log both.

    Raises:
        ValueError: when there are too few groups to leave any out.
    """
    began_at = time.perf_counter()
    results: list[FoldScores] = []
    for fold in _all_folds(settings, pool):
        with tracking.child(fold.name, {"held": " ".join((*fold.held_campaigns, *fold.held_sources))}):
            results.append(examine_fold(settings, pool, fold, cache, timing))
            print(f"{time.perf_counter() - began_at:6.0f} s  {fold.name}", flush=True)  # noqa: T201
    report = write_exam(results, settings)
    print(report.markdown)  # noqa: T201
    tracking.log_json(report.values, "exam.json")
    tracking.log_text(report.markdown, "exam.md")
    tracking.log_file(REPORTS / "exam.html")
    tracking.log_metrics(report.metrics)


def examine_fold(settings: Settings, pool: Pool, fold: Fold, cache: PromptCache, timing: Timing) -> FoldScores:
    """Learn from a fold and score its exam sessions with our model, the baselines and the leakage models."""
    known = fold.setting in (KNOWN, LABELLED)
    recipe = replace(settings.recipe, evidence=replace(settings.evidence, known_organic=known))
    model = learn(pool, fold, cache, timing, recipe)
    composition, lengths = exam_composition(pool, fold, cache, timing, settings.exam, seed=settings.seed + 100)
    examined = exam_table(composition, pool, cache, model.evidence)
    margins = model.margins(examined.X)
    scores = {
        "ours": margins,
        "surface only": _surface(model, composition, pool),
        "labels shuffled": _shuffled(settings, model.table, examined, cache),
        **_baselines(model, composition, pool, cache, seed=settings.seed),
    }
    return FoldScores(
        fold.name, fold.setting, lengths, examined.kind, examined.campaign, examined.dilution, scores,
        p_value=model.calibration.p_value(margins, examined.n_exchanges), score=model.calibration.score(margins),
        detected_at=_detected_at(settings, pool, fold, model, composition, cache),
        accounts=exam_accounts(pool, fold, cache, timing, settings.exam, model, seed=settings.seed + 200),
    )  # fmt: skip


def _all_folds(settings: Settings, pool: Pool) -> Iterator[Fold]:
    for setting in SETTINGS:
        some = folds(pool, settings.split, setting, seed=settings.seed)
        yield from itertools.islice(some, settings.exam.first_folds or None)
    starter = pool.is_starter
    if starter.any() and not settings.exam.first_folds:
        yield starter_fold(pool, starter, settings)


def starter_fold(pool: Pool, starter: NDArray[np.bool_], settings: Settings) -> Fold:
    """Learn from the starter corpus alone, and examine with everything else."""
    chance = np.random.default_rng(settings.seed).random(int(pool.person.max()) + 1)[pool.person]
    aside = starter & (pool.labels == "organic") & (chance < settings.split.calibrate_share)
    usable = starter & (pool.labels != "evaluation")
    sides = {TRAIN: usable & ~aside, TEST: ~starter}
    harvesting, organic = (
        tuple(sorted({s.group for s in pool.sources if s.label == label})) for label in ("harvesting", "organic")
    )
    return Fold(
        STARTER_ONLY, STARTER_ONLY, harvesting, organic, np.flatnonzero(sides[TRAIN]),
        np.flatnonzero(aside), np.flatnonzero(sides[TEST]),
    )  # fmt: skip


def _surface(learned: Model, composition: Composition, pool: Pool) -> NDArray[np.float64]:
    X = surface_numbers(learned.composition.texts(pool), learned.composition.offsets)
    examined = surface_numbers(composition.texts(pool), composition.offsets)
    return surface_margins(X, learned.table.y, learned.table.weight, examined)


def _shuffled(settings: Settings, learned: Table, examined: Table, cache: PromptCache) -> NDArray[np.float64]:
    names = feature_names(cache.capabilities.areas)
    nonsense = shuffled(learned, seed=settings.seed)
    return classifier.fit(nonsense, names, settings.classifier, seed=settings.seed).margins(examined.X)


def _baselines(
    learned: Model, composition: Composition, pool: Pool, cache: PromptCache, *, seed: int
) -> Mapping[str, NDArray[np.float64]]:
    """Scores of the published detectors, fitted on sessions that ours learned from."""
    known = Traffic(session_vectors(learned.composition, pool, cache), learned.composition.offsets)
    organic, harvesting = (np.flatnonzero(learned.table.y == label)[:_N_FIT] for label in (0, 1))
    traffic = Traffic(session_vectors(composition, pool, cache), composition.offsets)
    return {
        name: make().fit(known.pick(organic), known.pick(harvesting), seed=seed).score(traffic)
        for name, make in BASELINES.items()
    }


def _detected_at(
    settings: Settings, pool: Pool, fold: Fold, model: Model, composition: Composition, cache: PromptCache
) -> NDArray[np.int64]:
    """Exchanges after which a long undiluted campaign session is first flagged at 1 %; 0 for never."""
    longest = np.diff(composition.offsets) == max(settings.exam.lengths)
    chosen = np.flatnonzero(composition.is_harvesting & (composition.dilution == 0.0) & longest)
    found = np.zeros(len(chosen), dtype=np.int64)
    for n in (n for n in _GROWTH if n <= max(settings.exam.lengths)):
        begun = _prefixes(composition, chosen, n)
        rows = exam_table(begun, pool, cache, model.evidence)
        flagged = model.calibration.p_value(model.margins(rows.X), rows.n_exchanges) <= 0.01
        found[(found == 0) & flagged] = n
    return found


def _prefixes(composition: Composition, chosen: Sequence[int] | NDArray[np.int64], n: int) -> Composition:
    """The first n exchanges of the chosen sessions."""
    parts = [composition.part(int(index), int(index) + 1) for index in chosen]
    return Composition.joined([
        replace(part, rows=part.rows[:n], offsets=np.array([0, min(n, len(part.rows))]), at=part.at[:n])
        for part in parts
    ])  # fmt: skip
