"""Feedback: what analysts say of verdicts, kept in SQLite, and made into corpora that training accepts.

The store never holds a prompt: prompts are joined to it from the files of exchanges when labels are exported.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from serve.io.reading import read_paths
from serve.io.validation import SCHEMA
from serve.io.writers import replacing
from serve.sessions.sessionizing import Timeline

MARKS = ("confirmed", "wrong")
"""What can be said of a verdict: that it is right, or that it is not."""

MAX_NOTE_CHARS = 500
_CHUNK_PROMPTS = 20_000
_TABLE = """
CREATE TABLE IF NOT EXISTS marks (
    account_id TEXT NOT NULL, session_id TEXT NOT NULL, verdict TEXT NOT NULL, mark TEXT NOT NULL, score REAL NOT NULL,
    p_value REAL NOT NULL, bundle TEXT NOT NULL, note TEXT NOT NULL, by TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (account_id, session_id)
)"""


@dataclass(frozen=True, slots=True)
class Mark:
    """What one analyst said of one session's verdict (`verdict` is its label); `at` in seconds since 1970.

    Raises:
        ValueError: when the mark or the verdict is none that is known, or a text is too long or empty.
    """

    account_id: str
    session_id: str
    verdict: str
    mark: str
    score: float
    p_value: float
    bundle: str
    note: str = ""
    by: str = ""
    at: float = 0.0

    def __post_init__(self) -> None:
        if self.mark not in MARKS:
            raise ValueError(f"mark is none of {', '.join(MARKS)}")
        if self.verdict not in ("harvesting", "organic"):
            raise ValueError("verdict is neither harvesting nor organic; an undecided one is neither right nor wrong")
        if not (self.account_id and self.session_id):
            raise ValueError("account_id or session_id is empty")
        if len(self.note) > MAX_NOTE_CHARS:
            raise ValueError(f"note has {len(self.note)} characters, expected at most {MAX_NOTE_CHARS}")

    @property
    def label(self) -> str:
        """What the session is, by what the analyst said."""
        other = {"harvesting": "organic", "organic": "harvesting"}
        return self.verdict if self.mark == "confirmed" else other[self.verdict]


class Feedback:
    """Marks in an SQLite file, one a session, the last one counts; safe to use from several threads and processes."""

    def __init__(self, path: Path) -> None:
        """Open the file, or begin it.

        Raises:
            ValueError: when it is something else.
        """
        self._path = path
        try:
            with closing(self._connect()) as connection, connection:
                connection.execute(_TABLE)
        except sqlite3.Error as fault:
            raise ValueError(f"{path} can't be used as a store of feedback: {fault}") from fault

    def add(self, mark: Mark) -> None:
        """Keep a mark, in place of an earlier one of the same session; it is given the time where it has none."""
        values = asdict(mark) | {"at": mark.at or time.time()}
        names = ", ".join(values)
        slots = ", ".join(f":{name}" for name in values)
        with closing(self._connect()) as connection, connection:
            connection.execute(f"INSERT OR REPLACE INTO marks ({names}) VALUES ({slots})", values)  # noqa: S608

    def marks(self) -> tuple[Mark, ...]:
        """All marks, the latest first."""
        with closing(self._connect()) as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute("SELECT * FROM marks ORDER BY at DESC, account_id, session_id").fetchall()
        return tuple(Mark(**dict(row)) for row in rows)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=10.0)


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote: a description of a corpus for each label with any session, and sessions without prompts."""

    descriptions: tuple[Path, ...]
    n_sessions: Mapping[str, int]
    n_prompts: Mapping[str, int]
    n_missing: int


def export(marks: Sequence[Mark], exchanges: Sequence[Path], folder: Path) -> Exported:
    """Write the prompts of marked sessions as corpora, `feedback_LABEL.yaml` beside `feedback_LABEL.jsonl`.

    `python -m train corpora.described=[FOLDER/feedback_harvesting.yaml,...]` learns from them beside all else.

    Raises:
        InputError: when the exchanges can't be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    label_of = {(mark.account_id, mark.session_id): mark.label for mark in marks}
    rows: dict[str, list[dict[str, object]]] = {"harvesting": [], "organic": []}
    found: dict[str, set[tuple[str, str]]] = {label: set() for label in rows}
    for key, row in _rows(exchanges, label_of):
        rows[label_of[key]].append(row)
        found[label_of[key]].add(key)
    descriptions = tuple(_written(folder, label, own) for label, own in rows.items() if own)
    return Exported(
        descriptions, {label: len(keys) for label, keys in found.items()},
        {label: len(own) for label, own in rows.items()}, len(label_of) - sum(map(len, found.values())),
    )  # fmt: skip


def _rows(
    exchanges: Sequence[Path], label_of: Mapping[tuple[str, str], str]
) -> Iterator[tuple[tuple[str, str], dict[str, object]]]:
    """Prompts of the marked sessions in order, each with its session."""
    accounts = pa.array(sorted({account for account, _ in label_of}), pa.large_string())
    tables = [SCHEMA.empty_table()]
    for batch in read_paths(exchanges):
        tables.append(batch.table.filter(pc.is_in(batch.table.column("account_id"), accounts)))
    for sessions in Timeline.of(pa.concat_tables(tables)).chunks(_CHUNK_PROMPTS):
        for index, key in enumerate(zip(sessions.account_ids, sessions.session_ids, strict=True)):
            if key in label_of:
                start, stop = int(sessions.offsets[index]), int(sessions.offsets[index + 1])
                for turn, text in enumerate(sessions.prompts[start:stop]):
                    yield key, {"text": text, "session": "/".join(key), "turn": turn, "account": key[0]}


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
