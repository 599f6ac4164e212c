"""Promotion gates: what a challenger must not lose against the champion, measured on the same exam sessions."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.bundle.bundle import Bundle
from serve.io.reading import read_paths
from serve.scoring.scorer import CHUNK_PROMPTS, Scorer
from serve.sessions.records import Sessions
from serve.sessions.sessionizing import Timeline
from train.evaluation.thresholds import fpr_limit
from train.learning.bundling import MAX_BYTES, bundle_bytes
from train.learning.calibration import expected_calibration_error
from train.synthesis.traffic_files import EXCHANGES, LABELS

N_BOOTSTRAP = 400
MAX_LOSS = 0.02
"""How much worse a rate may be, as measured, before its gate falls."""
MAX_SLOWDOWN = 1.25
_FPR = 0.01
_LATENCY_EXCHANGES = 50


@dataclass(frozen=True)
class ExamTraffic:
    """The exam's sessions with what is known of them, as columns (n_sessions,)."""

    sessions: Sessions
    kind: NDArray[np.str_]
    campaign: NDArray[np.str_]
    dilution: NDArray[np.float64]

    @property
    def is_harvesting(self) -> NDArray[np.bool_]:
        """Whether each session is of a campaign."""
        return np.asarray(self.kind == "harvest")

    @property
    def is_organic(self) -> NDArray[np.bool_]:
        """Whether each session is organic; benchmark runs are neither."""
        return np.asarray(~self.is_harvesting & (self.kind != "evaluation"))


@dataclass(frozen=True)
class ExamScores:
    """What one bundle made of the exam: columns of shape (n_sessions,), milliseconds a session, and bytes on disk."""

    score: NDArray[np.float64]
    is_flagged: NDArray[np.bool_]
    milliseconds: float
    n_bytes: int


@dataclass(frozen=True, slots=True)
class PromotionGate:
    """One number of champion and challenger, the interval (95 %) of their difference, and whether the gate holds."""

    name: str
    champion: float
    challenger: float
    low: float
    high: float
    holds: bool


def read_exam(folder: Path) -> ExamTraffic:
    """Read traffic with labels, as `train.experiments.traffic` writes it.

    Raises:
        ValueError: when files are missing, or sessions and labels don't fit.
    """
    labels = folder / LABELS
    if not labels.is_file():
        raise ValueError(f"{labels} is not there, expected a folder of traffic with labels")
    rows = [json.loads(line) for line in labels.read_text(encoding="utf-8").splitlines()]
    known = {(row["account_id"], row["session_id"]): row for row in rows}
    timeline = Timeline.of(pa.concat_tables([batch.table for batch in read_paths([folder / EXCHANGES])]))
    sessions = timeline.sessions(0, len(timeline))
    own = [known.get(key) for key in zip(sessions.account_ids, sessions.session_ids, strict=True)]
    found = [row for row in own if row is not None]
    if len(found) < len(own) or len(found) < len(known):
        raise ValueError(
            f"{folder} has labels of {len(known)} sessions, {len(found)} of its {len(own)} sessions have one"
        )
    return ExamTraffic(
        sessions,
        np.array([row["kind"] for row in found]),
        np.array([row["campaign"] for row in found]),
        np.array([row["dilution"] for row in found]),
    )


def score_exam(exam: ExamTraffic, bundles: Sequence[Path]) -> tuple[ExamScores, ...]:
    """Judge the exam's sessions with each bundle.

    Raises:
        BundleError: when a bundle can't be trusted.
    """
    scorers = [Scorer(Bundle.load(bundle)) for bundle in bundles]
    milliseconds = _milliseconds(exam.sessions, scorers)
    return tuple(_marks(exam, *given) for given in zip(scorers, bundles, milliseconds, strict=True))


def _marks(exam: ExamTraffic, scorer: Scorer, bundle: Path, milliseconds: float) -> ExamScores:
    verdicts = [scorer.judge(part) for part in exam.sessions.chunks(CHUNK_PROMPTS)]
    return ExamScores(
        np.concatenate([part.score for part in verdicts]),
        np.concatenate([part.label == "harvesting" for part in verdicts]),
        milliseconds,
        bundle_bytes(bundle),
    )


def gates(
    exam: ExamTraffic, champion: ExamScores, challenger: ExamScores, *, seed: int = 0
) -> tuple[PromotionGate, ...]:
    """Every gate, measured on the same sessions; campaigns and organic sessions are drawn alike for both (a paired
    bootstrap). A rate's gate falls when all of the interval lies on the worse side, or the loss exceeds MAX_LOSS."""
    draws = _draws(exam, N_BOOTSTRAP, seed)
    found = []
    for dilution in np.unique(exam.dilution[exam.is_harvesting]).tolist():
        name = f"TPR at 1 % FPR, {dilution:.0%} cover"
        found.append(_gate(name, _tpr(exam, dilution), champion, challenger, draws, up=True))
    for kind in np.unique(exam.kind[exam.is_organic]).tolist():
        found.append(_gate(f"FPR of {kind}", _flagged(exam, kind), champion, challenger, draws, up=False))
    found.append(_gate("calibration error", _error(exam), champion, challenger, draws, up=False))
    slower = challenger.milliseconds > max(MAX_SLOWDOWN * champion.milliseconds, champion.milliseconds + 1.0)
    found.append(
        _plain_gate("milliseconds a session", champion.milliseconds, challenger.milliseconds, holds=not slower)
    )
    fits = challenger.n_bytes < MAX_BYTES
    found.append(_plain_gate("bytes", champion.n_bytes, challenger.n_bytes, holds=fits))
    return tuple(found)


def learned_from(exam: ExamTraffic, bundles: Sequence[Path]) -> tuple[str, ...]:
    """Campaigns of the exam that one of the bundles learned from, by their data cards."""
    asked = {group for campaign in exam.campaign[exam.is_harvesting].tolist() for group in campaign.split("+")}
    cards = [Bundle.load(bundle).manifest["data"].get("sources", []) for bundle in bundles]
    return tuple(sorted(asked & {source["group"] for card in cards for source in card}))


_Rate = Callable[[ExamScores, NDArray[np.int64]], float]


def _gate(
    name: str,
    rate: _Rate,
    champion: ExamScores,
    challenger: ExamScores,
    draws: Sequence[NDArray[np.int64]],
    *,
    up: bool,
) -> PromotionGate:
    everyone = np.arange(len(champion.score))
    old, new = rate(champion, everyone), rate(challenger, everyone)
    gains = np.array([rate(challenger, rows) - rate(champion, rows) for rows in draws])
    low, high = (float(value) for value in np.quantile(gains, (0.025, 0.975)))
    gain, best = (new - old, high) if up else (old - new, -low)
    return PromotionGate(name, old, new, low, high, gain >= -MAX_LOSS and best >= 0.0)


def _plain_gate(name: str, champion: float, challenger: float, *, holds: bool) -> PromotionGate:
    difference = float(challenger - champion)
    return PromotionGate(name, float(champion), float(challenger), difference, difference, holds)


def _tpr(exam: ExamTraffic, dilution: float) -> _Rate:
    positive = exam.is_harvesting & np.isclose(exam.dilution, dilution)

    def rate(found: ExamScores, rows: NDArray[np.int64]) -> float:
        score = found.score[rows]
        limit = fpr_limit(score[exam.is_organic[rows]], _FPR)
        return float((score[positive[rows]] > limit).mean())

    return rate


def _flagged(exam: ExamTraffic, kind: str) -> _Rate:
    return lambda found, rows: float(found.is_flagged[rows][exam.kind[rows] == kind].mean())


def _error(exam: ExamTraffic) -> _Rate:
    known = exam.is_harvesting | exam.is_organic

    def rate(found: ExamScores, rows: NDArray[np.int64]) -> float:
        own = rows[known[rows]]
        return expected_calibration_error(found.score[own], exam.is_harvesting[own].astype(np.int64))

    return rate


def _draws(exam: ExamTraffic, n_draws: int, seed: int) -> list[NDArray[np.int64]]:
    """Rows of the exam: within each dilution campaigns drawn with replacement, within each other kind sessions."""
    rng = np.random.default_rng(seed)
    strata = np.char.add(exam.kind, np.where(exam.is_harvesting, np.char.mod("%.2f", exam.dilution), ""))
    draws = []
    for _ in range(n_draws):
        rows = []
        for stratum in np.unique(strata):
            own = np.flatnonzero(strata == stratum)
            rows.append(_drawn_campaigns(exam, own, rng) if exam.is_harvesting[own[0]] else rng.choice(own, len(own)))
        draws.append(np.concatenate(rows))
    return draws


def _drawn_campaigns(exam: ExamTraffic, own: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    names = np.unique(exam.campaign[own])
    return np.concatenate([own[exam.campaign[own] == name] for name in rng.choice(names, len(names))])


def _milliseconds(sessions: Sessions, scorers: Sequence[Scorer], n_rounds: int = 25) -> list[float]:
    """Least time of each scorer to judge the session that is nearest to 50 exchanges, warm. They take turns, so that
    what else the machine does befalls all of them, and the least time is the one it befell least."""
    index = int(np.argmin(np.abs(sessions.n_exchanges - _LATENCY_EXCHANGES)))
    one = sessions.part(index, index + 1)
    seconds = np.empty((n_rounds, len(scorers)))
    for row in seconds:
        for column, scorer in enumerate(scorers):
            began_at = time.perf_counter()
            scorer.judge(one, explain_all=True)
            row[column] = time.perf_counter() - began_at
    return [float(least) * 1000.0 for least in seconds[1:].min(axis=0)]
