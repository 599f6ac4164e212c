"""Verdict: what is said of a session, one by one as a record or many at once as columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.scoring.explanation import EVIDENCE, REASON, Evidence, Explanation, Reason
from serve.sessions.records import TIMES

LABELS = ("organic", "undecided", "harvesting")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one session; never holds prompt text.

    `score` is calibrated, 0-1, high means harvesting: the probability of it where half of all sessions are; `p_value`
    the share of benign calibration sessions of like size that score as high; `coverage` the share of each area's cells
    that were reached; `area_share` the share of prompts. `systematicness` is how widely and evenly cells are covered,
    -1 to 1 with 0 for benign use of the same area mix (None below 8 placed prompts); `profile` a letter a feature,
    where among benign sessions of like size it lies. `baseline`, the contributions of `reasons` and `rest` add up to
    the log-odds of the score (None where no reason was asked for); `evidence` are the prompts that weigh most, the
    clearest first.
    """

    session_id: str
    account_id: str
    n_exchanges: int
    started_at: float | None
    ended_at: float | None
    score: float
    p_value: float
    label: str
    threshold: float
    coverage: Mapping[str, float]
    area_share: Mapping[str, float]
    reasons: tuple[Reason, ...]
    bundle: str
    systematicness: float | None = None
    profile: str | None = None
    baseline: float | None = None
    rest: float | None = None
    evidence: tuple[Evidence, ...] = ()

    @property
    def is_harvesting(self) -> bool:
        """Whether the label is `harvesting`."""
        return self.label == "harvesting"

    @property
    def explanation(self) -> Explanation:
        """Why the score is what it is."""
        return Explanation(self.baseline, self.reasons, self.rest)


SCHEMA = pa.schema([
    ("session_id", pa.string()), ("account_id", pa.string()), ("n_exchanges", pa.int64()),
    ("started_at", pa.timestamp("ms", tz="UTC")), ("ended_at", pa.timestamp("ms", tz="UTC")), ("score", pa.float64()),
    ("p_value", pa.float64()), ("label", pa.string()), ("threshold", pa.float64()),
    ("coverage", pa.map_(pa.string(), pa.float64())), ("area_share", pa.map_(pa.string(), pa.float64())),
    ("reasons", pa.list_(REASON)), ("bundle", pa.string()), ("systematicness", pa.float64()),
    ("profile", pa.string()), ("baseline", pa.float64()), ("rest", pa.float64()), ("evidence", pa.list_(EVIDENCE)),
])  # fmt: skip
"""Columns of a verdicts file."""

MAY_BE_NULL = ("started_at", "ended_at", "systematicness", "profile", "baseline", "rest")
"""Columns that hold null where a thing is unknown."""


@dataclass(frozen=True)
class Verdicts:
    """Verdicts of many sessions as columns (n_sessions,), in the order they were asked for.

    `coverage` (n_sessions, n_areas) and `area_share` (n_sessions, n_areas + 1, the last one *none*); `explanations` and
    `evidence` hold nothing where no reason was asked for; `systematicness` (n_sessions,) is NaN and `profile` None
    where unknown.
    """

    areas: tuple[str, ...]
    session_ids: tuple[str, ...]
    account_ids: tuple[str, ...]
    n_exchanges: NDArray[np.int64]
    started_at: NDArray[np.float64]
    ended_at: NDArray[np.float64]
    score: NDArray[np.float64]
    p_value: NDArray[np.float64]
    label: NDArray[np.str_]
    threshold: NDArray[np.float64]
    coverage: NDArray[np.float64]
    area_share: NDArray[np.float64]
    explanations: tuple[Explanation, ...]
    evidence: tuple[tuple[Evidence, ...], ...]
    bundle: str
    systematicness: NDArray[np.float64]
    profile: tuple[str | None, ...]
    features: NDArray[np.float64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.session_ids)

    @property
    def is_flagged(self) -> NDArray[np.bool_]:
        """Whether each session is flagged as harvesting, shape (n_sessions,)."""
        return np.asarray(self.label == "harvesting")

    def __iter__(self) -> Iterator[Verdict]:
        return (self.verdict(index) for index in range(len(self)))

    def verdict(self, index: int) -> Verdict:
        """One session's verdict as a record."""
        explanation = self.explanations[index]
        return Verdict(
            session_id=self.session_ids[index],
            account_id=self.account_ids[index],
            n_exchanges=int(self.n_exchanges[index]),
            started_at=_known(self.started_at[index]),
            ended_at=_known(self.ended_at[index]),
            score=float(self.score[index]),
            p_value=float(self.p_value[index]),
            label=str(self.label[index]),
            threshold=float(self.threshold[index]),
            coverage=_reached(self.areas, self.coverage[index]),
            area_share=_reached((*self.areas, "none"), self.area_share[index]),
            reasons=explanation.reasons,
            bundle=self.bundle,
            systematicness=_known(self.systematicness[index]),
            profile=self.profile[index],
            baseline=explanation.baseline,
            rest=explanation.rest,
            evidence=self.evidence[index],
        )

    def table(self) -> pa.Table:
        """The verdicts as an Arrow table of `SCHEMA`."""
        columns = [
            pa.array(self.session_ids, pa.string()),
            pa.array(self.account_ids, pa.string()),
            pa.array(self.n_exchanges),
            times(self.started_at),
            times(self.ended_at),
            pa.array(self.score),
            pa.array(self.p_value),
            pa.array(self.label.tolist(), pa.string()),
            pa.array(self.threshold),
            _map_array(self.areas, self.coverage),
            _map_array((*self.areas, "none"), self.area_share),
            pa.array(
                [[_plain(reason, REASON) for reason in own.reasons] for own in self.explanations], pa.list_(REASON)
            ),
            pa.array([self.bundle] * len(self), pa.string()),
            pa.array(self.systematicness, mask=np.isnan(self.systematicness)),
            pa.array(self.profile, pa.string()),
            pa.array([own.baseline for own in self.explanations], pa.float64()),
            pa.array([own.rest for own in self.explanations], pa.float64()),
            pa.array([[_plain(prompt, EVIDENCE) for prompt in own] for own in self.evidence], pa.list_(EVIDENCE)),
        ]
        return pa.Table.from_arrays(columns, schema=SCHEMA)


def _known(at: float) -> float | None:
    return None if math.isnan(at) else float(at)


def _reached(names: tuple[str, ...], shares: NDArray[np.float64]) -> dict[str, float]:
    return {name: float(share) for name, share in zip(names, shares, strict=True) if share > 0}


def _plain(record: Reason | Evidence, struct: pa.StructType) -> dict[str, Any]:
    return {name: getattr(record, name) for name in struct.names}


def times(seconds: NDArray[np.float64]) -> pa.Array:
    """Arrow times of seconds since 1970, null where NaN; the last moment of the year 9999 is not rounded up."""
    known = ~np.isnan(seconds)
    milliseconds = np.round(np.where(known, seconds, 0.0) * 1000.0).astype(np.int64)
    inside = np.minimum(milliseconds, int(TIMES[1] * 1000) - 1)
    return pa.array(inside, pa.int64(), mask=~known).cast(pa.timestamp("ms", tz="UTC"))


def _map_array(names: tuple[str, ...], shares: NDArray[np.float64]) -> pa.Array:
    """A map a row with the entries that are above 0."""
    rows, columns = np.nonzero(shares > 0)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(shares)))]).astype(np.int32)
    keys = pa.array(np.array(names, dtype=object)[columns], pa.string())
    return pa.MapArray.from_arrays(pa.array(offsets), keys, pa.array(shares[rows, columns]))
