from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.io.timestamps import NOT_ISO, OUT_OF_RANGE, json_times, parquet_times

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
    faults: dict[int, str] = {}
    assert json_times([value, *company], faults)[0] == SECONDS
    assert faults == {}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), OUT_OF_RANGE),
        (float("inf"), OUT_OF_RANGE),
        (10**400, OUT_OF_RANGE),
        (SECONDS * 1000, OUT_OF_RANGE),
        ("soon", NOT_ISO),
        ("", NOT_ISO),
        ("2026-02-30T00:00:00Z", NOT_ISO),
        ("\ud800", NOT_ISO),
        (True, "at is of type bool, expected a text or a number"),
        ([1], "at is of type list, expected a text or a number"),
    ],
)
@pytest.mark.parametrize("company", [[], [None, 5], ["2026-02-03T12:00:00Z"]])
def test_what_is_no_moment_is_a_fault_of_its_row_only(value: object, reason: str, company: list[object]) -> None:
    faults: dict[int, str] = {}
    times = json_times([*company, value], faults)
    assert faults == {len(company): reason}
    assert np.isnan(times[-1])


def test_a_first_fault_stands() -> None:
    faults = {0: "prompt is missing"}
    json_times(["soon"], faults)
    assert faults == {0: "prompt is missing"}


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
    faults: dict[int, str] = {}
    times = parquet_times(array, faults)
    assert times[0] == SECONDS
    assert np.isnan(times[1])
    assert faults == {}


def test_a_day_begins_at_midnight() -> None:
    assert parquet_times(pa.array([date(1970, 1, 2)]), {}).tolist() == [86400.0]


def test_nan_in_a_column_is_a_fault_and_null_is_not() -> None:
    faults: dict[int, str] = {}
    parquet_times(pa.array([1.0, float("nan"), None], pa.float64()), faults)
    assert faults == {1: OUT_OF_RANGE}


def test_a_column_that_holds_no_times_is_refused() -> None:
    with pytest.raises(ValueError, match="column at is bool, expected a time"):
        parquet_times(pa.array([True]), {})


@given(st.datetimes(min_value=datetime(1700, 1, 1), max_value=datetime(2250, 1, 1)))
def test_arrow_and_python_read_iso_texts_alike(moment: datetime) -> None:
    text = moment.isoformat() + "Z"
    alone, mixed = json_times([text], {}), json_times([text, 1.0], {})
    assert alone[0] == mixed[0] == moment.replace(tzinfo=UTC).timestamp()
