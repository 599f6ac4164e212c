"""Charts: counts as bars that a page can draw, in percent of the height and width that it has.

All rows of a chart have one scale, so that they can be compared. Where there are several, heights are square roots of
counts, so that a row of few is seen beside one of many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from serve.sessions.records import TIMES

MAX_TIME_BARS = 60
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_STEPS = (_MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 3 * _HOUR, 6 * _HOUR, _DAY, 7 * _DAY, 30 * _DAY, 365 * _DAY)
_STEP_NAMES = ("minute", "5 minutes", "15 minutes", "hour", "3 hours", "6 hours", "day", "week", "30 days", "365 days")


@dataclass(frozen=True, slots=True)
class Bar:
    """`count` between `low` (inclusive) and `high`, `height` in percent of the highest bar of its chart."""

    low: str
    high: str
    count: int
    height: float


@dataclass(frozen=True, slots=True)
class Row:
    """Bars of one group, from left to right; `most` is the count of the highest one."""

    name: str
    bars: tuple[Bar, ...]
    most: int
    total: int


@dataclass(frozen=True, slots=True)
class Chart:
    """Rows of bars over one axis: texts at its ticks, evenly spaced from end to end."""

    rows: tuple[Row, ...]
    ticks: tuple[str, ...]
    step: str


def histogram(groups: Mapping[str, NDArray[np.float64]], n_bars: int = 40) -> Chart:
    """Counts of numbers from 0 to 1, a row a group; 1 itself falls in the last bar."""
    names = [f"{edge / n_bars:.3f}" for edge in range(n_bars + 1)]
    counts = {
        name: np.bincount(np.minimum((own * n_bars).astype(np.int64), n_bars - 1), minlength=n_bars)
        for name, own in groups.items()
    }
    return Chart(_rows(counts, names), ("0", "0.25", "0.5", "0.75", "1"), f"{1 / n_bars:.3f}")


def timeline(groups: Mapping[str, NDArray[np.float64]]) -> Chart | None:
    """Counts of times (seconds since 1970 or NaN) by minute, hour, day or longer; None where all are unknown."""
    known = {name: own[~np.isnan(own)] for name, own in groups.items()}
    times = np.concatenate(list(known.values()))
    if not len(times):
        return None
    first, last = float(times.min()), float(times.max())
    step, name = next(
        (pair for pair in zip(_STEPS, _STEP_NAMES, strict=True) if (last - first) / pair[0] < MAX_TIME_BARS - 1),
        (_STEPS[-1], _STEP_NAMES[-1]),
    )
    begin = math.floor(first / step) * step
    step *= max(1, math.ceil((last - begin + 1) / step / MAX_TIME_BARS))
    n_bars = int((last - begin) // step) + 1
    names = [_time(begin + step * index, step) for index in range(n_bars + 1)]
    counts = {
        group: np.bincount(((own - begin) // step).astype(np.int64), minlength=n_bars) for group, own in known.items()
    }
    return Chart(_rows(counts, names), (names[0], names[-1]), name)


def _rows(groups: Mapping[str, NDArray[np.int64]], names: Sequence[str]) -> tuple[Row, ...]:
    most = max([1, *(int(counts.max(initial=0)) for counts in groups.values())])
    power = 0.5 if len(groups) > 1 else 1.0
    return tuple(
        Row(
            group,
            tuple(
                Bar(names[index], names[index + 1], count, round(100.0 * (count / most) ** power, 2))
                for index, count in enumerate(counts.tolist())
            ),
            int(counts.max(initial=0)),
            int(counts.sum()),
        )
        for group, counts in groups.items()
    )


def _time(seconds: float, step: int) -> str:
    """ISO date, with the minute where steps are shorter than a day; the ends of time where it is beyond them."""
    at = datetime.fromtimestamp(min(max(seconds, TIMES[0]), TIMES[1] - 1), UTC)
    return f"{at:%Y-%m-%d}" if step >= _DAY else f"{at:%Y-%m-%d %H:%M}"
