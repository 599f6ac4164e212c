"""Family grammars: what they expand to by hand, and what is refused by file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from train.corpora.starter.grammar import Family, StarterPrompt, Style, expand, read_family

HEAD = "name: tiny\nkind: harvest\nareas: [coding]\n"


def read(tmp_path: Path, body: str, head: str = HEAD) -> Family:
    path = tmp_path / "tiny.yaml"
    path.write_text(head + body, encoding="utf-8")
    return read_family(path)


def texts(family: Family, n_prompts: int = 50, **options: int) -> list[str]:
    return [prompt.text for prompt in expand(family, n_prompts=n_prompts, **options)]


def test_slots_choices_and_numbers_are_filled(tmp_path: Path) -> None:
    family = read(
        tmp_path,
        'prompts: ["{verb} [[a|two]] {noun}s {#3-5}"]\n'
        'slots: {verb: [Sort, Fix], noun: [list, "big {thing}"], thing: [tree]}\n',
    )
    assert set(texts(family)) <= {
        f"{v} {c} {n}s {k}"
        for v in ("Sort", "Fix")
        for c in ("a", "two")
        for n in ("list", "big tree")
        for k in (3, 4, 5)
    }
    # Numbers make no difference, so 2 verbs, 2 choices and 2 nouns make at most 8 prompts.
    assert len(texts(family)) == 8


def test_a_choice_may_hold_slots(tmp_path: Path) -> None:
    family = read(tmp_path, 'prompts: ["[[ask {who}|rest]]"]\nslots: {who: [Ann, Bo]}\n')
    assert sorted(texts(family)) == ["ask Ann", "ask Bo", "rest"]


def test_a_slot_keeps_its_value_all_through_a_conversation_and_a_numbered_one_differs(tmp_path: Path) -> None:
    family = read(
        tmp_path,
        'conversations: [["x {name} y {name.2}", "and {name}", "or {name.2}"]]\nslots: {name: [Ann, Bo, Cy, Di]}\n',
    )
    conversations: dict[str, list[StarterPrompt]] = {}
    for prompt in expand(family, n_prompts=30, seed=3):
        conversations.setdefault(prompt.conversation, []).append(prompt)
    whole = [own for own in conversations.values() if len(own) == 3]
    assert whole
    for own in whole:
        first, second = re.fullmatch(r"x (\w+) y (\w+)", own[0].text).groups()
        assert first != second
        assert [prompt.text for prompt in own[1:]] == [f"and {first}", f"or {second}"]
        assert [prompt.turn for prompt in own] == [0, 1, 2]


def test_a_deployment_sends_one_template_with_other_inputs(tmp_path: Path) -> None:
    words = [chr(97 + index) for index in range(26)]
    family = read(
        tmp_path,
        'deployments: ["to {lang}: {text} | {text.2}", "{text} in {lang}"]\ndeployment_slots: [lang]\n'
        f'slots: {{lang: [Dutch, Thai], text: ["{{word}}{{word.2}}+{{lang}}"], word: {words}}}\n',
    )
    conversations: dict[str, list[StarterPrompt]] = {}
    for prompt in expand(family, n_prompts=200, seed=5):
        conversations.setdefault(prompt.conversation, []).append(prompt)
    *whole, _ = conversations.values()
    assert len({prompt.text for own in conversations.values() for prompt in own}) == 200
    assert all(5 <= len(own) <= 24 for own in whole)
    for own in whole:
        assert [prompt.turn for prompt in own] == list(range(len(own)))
        assert len({prompt.text.startswith("to ") for prompt in own}) == 1
        languages = [re.findall("Dutch|Thai", prompt.text) for prompt in own]
        assert len({name for found in languages for name in found}) == 1
    both = re.findall(r"to \w+: (\w+)\+\w+ \| (\w+)\+", "\n".join(p.text for own in whole for p in own))
    assert both
    assert all(first != second for first, second in both)


def test_person_slots_stay_with_the_person(tmp_path: Path) -> None:
    names = [f"N{chr(65 + index)}" for index in range(20)]
    family = read(
        tmp_path,
        'prompts: ["{who} {word} {word.2}"]\nperson_slots: [who]\n'
        f"slots: {{who: {names}, word: [a, b, c, d, e]}}\n",
    )
    prompts = expand(family, n_prompts=60, n_persons=6)
    by_person = {
        person: {p.text.split()[0] for p in prompts if p.person == person} for person in {p.person for p in prompts}
    }
    assert len(by_person) == 6
    assert all(len(own) == 1 for own in by_person.values())
    assert len(set().union(*by_person.values())) > 1


def test_no_two_prompts_are_equal_once_digits_are_removed_even_of_two_people(tmp_path: Path) -> None:
    family = read(tmp_path, 'prompts: ["{word} {#1-999}"]\nslots: {word: [a, b, c]}\n')
    assert len(texts(family, 40, n_persons=4)) == 3


def test_the_quota_is_met_where_the_grammar_allows_and_never_exceeded(tmp_path: Path) -> None:
    family = read(
        tmp_path, 'conversations: [["{w} {w.2} {w.3}", "{w} again {w.2}"]]\nslots: {w: [a, b, c, d, e, f, g, h, i]}\n'
    )
    for n_prompts in (1, 7, 60):
        assert len(texts(family, n_prompts, n_persons=3)) == n_prompts


def test_the_same_seed_expands_alike_and_another_does_not(tmp_path: Path) -> None:
    family = read(tmp_path, 'prompts: ["{w} {w.2} {w.3}"]\nslots: {w: [a, b, c, d, e, f, g]}\n')
    assert texts(family, 20, seed=1) == texts(family, 20, seed=1)
    assert texts(family, 20, seed=1) != texts(family, 20, seed=2)


def test_style_roughens_what_is_typed(tmp_path: Path) -> None:
    body = 'prompts: ["Tell Me About {w} And {w.2} And {w.3}."]\nslots: {w: [Apples, Berries, Cherries, Dates, Eggs]}\n'
    assert read(tmp_path, body).style == Style()
    assert all(text.endswith(".") and text != text.lower() for text in texts(read(tmp_path, body)))
    rough = texts(read(tmp_path, body + "style: {lowercase: 1.0, no_final_punctuation: 1.0}\n"))
    assert all(text == text.lower() and not text.endswith(".") for text in rough)
    typed = texts(read(tmp_path, body + "style: {typos: 0.2}\n"))
    assert sum(text.startswith("Tell Me About") for text in typed) < 0.4 * len(typed)


def test_kinds_become_labels_and_a_schema_goes_with_its_conversation(tmp_path: Path) -> None:
    family = read(tmp_path, 'prompts: ["call {tool}"]\nsystem: ["schema of {tool}"]\nslots: {tool: [grep, sed]}\n')
    assert (family.label, family.kind, family.areas) == ("harvesting", "harvest", ("coding",))
    for prompt in expand(family, n_prompts=2):
        assert prompt.system == f"schema of {prompt.text.split()[1]}"


@pytest.mark.parametrize(
    ("head", "body", "message"),
    [
        (HEAD, "promts: [a]\n", r"unknown keys \['promts'\], expected some of \["),
        (HEAD.replace("harvest", "spy"), "prompts: [a]\n", r"kind is 'spy', expected one of \['evaluation', 'harvest'"),
        (HEAD.replace("tiny", "other"), "prompts: [a]\n", "name is 'other', expected the file's own name 'tiny'"),
        (HEAD, "slots: {a: [b]}\n", "expected either deployments, or prompts and conversations"),
        (HEAD, "prompts: [a]\ndeployments: [b]\n", "expected either deployments, or prompts and conversations"),
        (HEAD, "deployments: [a]\ndeployment_slots: [who]\n", r"undefined slots \['who'\]"),
        (HEAD, 'prompts: ["do {it}"]\n', r"undefined slots \['it'\]"),
        (HEAD, 'prompts: ["[[do {it}|rest]]"]\n', r"undefined slots \['it'\]"),
        (HEAD, 'prompts: ["do {it}"]\nslots: {it: ["{that}"]}\n', r"undefined slots \['that'\]"),
        (HEAD, "prompts: [a]\nperson_slots: [who]\n", r"undefined slots \['who'\]"),
        (HEAD, 'prompts: ["{it}"]\nslots: {it: []}\n', r"slots without values \['it'\]"),
        (HEAD, "prompts: [a\n", "while parsing"),
        ("", "- a\n", "holds a list, expected a mapping"),
        ("", "", "holds a NoneType, expected a mapping"),
    ],
)  # fmt: skip
def test_a_wrong_family_is_refused_by_file(tmp_path: Path, head: str, body: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"tiny\.yaml: .*{message}"):
        read(tmp_path, body, head)


def test_slots_that_hold_each_other_are_refused(tmp_path: Path) -> None:
    family = read(tmp_path, 'prompts: ["{a}"]\nslots: {a: ["x {b}"], b: ["y {a}"]}\n')
    with pytest.raises(ValueError, match="family 'tiny': slots nest deeper than 12"):
        expand(family, n_prompts=1)
