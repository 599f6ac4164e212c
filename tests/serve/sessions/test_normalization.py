"""What a sender changes for free changes nothing; what is asked stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serve.sessions.canonical_text import canonical
from serve.sessions.normalization import N_OPENING, Wrapper, altered_counts, canonical_sessions, form, wrapper
from serve.sessions.records import Exchange, Session, Sessions, text_fault

ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
QUESTIONS = ("sort a list", "bake a cake", "is it raining", "find my bug", "thicken a soup", "fix that loop")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Sort\n\n a\tLIST?! ", "sort a list"),
        ("sort a list.", "sort a list"),
        ("Ｓｏｒｔ ａ ｌｉｓｔ。", "sort a list"),
        ("ﬁx the ﬂow", "fix the flow"),
        ("what is 3.5 + 2?", "what is 3.5 + 2"),
        ("C'est fini…", "c'est fini"),
        ("ÉTÉ", "été"),
        ("?!", "?!"),
        ("...", "..."),
    ],
)
def test_canonical_texts_by_hand(text: str, expected: str) -> None:
    assert canonical(text) == expected


@given(ASCII)
def test_casing_breaks_and_final_punctuation_never_matter(text: str) -> None:
    plain = canonical(text)
    assert canonical(text.upper()) == plain
    assert canonical(text.replace(" ", "\n ")) == plain
    assert canonical(plain) == plain
    if plain and plain[-1].isalnum():
        assert canonical(plain + " ?!") == plain


@given(st.text(max_size=12))
@example("\u200b")
@example("a\u0345")
@example(". 。")
def test_a_usable_text_never_becomes_empty(text: str) -> None:
    if text_fault(text) is None:
        assert canonical(text).strip()


def wrapped(head: str, tail: str = "", questions: tuple[str, ...] = QUESTIONS) -> tuple[str, ...]:
    return canonical_sessions([f"{head}{question}{tail}" for question in questions], np.array([0, len(questions)]))


@pytest.mark.parametrize("head", ["Question: ", "[INST] ", "You are a helpful assistant. ", "### Instruction:\n"])
@pytest.mark.parametrize("tail", ["", "\n\nAnswer in one word.", " [/INST]"])
def test_a_fixed_wrapper_is_seen_through(head: str, tail: str) -> None:
    assert wrapped(head, tail) == QUESTIONS


def test_without_a_wrapper_nothing_is_cut() -> None:
    assert wrapped("") == QUESTIONS
    assert wrapper(QUESTIONS) == Wrapper()


def test_three_of_four_openings_make_a_wrapper_and_two_do_not() -> None:
    three = ("q: sort a list", "q: bake a cake", "is it raining", "q: find my bug")
    assert wrapper(three).head == "q: "
    assert canonical_sessions(three, np.array([0, 4])) == ("sort a list", "bake a cake", "is it raining", "find my bug")
    assert wrapper((*three[:2], "is it raining", "find my bug")).head == ""


def test_only_the_opening_decides() -> None:
    assert wrapper([f"q: {question}" for question in QUESTIONS[:4]] + ["something else"] * 9).head == "q: "
    assert wrapper([*QUESTIONS[:4], *["q: sort a list", "q: bake a cake"] * 9]) == Wrapper()


def test_too_few_exchanges_show_no_wrapper() -> None:
    assert wrapped("q: ", questions=QUESTIONS[: N_OPENING - 1]) == tuple(f"q: {text}" for text in QUESTIONS[:3])


def test_a_long_shared_template_is_a_task_and_stays() -> None:
    template = " ".join(f"word{index}" for index in range(17)) + " "
    assert wrapped(template)[0] == f"{template}sort a list"
    assert wrapped(template[len("word0 ") :]) == QUESTIONS


def test_a_prompt_that_is_only_the_wrapper_is_kept_whole() -> None:
    wrapped_twice, head_only = Wrapper("q: ", " please"), Wrapper("q: ")
    assert wrapped_twice.strip("q: please") == "please"  # noqa: B005
    assert head_only.strip("q: ") == "q: "


def test_repeating_one_prompt_leaves_at_least_a_word_of_it() -> None:
    texts = canonical_sessions(["tell me a joke"] * 6, np.array([0, 6]))
    assert len(set(texts)) == 1
    assert texts[0].strip()


@given(
    st.lists(
        st.sampled_from([*QUESTIONS, "q: sort a list", "q: bake a cake", "q: find my bug"]), min_size=4, max_size=12
    )
)
def test_a_growing_session_never_changes_what_earlier_exchanges_were_read_as(prompts: list[str]) -> None:
    whole = canonical_sessions(prompts, np.array([0, len(prompts)]))
    for n in range(N_OPENING, len(prompts)):
        assert canonical_sessions(prompts[:n], np.array([0, n])) == whole[:n]


@given(
    st.lists(
        st.lists(st.sampled_from([*QUESTIONS, "q: sort a list", "q: find my bug"]), min_size=1, max_size=7), max_size=5
    )
)
def test_each_session_has_a_wrapper_of_its_own(sessions: list[list[str]]) -> None:
    offsets = np.cumsum([0, *map(len, sessions)])
    together = canonical_sessions([prompt for own in sessions for prompt in own], offsets)
    apart = [text for own in sessions for text in canonical_sessions(own, np.array([0, len(own)]))]
    assert list(together) == apart


def test_form_counts_words_and_its_keys_are_equal_for_equal_openings_and_texts() -> None:
    found = form(("write 3 poems about rain", "write 12 poems on snow", "write 3 poems about rain", "stop"))
    assert found.n_words.tolist() == [5, 5, 5, 1]
    assert found.opening[0] == found.opening[1] == found.opening[2] != found.opening[3]
    assert found.text[0] == found.text[2] != found.text[1]


def test_altered_prompts_are_counted_by_session() -> None:
    prompts = ["plain", "nul\0", "z\u200bero", "Füße, naïve Ｓ 漢字 Привет", "\ufeffhow?"], ["so\u0336\u0336rt"], ["ok"]
    sessions = [Session(f"s{n}", "a", tuple(map(Exchange, own))) for n, own in enumerate(prompts)]
    assert altered_counts(Sessions.of(sessions)).tolist() == [2, 1, 0]
    assert altered_counts(Sessions.of([])).tolist() == []
