"""Wrappers go, the person's words stay, and the time is linear whatever the text is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.sessions.wrappers import DROPPED, OPENED, strip_wrappers

TAGS = [f"<{slash}{name}>" for name in (*DROPPED, *OPENED, "bash-stdout", "div") for slash in ("", "/")]
PIECES = st.sampled_from([*TAGS, "<", ">", "a", "Fix it.", "\n", " ", "[Request interrupted by user]", "<sys", "tem-"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<system-reminder>\nNo tasks.\n</system-reminder>\nFix it.", "Fix it."),
        ("Fix it.\n<environment_details>\ncwd: /w\n</environment_details>", "Fix it."),
        ("<task>Fix it.</task>\n<environment_details>x</environment_details>", "Fix it."),
        ("<user_query>\nIs it\n\nsafe?\n</user_query>", "Is it\n\nsafe?"),
        ("<command-name>/clear</command-name><command-message>clear</command-message>", ""),
        ("<local-command-stdout>ok</local-command-stdout><bash-input>ls</bash-input>Why?", "Why?"),
        ("[Request interrupted by user for tool use]\nUse tabs.", "Use tabs."),
        ("Use tabs.\n[Request interrupted by user]", "Use tabs."),
        ("Why does it say [Request interrupted by user] here?", "Why does it say [Request interrupted by user] here?"),
        ("<div>mine</div>", "<div>mine</div>"),
        ("What is a <system-reminder> for?", "What is a <system-reminder> for?"),
        ("one<ide_selection>x</ide_selection>two", "one two"),
        ("one <ide_selection>x</ide_selection>two", "one two"),
        ("a <System-Reminder>x</SYSTEM-REMINDER> b", "a  b"),
        ("<system-reminder>mentions <system-reminder> once</system-reminder>Why?", "Why?"),
    ],
)
def test_wrappers_by_hand(text: str, expected: str) -> None:
    assert strip_wrappers(text) == expected


@given(st.lists(PIECES, max_size=24).map("".join))
def test_stripping_twice_changes_nothing_more(text: str) -> None:
    assert strip_wrappers(strip_wrappers(text)) == strip_wrappers(text)


@given(st.lists(st.sampled_from(["a", "b ", "<p>", "</p>", "\n"]), min_size=1).map("".join))
def test_without_a_wrapper_only_outer_blanks_go(text: str) -> None:
    assert strip_wrappers(text) == text.strip()


@pytest.mark.parametrize(
    "piece", ["<system-reminder>", "</system-reminder>", "<task>", "<task></task>", "<bash-", "[R\n"]
)
def test_a_million_characters_of_tags_are_read(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    assert len(strip_wrappers(text)) <= len(text)


@pytest.mark.parametrize("place", range(-48, 2))
def test_a_tag_is_found_where_two_slices_meet(place: int) -> None:
    """Long texts are searched in slices, so that nothing else waits for them."""
    before = "<" * ((1 << 20) + place)
    wrapped = f"<local-command-{'x' * 30}>gone</local-command-{'x' * 30}>"
    assert strip_wrappers(f"{before}{wrapped}mine") == f"{before} mine"
