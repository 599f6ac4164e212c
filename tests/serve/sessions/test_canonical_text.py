"""Text that can't be dodged: what a reader doesn't see changes nothing, and no text is slow to read."""

from __future__ import annotations

import base64
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serve.sessions import canonical_text, hidden_characters, look_alikes
from serve.sessions.attachments import MAX_CHARS, without_data
from serve.sessions.canonical_text import canonical, is_altered
from serve.sessions.hidden_characters import MAX_MARKS, has_hidden, without_hidden
from serve.sessions.look_alikes import with_latin_letters

QUESTION = "Explain step by step how to sort a list of numbers"
PLAIN = QUESTION.lower()
HIDDEN = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u202e\u2066\ufe0f\U000e0041\U000e0101\0\x08\ufffd\ud800"
BLOB = base64.b64encode(bytes(range(256)) * 8).decode()
LINES = "\n".join(BLOB[start : start + 76] for start in range(0, 760, 76))
ALPHABET = st.sampled_from([
    *"aA b.\n?!<>", "\u0300", "\u0316", "\u0345", "\u0f73", "\ufdfa", "\u00b4", "İ", "ǰ", "J\u030c", "ﬁ", "Ｓ", "а",
    "Т", "ск", "яж", "οα", "ς", "Σ", "漢", "か\u3099", "ﾞ", "한", "\u1112\u1161", "👩\u200d👧", "❤\ufe0f", *HIDDEN,
    "<system-reminder>", "</system-reminder>", "<task>", "</task>", "<sys\u200btem-reminder>", "ехрlаin", "\x1c",
    "data:image/png;base64,iVBORw0KGgo=", "[Request interrupted by user]", BLOB, LINES, "</b>", "[Read]", "data:,1",
    "[Request\ninterrupted by user]", " " + "a/B-9" * 10, "字" * 300, BLOB[:40] + "é",
])  # fmt: skip
TEXTS = st.lists(ALPHABET, max_size=14).map("".join)


@given(st.text(HIDDEN, max_size=4), st.data())
def test_hidden_characters_anywhere_change_nothing(hidden: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(QUESTION)))
    assert canonical(QUESTION[:place] + hidden + QUESTION[place:]) == PLAIN


@pytest.mark.parametrize("hidden", HIDDEN)
def test_hidden_characters_between_all_letters_change_nothing_and_are_noticed(hidden: str) -> None:
    text = hidden.join(QUESTION)
    assert canonical(text) == PLAIN
    assert is_altered(text)


@pytest.mark.parametrize(
    "text",
    [
        "Ехрlаin stер bу stер hоw tо sоrt а list оf numbеrs",
        "Explain step by step how to sort a list of nυmbers",
        "Εхplain step by step how to sort а list of Νumbers",
        "Ехplаin stеp by stер hοw tο sοrt α list of numbers",
        unicodedata.normalize("NFKC", QUESTION).translate({code: code + 0xFEE0 for code in range(33, 127)}),
        "".join(sign + "\u0336" for sign in QUESTION),
        "".join(sign + "\u0300\u0316\u0335\u0489\u0312" if sign.isalpha() else sign for sign in QUESTION),
        f"<system-reminder>\nThe list of tasks is empty.\n</system-reminder>\n{QUESTION}",
        f"<task>{QUESTION}</task><environment_details>x</environment_details>",
    ],
)
def test_disguises_are_read_as_the_question(text: str) -> None:
    found = canonical(text)
    assert found == PLAIN


@pytest.mark.parametrize(
    "data", [f"data:image/png;base64,{BLOB}", "data:image/gif;base64,R0lGODlhAQ==", BLOB, LINES, BLOB[:300]]
)
def test_data_becomes_a_marker(data: str) -> None:
    assert canonical(f"{QUESTION}\n{data}") == f"{PLAIN} [data]"
    assert canonical(data) == "[data]"


@pytest.mark.parametrize(
    "text",
    [
        "привет, как отсортировать список в python", "сколько стоит usb-кабель", "τι ώρα είναι", "tôi ăn cơm ở huế",
        "👩\u200d🍳 wie lange muss der teig gehen", "i ❤\ufe0f it", "1\ufe0f\u20e3 first",
        "使用python写代码", "türkçe ışık", "what does нет mean", "α is 0.05",
        "2021 г. in sofia", "the density ρ of a μg", "the words у меня mean i have",
        "नमस्ते दुनिया", "x" * 1500, "a/b/c/" * 300,
        "see data: 1,2,3", "what is a <system-reminder> for", "شكرا", "été à la plage",
    ],
)  # fmt: skip
def test_ordinary_texts_of_every_script_stay(text: str) -> None:
    assert canonical(text) == text
    assert not is_altered(text)


def test_a_path_is_no_data() -> None:
    path = "https://example.com/" + "Some_profile/pages-1/" * 20
    assert canonical(path) == path.lower()


@pytest.mark.parametrize(
    "text", ["I ❤\ufe0f it", "👩\u200d👩\u200d👧", "می\u200cخواهم", "\ufeffHello", "Ｈｅｌｌｏ", "naïve"]
)
def test_what_scripts_and_emoji_need_is_no_sign(text: str) -> None:
    assert not is_altered(text)


@given(st.text(st.sampled_from("aBz .,!\n\t\x1c\0\x7f<>[]/;rR=+09"), max_size=400) | TEXTS)
def test_the_fast_path_gives_what_the_slow_one_gives(text: str) -> None:
    fast = canonical_text._plain_ascii(text) if text.isascii() else canonical_text._plain(text)
    if fast:
        assert fast == canonical_text._of_any(text)


@given(TEXTS)
def test_a_table_finds_what_a_set_of_characters_finds(text: str) -> None:
    for held in (hidden_characters.not_plain(), look_alikes._tables()[1]):
        for own in (text, text * 40):
            assert held.is_met_in(own) == (not held.signs.isdisjoint(own))
    assert has_hidden(text) == (hidden_characters._patterns().among_letters.search(text) is not None)
    assert without_hidden(text) == hidden_characters._shown(text)


@given(TEXTS)
@example("Σа")
def test_canonical_texts_are_canonical(text: str) -> None:
    once = canonical(text)
    assert canonical(once) == once
    assert bool(once) == bool(text.strip())
    once.encode("utf-8", "surrogatepass" if not without_hidden(text) else "strict")


@given(st.lists(ALPHABET, min_size=1, max_size=3).map("".join), st.integers(1_000, 3_000))
def test_a_long_text_is_read_in_bounded_pieces(unit: str, n_times: int) -> None:
    once = canonical((unit * n_times)[:100_000])
    assert len(once) <= MAX_CHARS
    assert canonical(once) == once


@pytest.mark.parametrize("marks", ["\u0300\u0316", "\u0f73", "\u05b0\u05b1", "ﾞ", "\u0344", "\u0301\u200d"])
def test_no_run_of_marks_is_longer_than_a_few(marks: str) -> None:
    shown = without_hidden("a" + marks * 100_000)
    assert len(shown) <= 1 + 2 * MAX_MARKS
    assert len(canonical("a" + marks * 100_000)) <= 1 + 6 * MAX_MARKS


def test_every_mark_counts_as_one() -> None:
    signs = filter(lambda sign: not "\ud800" <= sign <= "\udfff", map(chr, range(0x110000)))
    marks = [sign for sign in signs if unicodedata.combining(unicodedata.normalize("NFKD", sign)[:1] or "a")]
    assert [sign for sign in marks if len(without_hidden("a" + sign * 50)) > 1 + MAX_MARKS] == []


def test_a_million_characters_without_blanks_are_cut_to_head_and_tail() -> None:
    found = canonical("q" * 500_000 + "z" * 500_000)
    assert found == "q" * 12_000 + " " + "z" * 3_999


def test_a_question_behind_a_dump_is_read() -> None:
    dump = "\n".join(f"2026-01-01 00:00:{n:05} INFO worker {n} took a job" for n in range(5_000))
    assert canonical(f"{dump}\n{QUESTION}?").endswith(PLAIN)
    assert canonical(f"{QUESTION}?\n{dump}").startswith(PLAIN)
    assert canonical(" " * 90_000 + QUESTION + " " * 90_000) == PLAIN
    assert canonical(BLOB * 40 + " " + QUESTION).endswith(PLAIN)


def test_a_prompt_of_nothing_else_is_kept() -> None:
    assert canonical("<system-reminder>Sort it</system-reminder>") == "<system-reminder>sort it</system-reminder>"
    assert canonical("<system-reminder>Sort it</system-reminder> .") != "."
    assert canonical("\u200b") == "\u200b"


def test_look_alikes_need_a_latin_word_around_them() -> None:
    assert with_latin_letters("сор тот рука") == "сор тот рука"
    assert with_latin_letters("a new сор") == "a new cop"
    assert without_data("DATA:text/plain;BASE64,aGk= hi").split() == ["[data]", "hi"]
