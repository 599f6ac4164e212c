"""Scorer: sessions in, verdicts out, one or many, with a bundle that never changes after load."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.bundle.bundle import Bundle
from serve.bundle.files import RELEASED
from serve.capability.coverage import CellCounts, area_coverage
from serve.features.session_features import Evidenced, Totals, assembled, compared, observe
from serve.model.calibration import MIN_DECIDABLE
from serve.scoring.evidence import PromptScores, clearest
from serve.scoring.reasons import explanations
from serve.scoring.verdict import Verdict, Verdicts
from serve.sessions.records import Session, Sessions

CHUNK_PROMPTS = 16_000
"""Prompts that are judged at once: so many that what is done once for each size of session costs little."""


@dataclass(frozen=True)
class Judged:
    """Sessions whose prompts are no longer needed: who sent them, when (seconds, NaN where unknown), how much prompts
    look like harvest, and totals."""

    session_ids: tuple[str, ...]
    account_ids: tuple[str, ...]
    started_at: NDArray[np.float64]
    ended_at: NDArray[np.float64]
    prompt_scores: PromptScores
    totals: Totals


class Scorer:
    """Judges sessions; safe to share between threads. The same session gets the same score to the last bit anywhere."""

    def __init__(self, bundle: Bundle, *, fpr: float | None = None) -> None:
        """Judge with `bundle`, flagging a share `fpr` of benign sessions (the bundle's own choice by default).

        Raises:
            ValueError: when `fpr` is not between 0 and 1.
        """
        self.bundle = bundle
        self.fpr = float(bundle.manifest["fpr"]) if fpr is None else fpr
        if not 0.0 < self.fpr < 1.0:
            raise ValueError(f"fpr is {self.fpr}, expected a share between 0 and 1")

    def score(self, session: Session) -> Verdict:
        """The verdict on one session, with reasons."""
        return self.judge(Sessions.of([session]), explain_all=True).verdict(0)

    def score_many(self, sessions: Iterable[Session]) -> list[Verdict]:
        """Verdicts on sessions, in their order, with reasons for all."""
        columns = Sessions.of(sessions)
        return [verdict for part in columns.chunks(CHUNK_PROMPTS) for verdict in self.judge(part, explain_all=True)]

    def explain(self, session: Session) -> Verdict:
        """The verdict with its reasons: what `score` gives."""
        return self.score(session)

    def judge(self, sessions: Sessions, *, explain_all: bool = False) -> Verdicts:
        """Verdicts on sessions as columns; reasons for those flagged, or for all."""
        prompts = observe(sessions, self.bundle.encoder, self.bundle.capabilities, self.bundle.prompt_scorer)
        return self.judge_observed(sessions, prompts, explain_all=explain_all)

    def judge_observed(self, sessions: Sessions, prompts: Evidenced, *, explain_all: bool = False) -> Verdicts:
        """Verdicts on sessions whose prompts were observed before."""
        started, ended = _span(sessions)
        scores = PromptScores.of(prompts.evidence[:, 0], prompts.offsets)
        judged = Judged(sessions.session_ids, sessions.account_ids, started, ended, scores, Totals.of(prompts))
        rows = assembled(judged.totals, compared(prompts), self.bundle.capabilities)
        return self.judge_rows(judged, rows, explain_all=explain_all)

    def judge_rows(self, judged: Judged, rows: NDArray[np.float64], *, explain_all: bool = False) -> Verdicts:
        """Verdicts on sessions whose feature rows are known."""
        bundle, counts, n_exchanges = self.bundle, judged.totals.cells, judged.totals.n_exchanges
        margin = bundle.classifier.margins(rows)
        p_value = bundle.calibration.p_value(margin, n_exchanges)
        flagged = p_value <= self.fpr
        unclear = (n_exchanges < MIN_DECIDABLE) | ~bundle.calibration.is_decidable(n_exchanges, self.fpr)
        label = np.where(flagged, "harvesting", np.where(unclear, "undecided", "organic"))
        n_areas, explained = len(bundle.capabilities.areas), flagged | explain_all
        return Verdicts(
            areas=bundle.capabilities.areas,
            session_ids=judged.session_ids,
            account_ids=judged.account_ids,
            n_exchanges=n_exchanges,
            started_at=judged.started_at,
            ended_at=judged.ended_at,
            score=bundle.calibration.score(margin),
            p_value=p_value,
            label=label,
            threshold=bundle.calibration.threshold(n_exchanges, self.fpr),
            coverage=area_coverage(counts, bundle.capabilities.cell_areas, bundle.capabilities.n_cells),
            area_share=rows[:, -(n_areas + 1) :],
            explanations=explanations(bundle, rows, margin, n_exchanges, explained),
            evidence=clearest(judged.prompt_scores, explained),
            bundle=bundle.bundle_id,
            systematicness=self._systematicness(counts),
            profile=(None,) * len(rows) if bundle.benign is None else bundle.benign.profiles(rows, n_exchanges),
            features=rows,
        )

    def _systematicness(self, counts: CellCounts) -> NDArray[np.float64]:
        benign, capabilities = self.bundle.benign, self.bundle.capabilities
        if benign is None:
            return np.full(counts.n_units, np.nan)
        return benign.coverage.of(counts, capabilities.cell_areas, len(capabilities.areas))


def load(bundle: Path | str | None = None, *, fpr: float | None = None) -> Scorer:
    """A scorer with the bundle in this folder, or with the released one.

    Raises:
        BundleError: when the bundle can't be trusted or read.
    """
    return Scorer(Bundle.load(RELEASED if bundle is None else Path(bundle)), fpr=fpr)


def _span(sessions: Sessions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First and last known time of each session, NaN where none is known."""
    starts = sessions.offsets[:-1]
    known = ~np.isnan(sessions.at)
    first = np.minimum.reduceat(np.where(known, sessions.at, np.inf), starts) if len(sessions) else np.zeros(0)
    last = np.maximum.reduceat(np.where(known, sessions.at, -np.inf), starts) if len(sessions) else np.zeros(0)
    return np.where(np.isinf(first), np.nan, first), np.where(np.isinf(last), np.nan, last)
