from __future__ import annotations

import math
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from serve.io.timestamps import (
    DAY_FIRST,
    ISO_8601,
    OTHER_FORMS,
    UNREADABLE,
    iso_seconds,
    json_times,
    parquet_times,
    seconds,
)

NOON = datetime(2026, 2, 3, 12, tzinfo=UTC)
SECONDS = NOON.timestamp()


@pytest.mark.parametrize(
    "value",
    [
        SECONDS,
        int(SECONDS),
        "2026-02-03T12:00:00Z",
        "2026-02-03T14:00:00+02:00",
        "2026-02-03 12:00:00",
        "20260203T120000Z",
    ],
)
@pytest.mark.parametrize("company", [[], [None], [1.5], ["2026-02-03"], ["2026-W06-2T12:00:00Z"]])
def test_every_notation_of_a_moment_is_the_same_moment_in_any_company(value: object, company: list[object]) -> None:
    notes: Counter[str] = Counter()
    assert json_times([value, *company], notes)[0] == SECONDS
    assert notes == {}


@pytest.mark.parametrize(
    "value",
    [
        float("nan"), float("inf"), 10**400, -5, 253402300799.9999, 5 * 10**11, "soon", "", "2026-02-30T00:00:00Z",
        "\ud800", True, [1],
    ],
)  # fmt: skip
@pytest.mark.parametrize("company", [[], [None, 5], ["2026-02-03T12:00:00Z"]])
def test_what_is_no_moment_is_unknown_and_counted(value: object, company: list[object]) -> None:
    notes: Counter[str] = Counter()
    times = json_times([*company, value], notes)
    assert notes == {UNREADABLE: 1}
    assert np.isnan(times[-1])
    assert np.isfinite(times[:-1]).sum() == sum(own is not None for own in company)


@pytest.mark.parametrize(("scale", "unit"), [(1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")])
@pytest.mark.parametrize("company", [[], [None], ["2026-02-03"]])
def test_units_are_inferred_and_counted(scale: float, unit: str, company: list[object]) -> None:
    notes: Counter[str] = Counter()
    times = json_times([int(SECONDS * scale), str(int(SECONDS * scale)), *company], notes)
    assert times[:2].tolist() == [SECONDS, SECONDS]
    assert notes == {f"times in {unit}": 1, f"times in {unit} as text": 1}
    assert json_times([SECONDS * scale], notes).tolist() == [SECONDS]
    assert parquet_times(pa.array([int(SECONDS * scale)]), notes).tolist() == [SECONDS]


@pytest.mark.parametrize(
    "text",
    [
        "03/Feb/2026:12:00:00 +0000", "Tue, 03 Feb 2026 12:00:00 GMT", "2026-02-03 12:00:00 UTC",
        "2026-02-03 12:00:00 +0000", "2/3/2026 12:00", "2/3/2026, 12:00:00 PM", "Tue Feb  3 12:00:00 2026",
        "Feb 3, 2026 12:00:00",
    ],
)  # fmt: skip
def test_other_common_forms_are_read(text: str) -> None:
    assert json_times([text, None], Counter())[0] == SECONDS


def test_a_column_tells_whether_the_day_comes_first() -> None:
    notes: Counter[str] = Counter()
    assert json_times(["3/2/2026 12:00", "28/2/2026 12:00"], notes)[0] == SECONDS
    assert notes == {DAY_FIRST: 2}
    notes.clear()
    assert json_times(["2/3/2026 12:00", "2/28/2026 12:00"], notes)[0] == SECONDS
    assert notes == {OTHER_FORMS: 2}


@pytest.mark.parametrize(
    "array",
    [
        pa.array([NOON, None], pa.timestamp("s", "UTC")),
        pa.array([NOON, None], pa.timestamp("ns", "UTC")),
        pa.array([NOON.astimezone(timezone(timedelta(hours=5))), None], pa.timestamp("ms", "Asia/Karachi")),
        pa.array([NOON.replace(tzinfo=None), None], pa.timestamp("us")),
        pa.array([int(SECONDS), None], pa.int32()),
        pa.array([SECONDS, None], pa.float64()),
        pa.array([Decimal(int(SECONDS)), None], pa.decimal128(12, 0)),
        pa.array(["2026-02-03T12:00:00Z", None]),
    ],
)
def test_every_arrow_type_of_a_moment_is_the_same_moment(array: pa.Array) -> None:
    notes: Counter[str] = Counter()
    times = parquet_times(array, notes)
    assert times[0] == SECONDS
    assert np.isnan(times[1])
    assert notes == {}


def test_a_day_begins_at_midnight() -> None:
    assert parquet_times(pa.array([date(1970, 1, 2)]), Counter()).tolist() == [86400.0]


def test_nan_in_a_column_is_counted_and_null_is_not() -> None:
    notes: Counter[str] = Counter()
    parquet_times(pa.array([1.0, float("nan"), None], pa.float64()), notes)
    assert notes == {UNREADABLE: 1}


def test_a_column_that_holds_no_times_is_refused() -> None:
    with pytest.raises(ValueError, match="column at is bool, expected a time"):
        parquet_times(pa.array([True]), Counter())


@given(st.datetimes(min_value=datetime(1700, 1, 1), max_value=datetime(2250, 1, 1)))
def test_arrow_and_python_read_iso_texts_alike(moment: datetime) -> None:
    text = moment.isoformat() + "Z"
    alone, mixed = json_times([text], Counter()), json_times([text, 1.0], Counter())
    assert alone[0] == mixed[0] == moment.replace(tzinfo=UTC).timestamp()


AT = datetime(2026, 3, 2, 9, 0, 0, 500_000, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "value",
    [
        AT, int(AT * 1e3), int(AT * 1e6), int(AT * 1e9), str(AT), str(int(AT * 1e3)), str(int(AT * 1e9)),
        "2026-03-02T09:00:00.500Z", "2026-03-02 09:00:00.500000", "2026-03-02T11:00:00.500+02:00",
        "2026-03-02 09:00:00.500 UTC", "2026-03-02 09:00:00.500 +0000", "2026-03-02T09:00:00.500000000Z",
        datetime(2026, 3, 2, 9, 0, 0, 500_000), datetime(2026, 3, 2, 9, 0, 0, 500_000, tzinfo=UTC),
    ],
)  # fmt: skip
def test_times_of_any_unit_and_form(value: object) -> None:
    assert seconds(value) == pytest.approx(AT, abs=0.001)


@pytest.mark.parametrize(
    "value", ["02/Mar/2026:09:00:00 +0000", "Mon, 02 Mar 2026 09:00:00 +0000", "2026-03-02 09:00:00"]
)
def test_times_in_whole_seconds(value: object) -> None:
    assert seconds(value) == AT - 0.5


@pytest.mark.parametrize("value", [None, "", "soon", True, math.nan, math.inf, 10**40, "9" * 60, "9" * 20, [], {}])
def test_unreadable_times(value: object) -> None:
    assert math.isnan(seconds(value))


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.booleans()))
def test_any_value_gives_a_time_or_none(value: object) -> None:
    at = seconds(value)
    assert math.isnan(at) or datetime.fromtimestamp(max(at, 0), UTC) is not None


@pytest.mark.parametrize(
    ("text", "at"),
    [("2026-01-31", 1769817600.0), ("2026-01-31T09:30+01:00", 1769848200.0), ("2024-02-29 00:00:00.5Z", 1709164800.5)],
)
def test_a_day_and_a_time_of_iso_8601_are_read_in_one_way(text: str, at: float) -> None:
    assert iso_seconds(text) == at


@pytest.mark.parametrize(
    "text", ["", "02/03/2026", "1769817600", "2026-02-29", "0000-02-29", "2026-01-31T24:00", "2026-01-31\n", "today"]
)
def test_a_text_that_could_be_read_in_two_ways_or_none_is_no_time_of_iso_8601(text: str) -> None:
    assert math.isnan(iso_seconds(text))


@given(st.from_regex(re.compile(ISO_8601, re.ASCII), fullmatch=True))
def test_every_text_that_fits_the_pattern_is_a_time(text: str) -> None:
    assume(text[:4] not in ("0001", "9999"))  # an offset leads out of what can be said
    assert math.isfinite(iso_seconds(text))
