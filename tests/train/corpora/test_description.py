"""Descriptions: every shipped one reads, and each fault names file and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.corpora.description import FOLDER, Columns, Description

GOOD = "path: x.jsonl\nlabel: organic\nkind: person\ngroup: g\nuse: train\ncolumns: {text: text}\n"


def described(tmp_path: Path, text: str) -> Description:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return Description.read(str(path))


def test_every_shipped_description_reads() -> None:
    found = [Description.read(path.stem) for path in FOLDER.glob("*.yaml")]
    assert {"wildchat_1m", "lmsys_chat_1m", "oasst1", "alpaca", "ultrachat_200k", "gsm8k", "tulu_3_sft"} <= {
        one.name for one in found
    }
    assert {one.label for one in found} == {"harvesting", "organic"}
    assert all(one.hub and one.licence for one in found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("label: organic", "label: benign"), "label is 'benign', expected one of"),
        (("kind: person\n", ""), "'kind' is missing"),
        (("use: train", "uses: train"), "has 'uses', did you mean 'use'"),
        (("path: x.jsonl", "path: x.jsonl\nhub: a/b"), "either hub or path, found both"),
        (("path: x.jsonl\n", ""), "either hub or path, found neither"),
        (("{text: text}", "{}"), "either text or messages"),
        (("{text: text}", "{txet: text}"), "columns has 'txet', did you mean 'text'"),
        (("{text: text}", "[text]"), "columns holds a list, expected a mapping"),
        (("columns: {text: text}", "columns: {text: ["), "is no YAML"),
    ],
)
def test_a_fault_names_file_and_field(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=r"mine\.yaml") as fault:
        described(tmp_path, GOOD.replace(*change))
    assert said in str(fault.value)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"corpora.described names 'wildchat', did you mean 'wildchat_1m'\?"):
        Description.read("wildchat")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nope\.yaml', which is no file"):
        Description.read(str(tmp_path / "nope.yaml"))


def test_columns_are_joined_and_rows_filtered(tmp_path: Path) -> None:
    one = described(tmp_path, GOOD.replace("{text: text}", "{text: [instruction, input]}\nwhere: {lang: [en, de]}"))
    rows = [
        {"instruction": "Add the numbers.", "input": "1 2", "lang": "en"},
        {"instruction": "Sag etwas.", "input": "", "lang": "de"},
        {"instruction": "Dis bonjour.", "input": None, "lang": "fr"},
        {"instruction": None, "input": "  ", "lang": "en"},
    ]
    assert [row.text for row in one.rows(iter(rows))] == ["Add the numbers.\n\n1 2", "Sag etwas."]


def test_only_what_the_client_sent_is_taken_from_messages(tmp_path: Path) -> None:
    one = described(tmp_path, GOOD.replace("{text: text}", "{messages: talk, conversation: id}"))
    talk = [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "an answer"},
        {"from": "human", "value": "second"},
    ]
    rows = list(one.rows(iter([{"id": "c", "talk": talk}, {"id": "d", "talk": None}])))
    assert [(row.text, row.conversation, row.turn, row.system) for row in rows] == [
        ("first", "c", 0, "You are terse."), ("second", "c", 1, "You are terse."),
    ]  # fmt: skip


def test_turns_are_counted_in_grouped_rows_and_reading_stops(tmp_path: Path) -> None:
    one = described(tmp_path, GOOD.replace("{text: text}", "{text: text, conversation: id, person: who}\nmax_rows: 3"))
    rows = list(one.rows({"text": f"t{i}", "id": i % 2, "who": "p"} for i in range(9)))
    assert [(row.conversation, row.turn, row.person) for row in rows] == [("0", 0, "p"), ("1", 0, "p"), ("0", 1, "p")]
    assert Columns(text=("a", "b"), person="c").names == (("text", "a"), ("text", "b"), ("person", "c"))
