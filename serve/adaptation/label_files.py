"""Label files: what analysts decided of sessions, as JSON lines to read again or as a table to look at, and the
exchanges that they speak of."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from serve.io.discovery import InputError, fault_text
from serve.io.reading import read_paths
from serve.io.validation import SCHEMA
from serve.sessions.records import Sessions
from serve.sessions.sessionizing import Timeline

LABEL_OF: Mapping[str, str] = {"confirmed": "harvesting", "cleared": "organic"}
"""What a session is, by the states that say so; one that is escalated is neither."""

_STATES = (*LABEL_OF, "escalated")
_CHUNK_PROMPTS = 20_000
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
_COLUMNS = ("account_id", "session_id", "state", "by", "at", "note")


@dataclass(frozen=True, slots=True)
class Label:
    """What was decided of one session: confirmed, cleared or escalated; by whom, when (seconds since 1970), and why."""

    account_id: str
    session_id: str
    state: str
    by: str = ""
    at: float = 0.0
    note: str = ""

    @property
    def label(self) -> str | None:
        """What the session is, None where that is open."""
        return LABEL_OF.get(self.state)


def json_lines(labels: Iterable[Label]) -> Iterator[str]:
    """Labels as lines that `read_labels` reads."""
    for own in labels:
        yield json.dumps(asdict(own) | {"label": own.label}) + "\n"


def csv_lines(labels: Iterable[Label]) -> Iterator[str]:
    """Labels as a table for a spreadsheet, where no text is taken for a formula."""
    yield ",".join((*_COLUMNS, "label")) + "\r\n"
    for own in labels:
        at = f"{datetime.fromtimestamp(own.at, UTC):%Y-%m-%d %H:%M:%S}"
        row = (own.account_id, own.session_id, own.state, own.by, at, own.note, own.label or "")
        line = io.StringIO()
        csv.writer(line).writerow([f"'{text}" if text.startswith(_FORMULAS) else text for text in row])
        yield line.getvalue()


def read_labels(path: Path) -> tuple[Label, ...]:
    """The labels of a file of JSON lines.

    Raises:
        InputError: naming the file, and the line that is none; a file without a label is refused, too.
    """
    try:
        with path.open(encoding="utf-8") as file:
            found = tuple(_label(line, f"{path}:{number}") for number, line in enumerate(file, 1) if line.strip())
    except (OSError, UnicodeDecodeError) as fault:
        raise InputError(f"{path}: {fault_text(fault) if isinstance(fault, OSError) else 'is not UTF-8'}") from None
    if not found:
        raise InputError(f"{path} holds no label")
    return found


def _label(line: str, place: str) -> Label:
    try:
        row = json.loads(line)
        account_id, session_id, state = row["account_id"], row["session_id"], row["state"]
        if not all(isinstance(text, str) and text for text in (account_id, session_id)) or state not in _STATES:
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InputError(
            f"{place}: is no label, expected account_id, session_id and a state ({', '.join(_STATES)})"
        ) from None
    return Label(account_id, session_id, state)


def labelled_sessions(paths: Sequence[Path], labels: Iterable[Label]) -> Iterator[tuple[Label, Sessions]]:
    """The sessions of these files that a label speaks of, one by one, in order of accounts and time.

    Raises:
        InputError: when the files can't be read.
    """
    of = {(own.account_id, own.session_id): own for own in labels}
    accounts = pa.array(sorted({account for account, _ in of}), pa.large_string())
    tables = [SCHEMA.empty_table()]
    for batch in read_paths(paths):
        tables.append(batch.table.filter(pc.is_in(batch.table.column("account_id"), accounts)))
    for sessions in Timeline.of(pa.concat_tables(tables)).chunks(_CHUNK_PROMPTS):
        for index in range(len(sessions)):
            own = of.get((sessions.account_ids[index], sessions.session_ids[index]))
            if own is not None:
                yield own, sessions.part(index, index + 1)


@dataclass(frozen=True, slots=True)
class Parted:
    """Traffic in two files of exchanges: what can be taken for benign, and what was confirmed (None where nothing was);
    how many accounts are in neither, and how many rows were read and rejected."""

    benign: Path
    harvesting: Path | None
    n_left_out: int
    n_rows: int
    n_rejected: int


def part(paths: Sequence[Path], labels: Sequence[Label], folder: Path) -> Parted:
    """Part traffic by labels, into files in `folder`.

    Confirmed sessions are harvesting; all else of their accounts, and of accounts with an escalated session, is left
    out; what remains is benign.

    Raises:
        InputError: when the traffic can't be read.
    """
    doubtful = {own.account_id for own in labels if own.state in ("confirmed", "escalated")}
    names = pa.array(sorted(doubtful), pa.large_string())
    benign, harvesting = folder / "benign.parquet", folder / "harvesting.parquet"
    seen, n_rows, n_rejected = set[str](), 0, 0
    with pq.ParquetWriter(benign, SCHEMA) as writer:
        for batch in read_paths(paths):
            is_doubtful = pc.is_in(batch.table.column("account_id"), names)
            seen |= set(pc.unique(batch.table.column("account_id").filter(is_doubtful)).to_pylist())
            n_rows, n_rejected = n_rows + batch.n_rows, n_rejected + len(batch.rejects)
            writer.write_table(_timed(batch.table.filter(pc.invert(is_doubtful))))
    rows = [
        {"account_id": own.account_id, "session_id": own.session_id, "prompt": prompt, "at": at}
        for own, session in labelled_sessions(paths, [own for own in labels if own.state == "confirmed"])
        for prompt, at in zip(session.prompts, session.at.tolist(), strict=True)
    ]
    if rows:
        pq.write_table(_timed(pa.Table.from_pylist(rows, SCHEMA)), harvesting)
    n_left_out = len(seen - {str(row["account_id"]) for row in rows})
    return Parted(benign, harvesting if rows else None, n_left_out, n_rows, n_rejected)


def _timed(table: pa.Table) -> pa.Table:
    """The same, where a time that is unknown is null, as files have it."""
    at = table.column("at")
    return table.set_column(SCHEMA.get_field_index("at"), "at", pc.if_else(pc.is_nan(at), pa.scalar(None, at.type), at))
