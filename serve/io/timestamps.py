"""Timestamps: when an exchange was sent, in seconds since 1970, from numbers of any unit, texts or Arrow times.

A number is in seconds, milliseconds, micro- or nanoseconds, whichever gives a plausible time. A time without an offset
is UTC. What can't be read is NaN and counted: an exchange is worth more than its time.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.sessions.records import TIMES

UNREADABLE = "times that can't be read, left out"
OTHER_FORMS = "times in other forms than ISO 8601"
DAY_FIRST = "times with the day before the month"
_UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds")
_LIMITS = (1e11, 1e14, 1e17, 1e20)
"""Numbers below each of these are in the unit of its place; seconds up to the year 5138."""
_SCALES = (1.0, 1e3, 1e6, 1e9, math.nan)
_EARLIEST_SCALED = 6e8
"""The year 1989: a number that would be an earlier time in milliseconds or less is none."""
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6}

_YEAR = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_LONG_MONTH, _SHORT_MONTH = "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])", "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
_MONTH_AND_DAY = f"(?:{_LONG_MONTH}|{_SHORT_MONTH}|02-(?:0[1-9]|1[0-9]|2[0-8]))"
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
ISO_8601 = (
    f"^(?:{_YEAR}-{_MONTH_AND_DAY}|{_LEAP_YEAR}-02-29)"
    f"(?:[T ]{_CLOCK}(?::[0-5][0-9](?:[.][0-9]{{1,9}})?)?(?:Z|[+-]{_CLOCK})?)?$"
)
"""A day, or a day and a time, as RFC 3339 writes them: seconds and the offset may be missing."""

_ISO_8601 = re.compile(ISO_8601)
_NUMBER = re.compile(r"[+-]?\d{1,25}(?:\.\d{0,12})?", re.ASCII)
_DAY = re.compile(r"(?:19|20)\d{6}", re.ASCII)
_SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/\d{4}", re.ASCII)
_CLOCKS = (" %H:%M:%S", " %H:%M", ", %H:%M:%S", " %I:%M:%S %p", ", %I:%M:%S %p", ", %I:%M:%S.%f %p", "")
_FORMS = (
    "%a, %d %b %Y %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S", "%d/%b/%Y:%H:%M:%S %z", "%a %b %d %H:%M:%S %Y",
    "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%d %b %Y %H:%M:%S", "%b %d, %Y %H:%M:%S",
    "%a %b %d %Y %H:%M:%S GMT%z",
)  # fmt: skip
_MONTH_FIRST = tuple(f"%m/%d/%Y{clock}" for clock in _CLOCKS)
_DAY_FIRST = tuple(f"%d/%m/%Y{clock}" for clock in _CLOCKS)
_MAX_CHARS = 80


def seconds(value: object) -> float:
    """One time, NaN where it can't be read."""
    return noted_seconds(value, Counter())


def iso_seconds(text: str) -> float:
    """One time as `ISO_8601` has it, NaN where the text is none; unlike others it can be read in one way only."""
    return seconds(text) if _ISO_8601.fullmatch(text) else math.nan


def noted_seconds(value: object, notes: Counter[str], *, is_day_first: bool = False) -> float:
    """One time, NaN where there is none; what was found is added to `notes`."""
    at = _time(value, notes, is_day_first=is_day_first)
    _count(notes, UNREADABLE, int(math.isnan(at) and value is not None and value != ""))
    return at


def json_times(values: Sequence[object], notes: Counter[str]) -> NDArray[np.float64]:
    """Times of parsed JSON values, NaN where None or unreadable; what was found is added to `notes`."""
    kinds = set(map(type, values)) - {type(None)}
    try:
        if kinds <= {int, float}:
            given = np.array([value is not None for value in values], dtype=bool)
            return _scaled(np.array(values, dtype=np.float64), given, notes)
        if kinds == {str}:
            return _text_times(pa.array(values, pa.large_string()), notes)
    except (OverflowError, UnicodeEncodeError):
        pass  # some value is beyond a column's reach: look at each
    return _each(values, notes)


def parquet_times(array: pa.Array, notes: Counter[str]) -> NDArray[np.float64]:
    """Times of an Arrow column, as `json_times` gives them.

    Raises:
        ValueError: when the column is of a type that holds no times.
    """
    kind = array.type
    given = array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_dictionary(kind):
        return parquet_times(array.dictionary_decode(), notes)
    if pa.types.is_null(kind):
        return np.full(len(array), np.nan)
    if pa.types.is_date(kind):
        array, kind = array.cast(pa.timestamp("ms")), pa.timestamp("ms")
    if pa.types.is_timestamp(kind):
        return _within(_seconds(array), given, notes)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text_times(array, notes)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _scaled(_floats(array.cast(pa.float64(), safe=False)), given, notes)
    raise ValueError(f"column at is {kind}, expected a time, seconds since 1970 or an ISO 8601 text")


def _text_times(array: pa.Array, notes: Counter[str]) -> NDArray[np.float64]:
    given = array.is_valid().to_numpy(zero_copy_only=False)
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
        try:
            return _within(_seconds(array.cast(kind)), given, notes)
        except pa.ArrowInvalid:
            continue  # another notation, or a mixture
    return _each(array.to_pylist(), notes)


def _each(values: Sequence[object], notes: Counter[str]) -> NDArray[np.float64]:
    is_day_first = has_day_first(values)
    times = np.array([_time(value, notes, is_day_first=is_day_first) for value in values], dtype=np.float64)
    n_given = len(values) - list(map(type, values)).count(type(None))
    _count(notes, UNREADABLE, n_given - int(np.isfinite(times).sum()))
    return times


def has_day_first(values: Sequence[object]) -> bool:
    """Whether a column's texts such as 31/1/2026 put the day first: some must, and none can't."""
    found = (_SLASHED.match(value.strip()) for value in values if isinstance(value, str) and "/" in value)
    pairs = [(int(place[1]), int(place[2])) for place in found if place]
    return any(first > 12 for first, _ in pairs) and not any(second > 12 for _, second in pairs)


def _time(value: object, notes: Counter[str], *, is_day_first: bool) -> float:
    if isinstance(value, dict) and "$date" in value:  # as MongoDB exports it
        value = value["$date"]
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value, notes, "")
    if isinstance(value, str) and len(value) < _MAX_CHARS:
        return _text(value.strip(), notes, is_day_first=is_day_first)
    return math.nan


def _text(text: str, notes: Counter[str], *, is_day_first: bool) -> float:
    if _NUMBER.fullmatch(text) and not _DAY.fullmatch(text):
        return _number(float(text), notes, " as text")
    text = text.partition(" (")[0]
    text = text[:-4] if text[-4:].upper() in (" UTC", " GMT") else text
    try:
        return _moment(datetime.fromisoformat(text.replace(" +", "+").replace(" Z", "Z")))
    except ValueError:
        return _other_form(text, notes, is_day_first=is_day_first)


def _other_form(text: str, notes: Counter[str], *, is_day_first: bool) -> float:
    for form in (*_FORMS, *(_DAY_FIRST if is_day_first else _MONTH_FIRST)):
        try:
            moment = datetime.strptime(text, form)
        except ValueError:
            continue
        notes[DAY_FIRST if form in _DAY_FIRST else OTHER_FORMS] += 1
        return _moment(moment)
    return math.nan


def _moment(moment: datetime) -> float:
    try:
        found = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return math.nan
    return found if TIMES[0] <= found < TIMES[1] else math.nan


def _number(value: float, notes: Counter[str], written: str) -> float:
    if not 0 <= value < _LIMITS[-1]:
        return math.nan
    unit = bisect_right(_LIMITS, value)
    scaled = value / _SCALES[unit]
    if unit and scaled < _EARLIEST_SCALED:
        return math.nan
    if unit or written:
        notes[f"times in {_UNITS[unit]}{written}"] += 1
    return scaled


def _scaled(numbers: NDArray[np.float64], given: NDArray[np.bool_], notes: Counter[str]) -> NDArray[np.float64]:
    """As `_number` for many."""
    units = np.searchsorted(_LIMITS, numbers, side="right")
    times = numbers / np.array(_SCALES)[units]
    readable = (times >= 0) & ((units == 0) | (times >= _EARLIEST_SCALED))
    for unit, name in enumerate(_UNITS[1:], 1):
        _count(notes, f"times in {name}", int((readable & (units == unit)).sum()))
    _count(notes, UNREADABLE, int((given & ~readable).sum()))
    return np.where(readable, times, np.nan)


def _within(times: NDArray[np.float64], given: NDArray[np.bool_], notes: Counter[str]) -> NDArray[np.float64]:
    inside = (times >= TIMES[0]) & (times < TIMES[1])
    _count(notes, UNREADABLE, int((given & ~inside).sum()))
    return np.where(inside, times, np.nan)


def _count(notes: Counter[str], note: str, n: int) -> None:
    if n:
        notes[note] += n


def _seconds(array: pa.Array) -> NDArray[np.float64]:
    ticks = array.cast(pa.int64())
    if array.type.unit == "ns":
        whole = ticks.fill_null(0).to_numpy() // 1000
        return np.where(array.is_valid().to_numpy(zero_copy_only=False), whole / 1e6, np.nan)
    return _floats(ticks) / _PER_SECOND[array.type.unit]


def _floats(array: pa.Array) -> NDArray[np.float64]:
    """NaN where null."""
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)
