"""Reasons: what the classifier's own contributions add up to, by idea, in plain sentences that never hold prompt text.

A session is compared with one that has the middle value of benign sessions of like size in every feature. The log-odds
of that one are the baseline, and the contributions of all ideas lead from there to the log-odds of the session's score.
Calibration is a straight line in log-odds, so its slope multiplies every contribution and its intercept is in the
baseline: nothing is lost on the way.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serve.model.benign_profile import MEDIAN
from serve.scoring.explanation import Explanation, Reason
from serve.scoring.ideas import IDEAS, Idea, idea_of
from serve.scoring.statements import Measure, Size, Statement, statement
from serve.sessions.size_classes import size_class

if TYPE_CHECKING:
    from serve.bundle.bundle import Bundle

MAX_REASONS = 5
_LEAST = 0.005
"""Log-odds that an idea moves at least, either way, to be a reason: less is shown as nothing."""

NOTHING = Explanation(None, (), None)
"""What is said where no reason was asked for."""


def explanations(
    bundle: Bundle, rows: NDArray[np.float64], margins: NDArray[np.float64], n_exchanges: NDArray[np.int64],
    wanted: NDArray[np.bool_],
) -> tuple[Explanation, ...]:  # fmt: skip
    """Baseline, reasons and rest of each session that is `wanted`, from feature rows and what the classifier made of
    them (n_sessions,); `NOTHING` for the others."""
    found = [NOTHING] * len(rows)
    chosen = np.flatnonzero(wanted)
    if len(chosen):
        classes, kind = np.unique(size_class(n_exchanges[chosen]), return_inverse=True)
        usual, benign = _usual(bundle)[classes], bundle.reference[classes]
        calibration, classifier = bundle.calibration, bundle.classifier
        terms = calibration.slope * classifier.contributions(rows[chosen], usual, kind)
        baselines = calibration.log_odds(classifier.margins(usual))[kind]
        totals = calibration.log_odds(margins[chosen])
        columns = _Columns.of(tuple(bundle.manifest["features"]))
        for place, index in enumerate(chosen.tolist()):
            session = _Session(columns, rows[index], int(n_exchanges[index]), benign[kind[place]])
            own = session.reasons(terms[place])
            baseline = float(baselines[place])
            rest = float(totals[place]) - baseline - sum(reason.contribution for reason in own)
            found[index] = Explanation(baseline, own, rest)
    return tuple(found)


def _usual(bundle: Bundle) -> NDArray[np.float64]:
    """The middle of benign sessions in every feature, (n_classes, n_features); of their range where a bundle knows no
    more."""
    if bundle.benign is None:
        return np.asarray(bundle.reference.mean(axis=2))
    return bundle.benign.edges[:, :, MEDIAN].astype(np.float64)


@dataclass(frozen=True)
class _Columns:
    """Where features are: `idea` (n_features,) the idea of each, -1 for none, and the column of each name."""

    idea: NDArray[np.int64]
    column: dict[str, int]

    @classmethod
    @functools.lru_cache(maxsize=8)
    def of(cls, names: tuple[str, ...]) -> _Columns:
        ideas = (idea_of(name) for name in names)
        return cls(
            np.array([-1 if idea is None else idea for idea in ideas]), {name: at for at, name in enumerate(names)}
        )


@dataclass(frozen=True)
class _Session:
    """One session's row beside the benign range (n_features, 2) of its size."""

    columns: _Columns
    row: NDArray[np.float64]
    n: int
    benign: NDArray[np.float64]

    def reasons(self, terms: NDArray[np.float64]) -> tuple[Reason, ...]:
        """The ideas that moved the score most, what lies outside the benign range first; where one of them speaks
        against the others, at least one such."""
        known = self.columns.idea >= 0
        sums = np.bincount(self.columns.idea[known], weights=terms[known], minlength=len(IDEAS))
        order = np.argsort(-np.abs(sums), kind="stable").tolist()
        found = [self._reason(IDEAS[idea], terms, float(sums[idea])) for idea in order if abs(sums[idea]) >= _LEAST]
        given = [reason for reason in found if reason is not None]
        shown = given[:MAX_REASONS]
        against = [reason for reason in given[MAX_REASONS:] if reason.contribution * sums.sum() < 0.0]
        if against and all(reason.contribution * sums.sum() >= 0.0 for reason in shown):
            shown[-1] = against[0]
        return tuple(sorted(shown, key=lambda reason: reason.is_weak))

    def _reason(self, idea: Idea, terms: NDArray[np.float64], total: float) -> Reason | None:
        """An idea by the measure that lies furthest outside the benign range and pulls the same way as all of it; by
        the plainest, as a weak one, where there is none. None where no sentence fits the session's size."""
        fitting = [measure for measure in idea.measures if measure.name in self.columns.column]
        stated = [(measure, self._statement(measure)) for measure in fitting if measure.fits(self._size())]
        if not stated:
            return None
        pulling = [pair for pair in stated if terms[self.columns.column[pair[0].name]] * total > 0.0]
        measure, said = max(pulling or stated, key=lambda pair: max(pair[1].outlying, 0.0))
        low, high = self.benign[self.columns.column[measure.name]].tolist()
        value = float(self.row[self.columns.column[measure.name]])
        is_weak = not pulling or said.outlying <= 0.0
        return Reason(measure.name, value, low, high, total, said.sentence, idea.name, is_weak)

    def _statement(self, measure: Measure) -> Statement:
        column = self.columns.column[measure.name]
        return statement(measure, float(self.row[column]), self.benign[column].tolist(), self._size())

    def _size(self) -> Size:
        none, main = (self._share(name) for name in ("area.none", "coverage.main_share"))
        return Size(self.n, self.n - round(none * self.n), round(main * self.n))

    def _share(self, name: str) -> float:
        column = self.columns.column.get(name)
        return 0.0 if column is None else float(self.row[column])
