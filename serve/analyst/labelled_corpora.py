"""Labelled corpora: sessions that analysts decided of, joined to their prompts, as corpora that training accepts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.adaptation.label_files import Label, labelled_sessions
from serve.io.writers import replacing


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote: a description of a corpus for each label with any session, and how many labelled sessions
    have no prompts."""

    descriptions: tuple[Path, ...]
    n_sessions: Mapping[str, int]
    n_prompts: Mapping[str, int]
    n_missing: int


def export(labels: Sequence[Label], exchanges: Sequence[Path], folder: Path) -> Exported:
    """Write the prompts of labelled sessions as corpora, `feedback_LABEL.yaml` beside `feedback_LABEL.jsonl`.

    `python -m train corpora.described=[FOLDER/feedback_harvesting.yaml,...]` learns from them beside all else.

    Raises:
        InputError: when the exchanges can't be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    decided = [own for own in labels if own.label is not None]
    rows: dict[str, list[dict[str, object]]] = {"harvesting": [], "organic": []}
    found: dict[str, set[tuple[str, str]]] = {label: set() for label in rows}
    for own, session in labelled_sessions(exchanges, decided):
        key = (own.account_id, own.session_id)
        found[own.label or ""].add(key)
        rows[own.label or ""] += [
            {"text": text, "session": "/".join(key), "turn": turn, "account": own.account_id}
            for turn, text in enumerate(session.prompts)
        ]
    descriptions = tuple(_written(folder, label, own) for label, own in rows.items() if own)
    return Exported(
        descriptions, {label: len(keys) for label, keys in found.items()},
        {label: len(own) for label, own in rows.items()}, len(decided) - sum(map(len, found.values())),
    )  # fmt: skip


def _written(folder: Path, label: str, rows: Sequence[Mapping[str, object]]) -> Path:
    name = f"feedback_{label}"
    with replacing(folder / f"{name}.jsonl") as part, part.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    described = {
        "path": str((folder / f"{name}.jsonl").resolve()), "label": label,
        "kind": "harvest" if label == "harvesting" else "person", "group": name, "use": "train",
        "licence": "own traffic, not to be passed on",
        "columns": {"text": "text", "conversation": "session", "turn": "turn", "person": "account"},
    }  # fmt: skip
    path = folder / f"{name}.yaml"
    with replacing(path) as part:
        part.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")  # JSON is YAML, too
    return path
