from __future__ import annotations

import math

import pytest

from serve.io.logs.values import as_object, first_time, text_id


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


def test_objects_written_as_text():
    assert as_object('{"a": 1}') == as_object({"a": 1}) == {"a": 1}
    assert as_object('{"a": ') == as_object("x") == as_object(None) == as_object([1]) == {}
