"""State: what a follower has to know to go on where it stopped: marks of files, exchanges of sessions that aren't over,
and what it is about to write. It is an SQLite file beside the output; it holds prompts, for its owner alone.

A change of the state and what is to be written are stored together, then written, so that a process that ends between
both writes the same bytes when it starts again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.batch.job import JobStoppedError
from serve.following.appending import append_once, size_of
from serve.following.growing_files import Identity, Mark
from serve.io.validation import SCHEMA
from serve.sessions.records import full_name
from serve.sessions.sessionizing import MAX_EXCHANGES, MAX_GIVEN_EXCHANGES

VERSION = 1
MAX_ENDED = 1_000_000
"""Names of sessions that are remembered, so that one that goes on has another name."""

_TABLES = """
CREATE TABLE IF NOT EXISTS marks (
    device INTEGER, inode INTEGER, path TEXT, kind TEXT, head TEXT, n_bytes INTEGER, n_lines INTEGER,
    PRIMARY KEY (device, inode)
);
CREATE TABLE IF NOT EXISTS units (
    unit INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER, n_full INTEGER, read_at REAL, newest INTEGER
);
CREATE INDEX IF NOT EXISTS units_read_at ON units (read_at);
CREATE TABLE IF NOT EXISTS waiting (row INTEGER PRIMARY KEY AUTOINCREMENT, unit INTEGER, at REAL, prompt TEXT);
CREATE INDEX IF NOT EXISTS waiting_unit ON waiting (unit);
CREATE TABLE IF NOT EXISTS ended (row INTEGER PRIMARY KEY AUTOINCREMENT, name INTEGER UNIQUE);
CREATE TABLE IF NOT EXISTS outbox (path TEXT PRIMARY KEY, n_before INTEGER, text BLOB);
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """Exchanges of one account that belong together: those of one session id, or all without one.

    `is_over` says that all of them are judged now; otherwise only sessions that can't grow any more are.
    """

    unit: int
    account_id: str
    session_id: str | None
    n: int
    is_over: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """Exchanges of units: a table of `validation.SCHEMA`, and of each row its number and the place of its unit."""

    table: pa.Table
    numbers: NDArray[np.int64]
    owners: NDArray[np.int64]


class State:
    """The state of one follower; no two processes can have the same one open."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        """Use an open database; see `opened`."""
        self._connection, self.path = connection, path

    @classmethod
    @contextmanager
    def opened(cls, path: Path, outputs: Sequence[Path]) -> Iterator[Self]:
        """The state in a file, made where it isn't there; what was to be written is written first.

        Raises:
            ValueError: when another process has it, it is of another version, or an output isn't as it was left.
            JobStoppedError: when it can't be written.
        """
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        with _faults(path):
            connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            state = cls(connection, path)
            with _faults(path):
                state._prepare(outputs)
            yield state
        finally:
            connection.close()

    @property
    def n_waiting(self) -> int:
        """Exchanges that aren't judged yet."""
        return int(self._one("SELECT COALESCE(SUM(n), 0) FROM units"))

    def marks(self) -> dict[Identity, Mark]:
        """What is known of files."""
        found = self._connection.execute("SELECT device, inode, path, kind, head, n_bytes, n_lines FROM marks")
        return {(row[0], row[1]): Mark((row[0], row[1]), *row[2:]) for row in found}

    @contextmanager
    def change(self) -> Iterator[None]:
        """Change the state, wholly or not at all, then write what was put out."""
        with _faults(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
            self._deliver()

    def replace_marks(self, marks: Sequence[Mark]) -> None:
        """Know of these files only."""
        self._connection.execute("DELETE FROM marks")
        for mark in marks:
            self.mark(mark)

    def mark(self, mark: Mark) -> None:
        """Know how far a file is read."""
        row = (*mark.identity, mark.path, mark.kind, mark.head, mark.n_bytes, mark.n_lines)
        self._connection.execute("INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def add(self, table: pa.Table, now: float) -> None:
        """Exchanges (of `validation.SCHEMA`) that were read now, in seconds since 1970."""
        units: dict[tuple[str, str | None], int] = {}
        counts: dict[int, int] = {}
        rows = []
        for account_id, session_id, at, prompt in zip(
            *(table.column(name).to_pylist() for name in SCHEMA.names), strict=True
        ):
            key = account_id, session_id
            unit = units.get(key)
            if unit is None:
                unit = units[key] = self._unit(key)
            counts[unit] = counts.get(unit, 0) + 1
            rows.append((unit, at, prompt))  # NaN is stored as NULL
        self._connection.executemany("INSERT INTO waiting (unit, at, prompt) VALUES (?, ?, ?)", rows)
        newest = self._one("SELECT COALESCE(MAX(row), 0) FROM waiting")
        self._connection.executemany(
            "UPDATE units SET n = n + ?, read_at = ?, newest = ? WHERE unit = ?",
            [(n, now, newest, unit) for unit, n in counts.items()],
        )

    def due(self, before: float, max_waiting: int) -> list[Unit]:
        """Units to judge: quiet since `before`, or with a session that is full.

        Beyond `max_waiting` exchanges also those that have been quiet longest, until a quarter of the room is free.
        """
        found = [
            _unit_of(*row)
            for row in self._connection.execute(
                "SELECT unit, name, n, read_at <= ? FROM units WHERE read_at <= ? OR n >= n_full", (before, before)
            )
        ]
        excess = self.n_waiting - sum(unit.n for unit in found if unit.is_over)
        if excess > max_waiting:
            known = {unit.unit for unit in found if unit.is_over}
            found = [unit for unit in found if unit.is_over]
            for row in self._connection.execute("SELECT unit, name, n, 1 FROM units ORDER BY newest, unit"):
                if row[0] not in known:
                    found.append(_unit_of(*row))
                    excess -= row[2]
                if excess <= max_waiting * 3 // 4:
                    break
        return found

    def waiting(self, units: Sequence[Unit]) -> Waiting:
        """The exchanges of units, in the order they came."""
        columns: list[list[object]] = [[], [], [], []]
        numbers, owners = list[int](), list[int]()
        for place, unit in enumerate(units):
            for number, at, prompt in self._connection.execute(
                "SELECT row, at, prompt FROM waiting WHERE unit = ? ORDER BY row", (unit.unit,)
            ):
                values = unit.account_id, unit.session_id, math.nan if at is None else at, prompt
                for column, value in zip(columns, values, strict=True):
                    column.append(value)
                numbers.append(number)
                owners.append(place)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
        return Waiting(
            pa.Table.from_arrays(arrays, schema=SCHEMA), np.array(numbers, np.int64), np.array(owners, np.int64)
        )

    def remove(self, numbers: Sequence[int], units: Sequence[Unit]) -> None:
        """Forget exchanges of these units, which are judged."""
        self._connection.executemany("DELETE FROM waiting WHERE row = ?", ((number,) for number in numbers))
        for unit in units:
            left = self._one("SELECT COUNT(*) FROM waiting WHERE unit = ?", unit.unit)
            self._connection.execute("UPDATE units SET n = ? WHERE unit = ?", (left, unit.unit))
        self._connection.execute("DELETE FROM units WHERE n = 0")

    def new_name(self, account_id: str, session_id: str) -> str:
        """The name of a session that is over: with `-2`, `-3` where the account had one of this name before."""
        name, nth = session_id, 1
        while (
            self._connection.execute(
                "INSERT OR IGNORE INTO ended (name) VALUES (?)", (_hashed(account_id, name),)
            ).rowcount
            == 0
        ):
            nth += 1
            name = f"{session_id}-{nth}"
        return name

    def forget_old_names(self) -> None:
        """Keep `MAX_ENDED` names."""
        newest = self._one("SELECT COALESCE(MAX(row), 0) FROM ended")
        self._connection.execute("DELETE FROM ended WHERE row <= ?", (newest - MAX_ENDED,))

    def put_out(self, path: Path, text: str) -> None:
        """Append a text to an output, with the change that is being made."""
        if text:
            data, before = text.encode(), size_of(path)
            self._connection.execute("INSERT OR REPLACE INTO outbox VALUES (?, ?, ?)", (str(path), before, data))

    def _prepare(self, outputs: Sequence[Path]) -> None:
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("BEGIN EXCLUSIVE")
        version = self._one("PRAGMA user_version")
        if version not in (0, VERSION):
            raise ValueError(f"{self.path} is of version {version}, expected {VERSION}")
        if version == 0:
            for path in outputs:
                if size_of(path):
                    raise ValueError(f"{path} is there, but no state of a follower beside it: choose another name")
        for statement in _TABLES.split(";"):
            self._connection.execute(statement)
        self._connection.execute(f"PRAGMA user_version = {VERSION}")
        self._connection.execute("COMMIT")
        self._deliver()

    def _deliver(self) -> None:
        """Write what is to be written; what was begun is written again, the same."""
        for path, n_before, data in self._connection.execute("SELECT path, n_before, text FROM outbox").fetchall():
            append_once(Path(path), n_before, data)
        self._connection.execute("DELETE FROM outbox")

    def _unit(self, key: tuple[str, str | None]) -> int:
        name = json.dumps(key)
        found = self._connection.execute("SELECT unit FROM units WHERE name = ?", (name,)).fetchone()
        if found:
            return int(found[0])
        n_full = MAX_EXCHANGES if key[1] is None else MAX_GIVEN_EXCHANGES
        added = self._connection.execute("INSERT INTO units VALUES (NULL, ?, 0, ?, 0, 0)", (name, n_full))
        return int(added.lastrowid or 0)

    def _one(self, statement: str, *values: object) -> int:
        return int(self._connection.execute(statement, values).fetchone()[0])


def _unit_of(unit: int, name: str, n: int, is_over: int) -> Unit:
    account_id, session_id = json.loads(name)
    return Unit(unit, account_id, session_id, n, bool(is_over))


def _hashed(account_id: str, name: str) -> int:
    text = full_name(account_id, name).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into what the command line says."""
    try:
        yield
    except sqlite3.OperationalError as fault:
        if fault.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise ValueError(f"{path}: another job is at work there") from None
        raise JobStoppedError(f"{path}: can't be read or written ({fault.sqlite_errorname})") from None
    except sqlite3.DatabaseError as fault:
        raise ValueError(f"{path} is no state of a follower ({fault.sqlite_errorname})") from None
