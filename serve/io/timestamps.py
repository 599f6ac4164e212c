"""Timestamps: when an exchange was sent, from ISO 8601 texts, epoch seconds or Arrow times, in seconds since 1970."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.sessions.records import TIMES

NOT_ISO = "at is a text but not an ISO 8601 time"
OUT_OF_RANGE = "at is not a number of seconds between the years 1 and 9999"
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6}


def json_times(values: Sequence[object], faults: dict[int, str]) -> NDArray[np.float64]:
    """Times of parsed JSON values, NaN where None or faulty; a time without an offset is UTC.

    The reason of each faulty row is added to `faults`, unless it has one.
    """
    kinds = set(map(type, values)) - {type(None)}
    try:
        if kinds <= {int, float}:
            return _within(np.array(values, dtype=np.float64), [value is not None for value in values], faults)
        if kinds == {str}:
            return _text_times(pa.array(values, pa.large_string()), faults)
    except (OverflowError, UnicodeEncodeError):
        pass  # some value is beyond a column's reach: look at each
    return _each(values, faults)


def parquet_times(array: pa.Array, faults: dict[int, str]) -> NDArray[np.float64]:
    """Times of an Arrow column, as `json_times` gives them.

    Raises:
        ValueError: when the column is of a type that holds no times.
    """
    kind = array.type
    given = array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_date(kind):
        array, kind = array.cast(pa.timestamp("ms")), pa.timestamp("ms")
    if pa.types.is_timestamp(kind):
        return _within(_seconds(array), given, faults)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text_times(array, faults)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _within(_floats(array.cast(pa.float64(), safe=False)), given, faults)
    raise ValueError(f"column at is {kind}, expected a time, seconds since 1970 or an ISO 8601 text")


def _text_times(array: pa.Array, faults: dict[int, str]) -> NDArray[np.float64]:
    given = array.is_valid().to_numpy(zero_copy_only=False)
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
        try:
            return _within(_seconds(array.cast(kind)), given, faults)
        except pa.ArrowInvalid:
            continue  # another notation, or a mixture
    return _each(array.to_pylist(), faults)


def _each(values: Sequence[object], faults: dict[int, str]) -> NDArray[np.float64]:
    times = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        try:
            times[row] = _time(value)
        except ValueError as fault:
            faults.setdefault(row, str(fault))
    return times


def _time(value: object) -> float:
    if value is None:
        return math.nan
    if isinstance(value, str):
        return _iso_time(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if TIMES[0] <= value < TIMES[1]:
            return float(value)
        raise ValueError(OUT_OF_RANGE)
    raise ValueError(f"at is of type {type(value).__name__}, expected a text or a number")


def _iso_time(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(NOT_ISO) from None


def _within(
    times: NDArray[np.float64], given: Sequence[bool] | NDArray[np.bool_], faults: dict[int, str]
) -> NDArray[np.float64]:
    inside = (times >= TIMES[0]) & (times < TIMES[1])
    for row in np.flatnonzero(~inside & np.asarray(given, dtype=bool)).tolist():
        faults.setdefault(row, OUT_OF_RANGE)
    return np.where(inside, times, np.nan)


def _seconds(array: pa.Array) -> NDArray[np.float64]:
    ticks = array.cast(pa.int64())
    if array.type.unit == "ns":
        whole = ticks.fill_null(0).to_numpy() // 1000
        return np.where(array.is_valid().to_numpy(zero_copy_only=False), whole / 1e6, np.nan)
    return _floats(ticks) / _PER_SECOND[array.type.unit]


def _floats(array: pa.Array) -> NDArray[np.float64]:
    """NaN where null."""
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)
