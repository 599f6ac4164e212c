"""Pasted: the sessions in a text that an analyst pastes or opens, in any format that logs are read in."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from serve.io.importing import Choice
from serve.io.inputs import import_to
from serve.io.log_files.files import Log
from serve.io.log_files.opening import LogError
from serve.io.validation import SCHEMA
from serve.sessions.records import Sessions
from serve.sessions.sessionizing import Timeline

MAX_SESSIONS = 256
MAX_PROMPTS = 20_000
MAX_MARKS = 150_000
"""Line breaks, commas and opening brackets of a text: reading takes time for each value, however small."""

_TOO_MUCH = "stillwatch score takes any number"
_ACCOUNT = _SESSION = "pasted"


@dataclass(frozen=True, slots=True)
class Pasted:
    """Sessions, and lines that say what they were read from."""

    sessions: Sessions
    lines: tuple[str, ...]


def read_pasted(text: str) -> Pasted:
    """The sessions of a log, of plain rows, or of one prompt a line.

    Raises:
        ValueError: when there is nothing to judge, the text is of no known format, or there is too much of it.
    """
    if sum(map(text.count, "\n,[{")) > MAX_MARKS:
        raise ValueError(f"more than {MAX_MARKS:,} lines and values: {_TOO_MUCH}")
    with tempfile.TemporaryDirectory(prefix="stillwatch.") as name:
        folder = Path(name)
        source, out = folder / _SESSION, folder / "rows.parquet"
        source.write_text(text, encoding="utf-8", errors="replace")
        try:
            lines = tuple(import_to([str(source)], out, Choice()).lines())
        except LogError as fault:
            if Log(source).kind not in ("text", "csv"):
                raise ValueError(str(fault).removeprefix(f"{source}: ")) from None
            source.write_text(_as_rows(_lines(text)), encoding="ascii")
            import_to([str(source)], out, Choice())
            lines = ("read as one prompt a line",)
        rows = pq.read_table(out)
    if not len(rows):
        raise ValueError("there is nothing to judge" + "".join(f"; {line}" for line in lines))
    _check_number(len(rows))
    timeline = Timeline.of(_plain(rows))
    if len(timeline) > MAX_SESSIONS:
        raise ValueError(f"{len(timeline):,} sessions, expected at most {MAX_SESSIONS}: {_TOO_MUCH}")
    return Pasted(timeline.sessions(0, len(timeline)), lines)


def _check_number(n_prompts: int) -> None:
    if n_prompts > MAX_PROMPTS:
        raise ValueError(f"{n_prompts:,} prompts, expected at most {MAX_PROMPTS:,}: {_TOO_MUCH}")


def _lines(text: str) -> list[str]:
    """One prompt a line, without empty ones."""
    found = [line for line in text.splitlines() if line.strip()]
    _check_number(len(found))
    return found


def _as_rows(lines: list[str]) -> str:
    """Prompts as plain rows of one session."""
    rows = ({"account_id": _ACCOUNT, "session_id": _SESSION, "prompt": line} for line in lines)
    return "".join(json.dumps(row) + "\n" for row in rows)


def _plain(rows: pa.Table) -> pa.Table:
    table = rows.select(SCHEMA.names)
    at = table.column("at").fill_null(float("nan"))
    return table.set_column(table.schema.get_field_index("at"), "at", at).cast(SCHEMA)
