"""Exam: the exam. Fresh sessions from campaigns (and, for a new provider, organic sources) that were never seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from serve.scoring.accounts import simes
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.evaluation.thresholds import fpr_limit
from train.learning.accounts import account_table
from train.learning.evidence import CrossEvidence
from train.learning.model import Model, topics
from train.learning.split import Fold
from train.learning.table import Table, table
from train.synthesis.arrival_times import Timing
from train.synthesis.compose import DILUTIONS, LENGTHS, Composer, ComposeSettings
from train.synthesis.composition import Composition

_Measure = Callable[[NDArray[np.float64], NDArray[np.float64]], float]


@dataclass(frozen=True, slots=True)
class ExamSettings:
    """Sessions a cell and fold; `lengths` and `dilutions` are the cells. `n_accounts` whole accounts
    of `account_exchanges` are examined beside them, three in seven of campaigns. With `first_folds` only
    that many folds of each setting are examined, and the starter corpus alone is not."""

    n_harvesting: int = 80
    n_organic: int = 1200
    n_evaluation: int = 40
    lengths: tuple[int, ...] = LENGTHS
    dilutions: tuple[float, ...] = DILUTIONS
    n_bootstrap: int = 100
    n_accounts: int = 700
    account_exchanges: int = 670
    first_folds: int = 0


@dataclass(frozen=True)
class AccountSitting:
    """Whole exam accounts of one size: columns (n_accounts,), `scores` by rule, and the whole account's p-values."""

    is_harvesting: NDArray[np.bool_]
    dilution: NDArray[np.float64]
    scores: Mapping[str, NDArray[np.float64]]
    p_value: NDArray[np.float64]

    def tpr(self, rule: str, dilution: float, fpr: float) -> float:
        """Share of campaigns' accounts that a rule catches at this FPR on the benign ones."""
        own = self.is_harvesting & np.isclose(self.dilution, dilution)
        scores = self.scores[rule]
        return float(_caught(scores[own], scores[~self.is_harvesting], fpr).mean())


@dataclass(frozen=True)
class FoldScores:
    """One fold's exam sessions, scored: columns of shape (n_sessions,).

    `p_value` and `score` are our calibrated ones; `detected_at` (n_campaign_sessions,) says after how many exchanges
    long undiluted campaign sessions were first flagged, 0 for never.
    """

    fold: str
    setting: str
    length: NDArray[np.int64]
    kind: NDArray[np.str_]
    campaign: NDArray[np.str_]
    dilution: NDArray[np.float64]
    scores: Mapping[str, NDArray[np.float64]]
    p_value: NDArray[np.float64] | None = None
    score: NDArray[np.float64] | None = None
    detected_at: NDArray[np.int64] | None = None
    accounts: AccountSitting | None = None

    @property
    def is_harvesting(self) -> NDArray[np.bool_]:
        """Whether each session is of a campaign."""
        return np.asarray(self.kind == "harvest")


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of the exam with a 95 % interval from resampling corpora."""

    value: float
    low: float
    high: float


def exam_composition(
    pool: Pool, fold: Fold, cache: PromptCache, timing: Timing, settings: ExamSettings, *, seed: int
) -> tuple[Composition, NDArray[np.int64]]:
    """Exam sessions of a fold, and the length asked for of each (a person may have written fewer prompts)."""
    composer = Composer(pool, fold.test, topics(pool, cache), timing, seed=seed)
    parts, lengths = [], []
    for length in settings.lengths:
        wanted = [("harvest", settings.n_harvesting, share) for share in settings.dilutions]
        wanted += [("organic", settings.n_organic, 0.0), ("evaluation", settings.n_evaluation, 0.0)]
        for kind, n_sessions, dilution in wanted:
            if not n_sessions or (kind == "evaluation" and not composer.has_evaluations):
                continue
            parts.append(composer.fixed(kind, n_sessions, length, dilution))
            lengths.append(np.full(len(parts[-1]), length))
    return Composition.joined(parts), np.concatenate(lengths)


def exam_table(composition: Composition, pool: Pool, cache: PromptCache, evidence: CrossEvidence) -> Table:
    """Feature rows of exam sessions: evidence is the whole one, since no exam prompt was learned from."""
    return table(composition, pool, cache, evidence.knowing_all())


def exam_accounts(
    pool: Pool, fold: Fold, cache: PromptCache, timing: Timing, settings: ExamSettings, model: Model, *, seed: int
) -> AccountSitting:
    """Whole accounts of a fold's exam, judged as a whole and by rules on their sessions alone."""
    composer = Composer(pool, fold.test, topics(pool, cache), timing, seed=seed)
    composed = composer.accounts(settings.n_accounts, 3 / 7, ComposeSettings(), n=settings.account_exchanges)

    table = account_table(composed, pool, cache, model.evidence.knowing_all())
    p_value = model.calibration.p_value(model.margins(table.session_rows), table.session_sizes)
    first, margins = composed.first(), model.margins(table.rows)
    n_sessions = np.diff(np.append(first, len(p_value)))
    scores = {
        "whole account": margins, "Simes": -np.log(simes(p_value, first)),
        "mean log p": -np.add.reduceat(np.log(p_value), first) / n_sessions,
        "share below 0.05": np.add.reduceat((p_value < 0.05) * 1.0, first) / n_sessions,
    }  # fmt: skip
    whole = model.accounts.p_value(margins, table.n_exchanges)
    return AccountSitting(composed.sessions.is_harvesting[first], composed.sessions.dilution[first], scores, whole)


def auroc(results: Sequence[FoldScores], name: str, length: int, dilution: float, n_bootstrap: int) -> Cell:
    """Area under the ROC curve, mean over folds; resampled over campaigns and sources."""
    return _measure(results, name, length, dilution, n_bootstrap, _fold_auroc)


def tpr(results: Sequence[FoldScores], name: str, length: int, dilution: float, fpr: float, n_bootstrap: int) -> Cell:
    """Share of harvesting sessions caught at this FPR on the fold's own organic sessions; resampled over campaigns."""
    return _measure(results, name, length, dilution, n_bootstrap, lambda pos, neg: float(_caught(pos, neg, fpr).mean()))


def tpr_by_campaign(
    results: Sequence[FoldScores], name: str, length: int, dilution: float, fpr: float
) -> dict[str, tuple[float, int]]:
    """TPR and number of sessions of each campaign group (a mixed campaign counts for its first group)."""
    found: dict[str, list[float]] = {}
    for result in results:
        positive, negative = _cell(result, length, dilution)
        caught = _caught(result.scores[name][positive], result.scores[name][negative], fpr)
        for campaign, hit in zip(result.campaign[positive], caught, strict=True):
            for group in str(campaign).split("+"):
                found.setdefault(group, []).append(float(hit))
    return {group: (float(np.mean(hits)), len(hits)) for group, hits in sorted(found.items())}


def fpr_by_source(results: Sequence[FoldScores], name: str, length: int, fpr: float) -> dict[str, tuple[float, int]]:
    """Share of each organic source's sessions above the threshold of `fpr` over all of the fold's organic sessions."""
    found: dict[str, list[float]] = {}
    for result in results:
        _, negative = _cell(result, length, 0.0)
        flagged = _caught(result.scores[name][negative], result.scores[name][negative], fpr)
        for kind, source, hit in zip(result.kind[negative], result.campaign[negative], flagged, strict=True):
            label = f"{kind} {source}" if "+" not in str(source) else f"{kind} several"
            found.setdefault(label, []).append(float(hit))
    return {source: (float(np.mean(hits)), len(hits)) for source, hits in sorted(found.items())}


def evaluation_rate(results: Sequence[FoldScores], name: str, length: int, fpr: float) -> float:
    """Share of benchmark runs that are flagged at this FPR."""
    rates = []
    for result in results:
        _, negative = _cell(result, length, 0.0)
        runs = (result.kind == "evaluation") & (result.length == length)
        if runs.any():
            rates.append(_caught(result.scores[name][runs], result.scores[name][negative], fpr).mean())
    return float(np.mean(rates)) if rates else float("nan")


def _cell(result: FoldScores, length: int, dilution: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    at_length = result.length == length
    positive = result.is_harvesting & at_length & np.isclose(result.dilution, dilution)
    return positive, at_length & ~result.is_harvesting & (result.kind != "evaluation")


def _caught(positive: NDArray[np.float64], negative: NDArray[np.float64], fpr: float) -> NDArray[np.bool_]:
    """Which scores lie above the threshold that at most a share `fpr` of `negative` lies above."""
    return np.asarray(positive > fpr_limit(negative, fpr))


def _fold_auroc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    y = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    return float(roc_auc_score(y, np.concatenate([positive, negative])))


def _measure(
    results: Sequence[FoldScores], name: str, length: int, dilution: float, n_bootstrap: int, measure: _Measure
) -> Cell:
    folds = [_CellScores.of(result, name, length, dilution) for result in results]
    rng = np.random.default_rng(0)
    value = float(np.mean([measure(fold.positive, fold.negative) for fold in folds]))
    draws = [
        np.mean([measure(*fold.resampled(rng)) for fold in (folds[i] for i in rng.integers(0, len(folds), len(folds)))])
        for _ in range(n_bootstrap)
    ]
    low, high = np.quantile(draws, (0.025, 0.975)) if draws else (value, value)
    return Cell(value, float(low), float(high))


@dataclass(frozen=True)
class _CellScores:
    positive: NDArray[np.float64]
    negative: NDArray[np.float64]
    campaign: NDArray[np.str_]

    @classmethod
    def of(cls, result: FoldScores, name: str, length: int, dilution: float) -> _CellScores:
        positive, negative = _cell(result, length, dilution)
        scores = result.scores[name]
        return cls(scores[positive], scores[negative], result.campaign[positive])

    def resampled(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Campaigns drawn with replacement, organic sessions drawn with replacement."""
        names = np.unique(self.campaign)
        drawn = rng.choice(names, size=len(names))
        positive = np.concatenate([self.positive[self.campaign == name] for name in drawn])
        return positive, rng.choice(self.negative, size=len(self.negative))
