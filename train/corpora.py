"""Corpora: real and starter prompts, loaded and checked before any work starts. The only datasets import."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve.session import text_fault
from train.pool import KINDS, LABELS, Pool, PromptRow, Source
from train.starter.corpus import starter_corpora

USES = ("train", "evaluate")


@dataclass(frozen=True, slots=True)
class CorporaSettings:
    """Which prompts sessions are composed from.

    `dir` is a folder of `NAME.jsonl.gz` files with a CARDS.json, or None; `use` limits it to cards of these uses;
    `starter` adds the embedded starter corpus, `starter_prompts` of it.
    """

    dir: str | None = None
    use: tuple[str, ...] = ("train",)
    max_prompts: int = 6000
    starter: bool = True
    starter_prompts: int = 36000
    exclude: tuple[str, ...] = field(default=())


def load_pool(settings: CorporaSettings, *, seed: int) -> Pool:
    """All prompts that the settings name.

    Raises:
        ValueError: naming file, field and what was expected, when a corpus is missing, empty or malformed.
    """
    parts: list[tuple[Source, Sequence[PromptRow]]] = []
    if settings.starter:
        parts += starter_corpora(settings.starter_prompts, seed=seed)
    if settings.dir is not None:
        parts += [(source, rows) for source, rows in _folder(Path(settings.dir), settings)]
    if not parts:
        raise ValueError("corpora: neither starter nor dir is set, expected at least one of them")
    return Pool.of(parts)


def _folder(folder: Path, settings: CorporaSettings) -> Iterator[tuple[Source, Sequence[PromptRow]]]:
    cards = _cards(folder)
    names = {card["name"] for card in cards}
    if unknown := set(settings.exclude) - names:
        raise ValueError(f"corpora.exclude names {sorted(unknown)}, expected some of {sorted(names)}")
    chosen = [card for card in cards if card["use"] in settings.use and card["name"] not in settings.exclude]
    for card in chosen:
        if not (folder / f"{card['name']}.jsonl.gz").is_file():
            raise ValueError(f"{folder / 'CARDS.json'} names {card['name']}, but {card['name']}.jsonl.gz is not there")
    for card in chosen:
        source = Source(
            card["name"], card["label"], card["kind"], card["group"], licence=card.get("licence", ""),
            may_ship=card["use"] == "train",
        )  # fmt: skip
        yield source, _rows(folder / f"{card['name']}.jsonl.gz", settings.max_prompts)


def _cards(folder: Path) -> list[dict[str, Any]]:
    path = folder / "CARDS.json"
    if not path.is_file():
        raise ValueError(f"{path} is not there, expected a folder of corpora with a CARDS.json")
    cards: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    allowed = {"label": LABELS, "kind": KINDS, "use": USES}
    for card in cards:
        for key in ("name", "label", "kind", "group", "use"):
            if key not in card:
                raise ValueError(f"{path}: card {card.get('name', '?')!r} has no {key!r}")
        for key, values in allowed.items():
            if card[key] not in values:
                raise ValueError(f"{path}: {card['name']}: {key} is {card[key]!r}, expected one of {list(values)}")
    return cards


def _rows(path: Path, max_prompts: int) -> list[PromptRow]:
    """At most `max_prompts` usable prompts of one file, whole conversations, evenly from all over the file."""
    from datasets import load_dataset

    table = load_dataset("json", data_files=str(path), split="train")
    for column in ("text", "conversation_id", "turn"):
        if column not in table.column_names:
            raise ValueError(f"{path}: column {column!r} is missing, found {table.column_names}")
    columns = table.to_dict()
    n_rows = len(columns["text"])
    users = columns.get("user_id") or [None] * n_rows
    systems = columns.get("system") or [None] * n_rows
    rows = [
        PromptRow(text, str(conversation), int(turn), None if user is None else str(user), system or None)
        for text, conversation, turn, user, system in zip(
            columns["text"], columns["conversation_id"], columns["turn"], users, systems, strict=True
        )
        if isinstance(text, str) and text_fault(text) is None
    ]
    if not rows:
        raise ValueError(f"{path}: holds 0 usable prompts, expected at least 1")
    return _thinned(rows, max_prompts)


def _thinned(rows: list[PromptRow], max_prompts: int) -> list[PromptRow]:
    if len(rows) <= max_prompts:
        return rows
    conversations = list(dict.fromkeys(row.conversation for row in rows))
    step = len(rows) / max_prompts
    kept = {conversations[int(i * step)] for i in range(int(len(conversations) / step))}
    return [row for row in rows if row.conversation in kept]
