"""A prompt is stored whatever was sent, and read as what was sent."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.sessions import prompt_text as module
from serve.sessions.attachments import MAX_CHARS
from serve.sessions.canonical_text import canonical
from serve.sessions.prompt_text import MAX_PROMPT_CHARS, MAX_READ_CHARS, both_ends, prompt_text, storable

BLOB = "QUJD" * 40_000


@given(st.text(st.characters()))
def test_every_text_becomes_storable_and_is_read_the_same(text: str) -> None:
    stored = storable(text)
    stored.encode()
    assert "\0" not in stored
    assert len(stored) == len(text)
    assert storable(stored) == stored
    if text.strip() and canonical(stored) != stored:  # of nothing but hidden characters all is kept
        assert canonical(stored) == canonical(text)


def test_a_text_that_can_be_stored_is_the_same_object() -> None:
    assert prompt_text(text := "Grüß dich 🙂") is text


@pytest.mark.parametrize(
    "text",
    [
        "why? " * 40_000,
        f"data:image/png;base64,{BLOB} What is in the picture?",
        f"What is in the picture? data:image/png;base64,{BLOB}",
        f"data:image/png;base64,{BLOB} What is in the picture? {BLOB}",
        f"<system-reminder>{'be brief ' * 20_000}</system-reminder>How do I sort a list?",
        " " * 300_000 + "How do I sort a list?",
        f"What is in the picture? data:image/png;base64,{BLOB * 20} And why?",
        f"<system-reminder>{'be brief ' * 300_000}</system-reminder>How do I sort a list?",
        " " * 3_000_000 + "How do I sort a list?",
    ],
)
def test_a_long_text_is_cut_and_read_the_same(text: str) -> None:
    stored = prompt_text(text)
    assert len(stored) <= MAX_PROMPT_CHARS < len(text)
    assert canonical(stored) == canonical(text)


@given(st.text(st.sampled_from("ab \n\u200bé<>"), max_size=60), st.integers(1, 4))
def test_a_cut_text_is_read_from_both_ends(text: str, times: int) -> None:
    with mock.patch.object(module, "MAX_PROMPT_CHARS", 50):
        assert len(prompt_text(text * times)) <= max(50, MAX_CHARS * (len(text * times) <= 50))


def test_of_a_text_of_millions_both_ends_are_looked_at() -> None:
    words = " ".join(f"w{place}" for place in range(500_000))
    assert both_ends(words) == words[:500_000] + words[-500_000:]
    assert both_ends(words[:MAX_READ_CHARS]) == words[:MAX_READ_CHARS]
    assert prompt_text(words).split()[:9] == words.split()[:9]
    assert prompt_text(words).split()[-9:] == words.split()[-9:]
