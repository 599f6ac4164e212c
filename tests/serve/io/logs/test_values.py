from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.io.logs.values import as_object, encodable, first_time, parse_json, seconds, text_id

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
def test_times_of_any_unit_and_form(value):
    assert seconds(value) == pytest.approx(AT, abs=0.001)


@pytest.mark.parametrize(
    "value", ["02/Mar/2026:09:00:00 +0000", "Mon, 02 Mar 2026 09:00:00 +0000", "2026-03-02 09:00:00"]
)
def test_times_in_whole_seconds(value):
    assert seconds(value) == AT - 0.5


@pytest.mark.parametrize("value", [None, "", "soon", True, math.nan, math.inf, 10**40, "9" * 60, "9" * 20, [], {}])
def test_unreadable_times(value):
    assert math.isnan(seconds(value))


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.booleans()))
def test_any_value_gives_a_time_or_none(value):
    at = seconds(value)
    assert math.isnan(at) or datetime.fromtimestamp(max(at, 0), UTC) is not None


def test_first_readable_time():
    assert first_time({"a": "x", "b": 5, "c": 6}, "a", "b", "c") == 5.0
    assert math.isnan(first_time({}, "a"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, "7"), (7.0, "7"), (" a/b ", "a/b"), ("", None), ("  ", None), (None, None), (True, None), ([], None),
        ("zoë", "zoë"), ("zoe\u0308", "zoë"), (10**80, None), (7.5, None),
    ],
)  # fmt: skip
def test_ids(value, expected):
    assert text_id(value) == expected


@given(st.text(st.characters()))
def test_every_text_becomes_encodable(text):
    encodable(text).encode()


def test_json_of_any_size():
    assert parse_json('{"a": ' + "9" * 5000 + "}") == {"a": math.inf}
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 200_000)


def test_objects_written_as_text():
    assert as_object('{"a": 1}') == as_object({"a": 1}) == {"a": 1}
    assert as_object('{"a": ') == as_object("x") == as_object(None) == as_object([1]) == {}
