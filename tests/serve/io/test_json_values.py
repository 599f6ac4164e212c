from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.io.json_values import NOT_JSON, REPEATED, RepeatedKeyError, json_fault, parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
)


@given(VALUES)
def test_json_is_read_as_it_is(value: object) -> None:
    assert parse_json(json.dumps(value)) == value


def test_long_integers_are_no_matter() -> None:
    assert parse_json('{"a": ' + "9" * 5000 + "}") == {"a": math.inf}


def test_deep_nesting_is_null() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    assert parse_json('{"a": "x[[", "z": ' + deep + ', "b": "\\"]"}')["b"] == '"]'
    with pytest.raises(ValueError, match="Expecting"):
        parse_json("[" * 200_000)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '[{"b": {"a": 1, "\\u0061": 2}}]'])
def test_a_key_that_comes_twice_is_refused(text: str) -> None:
    with pytest.raises(RepeatedKeyError, match=REPEATED):
        parse_json(text)


def test_faults_say_why_and_quote_nothing() -> None:
    assert json_fault(RepeatedKeyError(REPEATED)) == REPEATED
    assert json_fault(ValueError("secret")) == NOT_JSON


@pytest.mark.parametrize("end", ["", "\\"])
def test_a_string_that_never_ends_is_read_once(end: str) -> None:
    """The attack: deep brackets, then escaped quotes; from each quote the rest of the text was read again."""
    began_at = time.process_time()
    with pytest.raises(ValueError, match="Expecting value"):
        parse_json("[" * 3_000 + '"' + '\\"' * 1_000_000 + end)
    assert time.process_time() - began_at < 10
