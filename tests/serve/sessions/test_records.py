"""The door: what may be an exchange and a session, and sessions as columns."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.sessions.prompt_text import MAX_PROMPT_CHARS
from serve.sessions.records import Exchange, Session, Sessions, text_fault

SIZES = st.lists(st.integers(1, 9), max_size=12)


def sessions_of(sizes: list[int]) -> tuple[Session, ...]:
    return tuple(
        Session(f"s{index}", f"a{index}", tuple(Exchange(f"{index}.{turn}", at=float(turn)) for turn in range(n)))
        for index, n in enumerate(sizes)
    )


@pytest.mark.parametrize(
    ("prompt", "fault"),
    [
        ("", "prompt is blank"),
        (" \n\t  ", "prompt is blank"),
    ],
)
def test_an_unusable_prompt_is_refused_without_being_quoted(prompt: str, fault: str) -> None:
    with pytest.raises(ValueError, match=f"^{fault}$"):
        Exchange(prompt)


@pytest.mark.parametrize(
    "prompt", ["?", "x" * MAX_PROMPT_CHARS, "שלום", "नमस्ते", "👩‍👩‍👧 🇳🇴", "a\u200b", "\ufeffa", "a\x01b"]
)
def test_every_script_and_the_longest_prompt_are_taken(prompt: str) -> None:
    assert text_fault(prompt) is None
    assert Exchange(prompt).prompt == prompt


@pytest.mark.parametrize(
    ("prompt", "stored"),
    [("a\0b", "a\ufffdb"), ("\0", "\ufffd"), ("half \ud83d of a pair", "half \ufffd of a pair"), ("é\0", "é\ufffd")],
)
def test_what_no_text_holds_is_replaced_and_taken(prompt: str, stored: str) -> None:
    assert Exchange(prompt).prompt == stored


def test_a_prompt_over_the_limit_is_taken_with_its_ends() -> None:
    prompt = Exchange("first " + "x" * MAX_PROMPT_CHARS + " last").prompt
    assert len(prompt) <= MAX_PROMPT_CHARS
    assert prompt.startswith("first")
    assert prompt.endswith("last")


@pytest.mark.parametrize("prompt", [None, 5, b"bytes", ["a"]])
def test_a_prompt_that_is_no_text_is_refused_with_its_type(prompt: object) -> None:
    with pytest.raises(ValueError, match=f"prompt is of type {type(prompt).__name__}, expected str"):
        Exchange(prompt)


@pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf, "2026-01-01", 10**400, 1.8e12, -7e10])
def test_what_is_no_time_of_this_calendar_is_refused(at: object) -> None:
    with pytest.raises(ValueError, match=r"^at is not a number of seconds between the years 1 and 9999$"):
        Exchange("a", at=at)


@pytest.mark.parametrize("at", [0, -1.5, 1_767_225_600])
def test_whole_negative_and_fractional_seconds_are_times(at: float) -> None:
    assert Sessions.of([Session("s", "a", (Exchange("p", at=at),))]).at.tolist() == [float(at)]


@pytest.mark.parametrize("field", ["session_id", "account_id"])
@pytest.mark.parametrize("value", ["", None, 7])
def test_an_id_that_is_no_text_is_refused_by_name(field: str, value: object) -> None:
    ids = {"session_id": "s", "account_id": "a", field: value}
    with pytest.raises(ValueError, match=f"^{field} is {type(value).__name__}, expected a text"):
        Session(**ids, exchanges=(Exchange("p"),))


@pytest.mark.parametrize("field", ["session_id", "account_id"])
def test_an_id_that_has_no_utf8_is_refused_by_name(field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} holds a lone surrogate$"):
        Session(**{"session_id": "sé", "account_id": "a", field: "\ud800"}, exchanges=(Exchange("p"),))


def test_a_session_without_exchanges_is_refused() -> None:
    with pytest.raises(ValueError, match="session has 0 exchanges, expected at least 1"):
        Session("s", "a", ())


@given(SIZES)
def test_columns_keep_every_exchange_in_its_session(sizes: list[int]) -> None:
    columns = Sessions.of(sessions_of(sizes))
    assert len(columns) == len(sizes)
    assert columns.n_exchanges.tolist() == sizes
    for index, n in enumerate(sizes):
        own = slice(columns.offsets[index], columns.offsets[index + 1])
        assert columns.prompts[own] == tuple(f"{index}.{turn}" for turn in range(n))
        assert columns.at[own].tolist() == list(range(n))


def test_an_unknown_time_is_nan_in_columns() -> None:
    columns = Sessions.of([Session("s", "a", (Exchange("p"), Exchange("q", at=3)))])
    assert np.isnan(columns.at).tolist() == [True, False]


@given(SIZES, st.integers(1, 20))
def test_chunks_cut_no_session_lose_none_and_stay_small(sizes: list[int], n_prompts: int) -> None:
    columns = Sessions.of(sessions_of(sizes))
    parts = list(columns.chunks(n_prompts))
    assert [name for part in parts for name in part.session_ids] == list(columns.session_ids)
    assert [prompt for part in parts for prompt in part.prompts] == list(columns.prompts)
    assert all(part.offsets[0] == 0 and part.offsets[-1] == len(part.prompts) == len(part.at) for part in parts)
    assert all(len(part.prompts) <= n_prompts or len(part) == 1 for part in parts)
    for part, after in itertools.pairwise(parts):
        assert len(part.prompts) + int(after.n_exchanges[0]) > n_prompts
