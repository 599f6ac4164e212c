"""Description: what a corpus of prompts is, where it lies, and what its columns mean, as a file of `conf/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import yaml

from serve.sessions.records import text_fault
from train.corpora.pool import KINDS, LABELS, PromptRow, Source
from train.corpora.suggestions import suggestion

FOLDER = Path(__file__).parents[2] / "conf" / "descriptions"
USES = ("train", "evaluate")
ASKERS = ("user", "human", "prompter")
"""Roles in lists of messages whose text a client sent."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a row mean what; a name that is None is a column the corpus doesn't have.

    `text` is one column or several, joined by an empty line where they aren't empty (an instruction and its input); or
    `messages` is a column of a whole conversation, a list of records with a role (`role` or `from`) and a text
    (`content` or `value`), and only what the client sent is taken.
    """

    text: tuple[str, ...] = ()
    messages: str | None = None
    conversation: str | None = None
    turn: str | None = None
    person: str | None = None
    system: str | None = None

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """(field, column) of every column that is read."""
        single = [(entry.name, getattr(self, entry.name)) for entry in fields(self)[1:]]
        return (*(("text", name) for name in self.text), *((key, name) for key, name in single if name is not None))


@dataclass(frozen=True, slots=True)
class Description:
    """One corpus: a dataset of the hub (`hub`, perhaps a `subset`, a `split`, a `revision`), or local Parquet or JSONL
    files (`path`, a file or a folder), with label, kind, group, licence and use as a card has them.

    `where` keeps only rows that have one of the given values in a column; `max_rows` stops reading a large set there.
    """

    name: str
    label: str
    kind: str
    group: str
    use: str
    columns: Columns
    licence: str = ""
    hub: str | None = None
    path: str | None = None
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    max_rows: int | None = None

    @classmethod
    def read(cls, name: str) -> Self:
        """The description in `conf/descriptions/NAME.yaml`, or in the file `name` where it ends in .yaml.

        Raises:
            ValueError: naming file and field, when there is none or something in it is wrong.
        """
        path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
        if not path.is_file() and name.endswith((".yaml", ".yml")):
            raise ValueError(f"corpora.described names {name!r}, which is no file")
        if not path.is_file():
            known = sorted(file.stem for file in FOLDER.glob("*.yaml"))
            raise ValueError(f"corpora.described names {name!r}{suggestion(name, known)}")
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as fault:
            raise ValueError(f"{path}: is no YAML ({type(fault).__name__})") from fault
        return cls._checked(path, values)

    @property
    def source(self) -> Source:
        """The source of the pool that its prompts belong to."""
        return Source(
            self.name, self.label, self.kind, self.group, licence=self.licence, may_ship=self.use == "train"
        )  # fmt: skip

    @classmethod
    def _checked(cls, path: Path, values: Any) -> Self:
        values = _mapping(path, "the file", values, cls)
        for key in ("label", "kind", "group", "use", "columns"):
            if key not in values:
                raise ValueError(f"{path}: {key!r} is missing")
        for key, allowed in (("label", LABELS), ("kind", KINDS), ("use", USES)):
            if values[key] not in allowed:
                raise ValueError(f"{path}: {key} is {values[key]!r}, expected one of {list(allowed)}")
        if ("hub" in values) == ("path" in values):
            raise ValueError(f"{path}: expected either hub or path, found {'both' if 'hub' in values else 'neither'}")
        columns = dict(_mapping(path, "columns", values["columns"], Columns))
        columns["text"] = _words(columns.get("text", ()))
        if bool(columns["text"]) == ("messages" in columns):
            raise ValueError(f"{path}: columns: expected either text or messages, found {sorted(values['columns'])}")
        where = values.get("where", {})
        if not isinstance(where, dict):
            raise ValueError(f"{path}: where is of type {type(where).__name__}, expected columns with values")
        known = {"name": path.stem} | values
        known |= {"columns": Columns(**columns), "where": {key: _words(value) for key, value in where.items()}}
        return cls(**known)

    def rows(self, records: Iterator[Mapping[str, Any]]) -> Iterator[PromptRow]:
        """Usable prompts of rows as `datasets` gives them; a row of a grouped conversation counts its turns as it
        comes where no column says them."""
        turns: dict[str, int] = {}
        for index, record in enumerate(records):
            if self.max_rows is not None and index >= self.max_rows:
                return
            if any(str(record[key]) not in values for key, values in self.where.items()):
                continue
            named = _cell(record, self.columns.conversation)
            conversation = str(index if named is None else named)
            person = _cell(record, self.columns.person)
            for text, system in self._texts(record):
                if not isinstance(text, str) or text_fault(text) is not None:
                    continue
                turn = turns.get(conversation, 0)
                if self.columns.conversation is not None or self.columns.messages is not None:
                    turns[conversation] = turn + 1
                given = _cell(record, self.columns.turn)
                yield PromptRow(
                    text, conversation, turn if given is None else int(given),
                    None if person is None else str(person), system,
                )  # fmt: skip

    def _texts(self, record: Mapping[str, Any]) -> Iterator[tuple[Any, str | None]]:
        system = _cell(record, self.columns.system)
        if self.columns.messages is None:
            parts = [record[name] for name in self.columns.text]
            yield "\n\n".join(part for part in parts if isinstance(part, str) and part.strip()), system or None
            return
        for message in record[self.columns.messages] or ():
            role, text = message.get("role", message.get("from")), message.get("content", message.get("value"))
            if role == "system" and isinstance(text, str):
                system = text
            elif role in ASKERS:
                yield text, system or None


def _cell(record: Mapping[str, Any], column: str | None) -> Any:
    return None if column is None else record[column]


def _mapping(path: Path, what: str, values: Any, record: type) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ValueError(f"{path}: {what} holds a {type(values).__name__}, expected a mapping")
    valid = [entry.name for entry in fields(record)]
    for key in values:
        if key not in valid:
            raise ValueError(f"{path}: {what} has {key!r}{suggestion(str(key), valid)}")
    return values


def _words(value: Any) -> tuple[str, ...]:
    return tuple(str(part) for part in value) if isinstance(value, list | tuple) else (str(value),)
