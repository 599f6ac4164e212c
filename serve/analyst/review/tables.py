"""Tables of the review queue, in SQLite or Postgres, and how they are opened."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    inspect,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

WRITES = "stillwatch_writes"
"""The option of an engine whose transactions write: in SQLite they wait for one another from their beginning."""

_WAIT_S = 5.0
_LOCK = 7_240_261_130
METADATA = MetaData()

CASES = Table(
    "cases", METADATA,
    Column("key", String(32), primary_key=True), Column("account_key", String(32), nullable=False, index=True),
    Column("account_id", Text, nullable=False), Column("session_id", Text, nullable=False),
    Column("names", Text, nullable=False),
    Column("n_exchanges", Integer, nullable=False), Column("started_at", Float), Column("ended_at", Float),
    Column("score", Float, nullable=False), Column("p_value", Float, nullable=False),
    Column("threshold", Float, nullable=False), Column("label", String(16), nullable=False),
    Column("state", String(16), nullable=False), Column("areas", Text, nullable=False),
    Column("bundle", Text, nullable=False), Column("judged_at", Float, nullable=False, index=True),
    Column("decision", Integer),
)  # fmt: skip
for _name in ("p_value", "score", "n_exchanges", "judged_at", "names"):
    # A list in this order, and a search in it, reads this index alone.
    Index(f"cases_by_{_name}", *(CASES.c[own] for own in dict.fromkeys(("state", _name, "key", "names"))))
VERDICTS = Table(
    "verdicts", METADATA, Column("key", String(32), primary_key=True), Column("packed", LargeBinary, nullable=False)
)
DECISIONS = Table(
    "decisions", METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True), Column("account_key", String(32), nullable=False),
    Column("after", Integer, nullable=False), Column("account_id", Text, nullable=False), Column("session_id", Text),
    Column("n_sessions", Integer, nullable=False), Column("state", String(16), nullable=False),
    Column("note", Text, nullable=False), Column("by", Text, nullable=False), Column("at", Float, nullable=False),
    Column("packed", LargeBinary, nullable=False),
    UniqueConstraint("account_key", "after"),  # two can't both follow the same one
    sqlite_autoincrement=True,
)  # fmt: skip


def opened(place: str) -> Engine:
    """The store at a file, or at a Postgres by its URL; it is begun where there is none.

    Raises:
        ValueError: when the place is neither, or a driver is missing.
    """
    return _postgres(place) if "://" in place else _sqlite(Path(place))


def lock(connection: Connection) -> None:
    """Let no other process do the same in Postgres until this transaction ends; SQLite's wait anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def make(connection: Connection) -> None:
    """Make the tables that are missing.

    Raises:
        ValueError: when there are other ones of these names.
    """
    lock(connection)
    METADATA.create_all(connection)
    for table in METADATA.sorted_tables:
        found = {column["name"] for column in inspect(connection).get_columns(table.name)}
        if not found >= set(table.columns.keys()):
            raise ValueError(f"its table {table.name} is another program's, or another version's")


def _sqlite(path: Path) -> Engine:
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    engine = create_engine(
        URL.create("sqlite", database=str(path)), hide_parameters=True, connect_args={"timeout": _WAIT_S}
    )

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions begin where they are said to
        for setting in ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -32768"):
            connection.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres(place: str) -> Engine:
    try:
        url = make_url(place)
        if url.drivername in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+pg8000")
        is_usual = url.drivername == "postgresql+pg8000"
        if url.get_backend_name() != "postgresql":
            raise ArgumentError
        return create_engine(
            url, hide_parameters=True, pool_pre_ping=True, pool_timeout=_WAIT_S,
            connect_args={"timeout": _WAIT_S} if is_usual else {},
        )  # fmt: skip
    except ModuleNotFoundError as fault:
        raise ValueError(
            f"a queue in Postgres needs: pip install 'stillwatch[postgres]' ({fault.name} is missing)"
        ) from None
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise ValueError("the review queue is in a file, or at a URL like postgresql://USER@HOST/NAME") from None
