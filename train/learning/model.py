"""Model: everything that is learned from one side of a split, ready to examine or to write as a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.capability.breadth import CoverageNull
from serve.capability.coverage import CellCounts
from serve.features.session_features import feature_names
from serve.jobs.stages import begin
from serve.model.benign_profile import BenignProfile, benign_quantiles
from serve.model.calibration import Calibration
from serve.model.classifier import Classifier
from serve.model.refitting import ClassifierSettings
from serve.sessions.size_classes import ACCOUNT_EDGES, SIZE_EDGES
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.learning import classifier
from train.learning.accounts import account_table
from train.learning.calibration import calibrate
from train.learning.classifier import LeftOut
from train.learning.evidence import CrossEvidence, EvidenceSettings, cross_evidence, lessons
from train.learning.split import Fold
from train.learning.table import Table, table
from train.synthesis.arrival_times import Timing
from train.synthesis.compose import Composer, ComposeSettings
from train.synthesis.composition import Composition

Margins = Callable[[NDArray[np.float64], NDArray[np.str_]], NDArray[np.float64]]
"""Margins of feature rows (n, n_features) of these campaigns or sources."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How many sessions are composed to learn from and to calibrate on, inner folds for margins left out, and how many
    whole benign accounts are composed to calibrate on."""

    n_sessions: int = 12_000
    n_calibration: int = 6_000
    n_inner_folds: int = 4
    n_accounts: int = 1500


@dataclass(frozen=True)
class Recipe:
    """All settings that a model is learned with."""

    model: ModelSettings
    compose: ComposeSettings
    evidence: EvidenceSettings
    classifier: ClassifierSettings
    seed: int


@dataclass(frozen=True)
class Lesson:
    """Evidence, and the feature rows of training sessions made with it."""

    evidence: CrossEvidence
    composition: Composition
    table: Table


@dataclass(frozen=True)
class Model:
    """Evidence, classifier and calibration learned from one side of a split, with the table they were learned from and
    the classifiers that left campaigns out."""

    evidence: CrossEvidence
    classifier: Classifier
    calibration: Calibration
    reference: NDArray[np.float64]
    benign: BenignProfile
    composition: Composition
    table: Table
    margins_left_out: NDArray[np.float64]
    inner: tuple[LeftOut, ...]
    accounts: Calibration

    def margins(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raw log-odds of feature rows."""
        return self.classifier.margins(X)


def learn(pool: Pool, fold: Fold, cache: PromptCache, timing: Timing, recipe: Recipe) -> Model:
    """Learn from the fold's training rows and calibrate on its calibration rows."""
    seed = recipe.seed
    lesson = learn_table(pool, fold, cache, timing, recipe)
    evidence, learned, topic = lesson.evidence, lesson.table, topics(pool, cache)
    begin("learn the classifier")
    names = feature_names(cache.capabilities.areas)
    judge = classifier.fit(learned, names, recipe.classifier, seed=seed)
    inner = tuple(classifier.left_out(learned, names, recipe.classifier, n_folds=recipe.model.n_inner_folds, seed=seed))
    left_out = classifier.joined_margins(inner)
    begin("calibrate")
    composed = _benign(pool, fold, topic, timing, recipe)
    known = recipe.evidence.known_organic
    margins_of: Margins = (lambda X, _: judge.margins(X)) if known else _outside(learned, inner, recipe)
    benign = table(composed, pool, cache, evidence)
    calibration = calibrate(left_out[learned.y == 1], margins_of(benign.X, benign.campaign), benign.n_exchanges)
    aside = Composer(pool, fold.calibrate, topic, timing, seed=seed + 3).accounts(
        recipe.model.n_accounts, 0.0, recipe.compose
    )
    whole, source = account_table(aside, pool, cache, evidence), aside.sessions.campaign[aside.first()]
    accounts = Calibration.of_margins(
        calibration.slope, calibration.intercept, margins_of(whole.rows, source), whole.n_exchanges, ACCOUNT_EDGES
    )
    reference = benign_quantiles(benign.X, benign.n_exchanges)
    usual = _usual(composed, pool, cache, evidence, judge, calibration, _coverage_null(composed, topic, cache))
    return Model(evidence, judge, calibration, reference, usual, lesson.composition, learned, left_out, inner, accounts)


def _outside(learned: Table, inner: tuple[LeftOut, ...], recipe: Recipe) -> Margins:
    """Margins by the inner classifier that never saw a session's campaign or source; by the first for one that none
    saw."""
    part = classifier.campaign_parts(learned.campaign, recipe.model.n_inner_folds, recipe.seed)
    of_name = {str(name).split("+")[0]: int(own) for name, own in zip(learned.campaign, part, strict=True)}
    by_fold = {own.fold: own.classifier for own in inner}
    first = min(by_fold)

    def margins(X: NDArray[np.float64], campaign: NDArray[np.str_]) -> NDArray[np.float64]:
        folds = np.array([of_name.get(str(name).split("+")[0], first) for name in campaign], dtype=np.int64)
        found = np.zeros(len(X))
        for fold in np.unique(folds):
            own = folds == fold
            found[own] = by_fold.get(int(fold), by_fold[first]).margins(X[own])
        return found

    return margins


def learn_table(pool: Pool, fold: Fold, cache: PromptCache, timing: Timing, recipe: Recipe) -> Lesson:
    """Learn evidence from the fold's training rows, and compose the sessions that the classifier learns from."""
    begin("learn to score prompts")
    learned = lessons(pool, fold.train, cache, recipe.evidence)
    evidence = cross_evidence(pool, learned, recipe.evidence, seed=recipe.seed)
    begin("compose sessions")
    composer = Composer(pool, fold.train, topics(pool, cache), timing, seed=recipe.seed)
    composed = composer.mixed(recipe.model.n_sessions, recipe.compose)
    return Lesson(evidence, composed, table(composed, pool, cache, evidence))


def topics(pool: Pool, cache: PromptCache) -> NDArray[np.int64]:
    """What each prompt of the pool is about: its cell in the capability map."""
    return cache.lookup_raw(pool.texts).assigned.cell.astype(np.int64)


def _usual(
    composed: Composition, pool: Pool, cache: PromptCache, evidence: CrossEvidence, judge: Classifier,
    calibration: Calibration, coverage: CoverageNull,
) -> BenignProfile:  # fmt: skip
    """What benign sessions look like where the bundle judges them, by heads that saw their sources."""
    seen = table(composed, pool, cache, evidence.knowing_all())
    p_values = calibration.p_value(judge.margins(seen.X), seen.n_exchanges)
    names = feature_names(cache.capabilities.areas)
    return BenignProfile.fit(seen.X, names, p_values, seen.n_exchanges, coverage)


def _coverage_null(composed: Composition, topic: NDArray[np.int64], cache: PromptCache) -> CoverageNull:
    owner = np.repeat(np.arange(len(composed)), np.diff(composed.offsets))
    counts = CellCounts.of(owner, topic[composed.rows], len(composed))
    return CoverageNull.fit(counts, cache.capabilities.cell_areas, len(cache.capabilities.areas))


def _benign(pool: Pool, fold: Fold, topic: NDArray[np.int64], timing: Timing, recipe: Recipe) -> Composition:
    """Benign sessions of every size class, the same number in each, from the people kept aside to calibrate on."""
    composer = Composer(pool, fold.calibrate, topic, timing, seed=recipe.seed + 1)
    quota = max(1, recipe.model.n_calibration // len(SIZE_EDGES))
    uppers = [edge - 1 for edge in SIZE_EDGES[1:]] + [2 * SIZE_EDGES[-1]]
    settings = recipe.compose
    parts = [
        composer.mixed(quota, ComposeSettings(
            harvest_share=0.0, person_share=settings.person_share, aggregator_share=settings.aggregator_share,
            min_exchanges=low, max_exchanges=high,
        ))
        for low, high in zip(SIZE_EDGES, uppers, strict=True)
    ]  # fmt: skip
    return Composition.joined(parts)
