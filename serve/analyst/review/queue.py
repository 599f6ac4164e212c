"""Review queue: sessions that were judged, their states, and the history of decisions, in SQLite or Postgres.

A flagged session enters as new. A decision covers what is there when it is taken; sessions of the account that come
later are new again. What was decided stays as it was judged then, except that a cleared session is new again where it
is still flagged at twice its size.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from serve.adaptation.label_files import Label
from serve.analyst.review.cases import (
    MAX_COUNTED,
    MAX_NOTE_CHARS,
    PAGE,
    STATES,
    Case,
    DecidedMeanwhileError,
    Decision,
    QueueDownError,
    QueuePage,
    Wanted,
    unpacked,
)
from serve.analyst.review.old_marks import take_marks
from serve.analyst.review.stored_cases import drop_oldest, key_of, known_accounts, row_of, storable, upsert
from serve.analyst.review.tables import CASES, DECISIONS, VERDICTS, WRITES, lock, make, opened
from serve.scoring.verdict import Verdict

MAX_DECISIONS = 1_000_000
"""Decisions that are stored; beyond that nobody can decide any more."""

MAX_OF_ACCOUNT = 500
"""Sessions and decisions of an account that are looked at, the last ones."""

_ROWS = 500
_ORDERS: dict[str, tuple[ColumnElement[Any], ...]] = {
    "p_value": (CASES.c.p_value, CASES.c.key), "score": (CASES.c.score.desc(), CASES.c.key.desc()),
    "n_exchanges": (CASES.c.n_exchanges.desc(), CASES.c.key.desc()),
    "latest": (CASES.c.judged_at.desc(), CASES.c.key.desc()), "account": (CASES.c.names, CASES.c.key),
}  # fmt: skip
_ONES = [column for column in CASES.c if column.name not in ("key", "account_key", "names", "decision")]


class ReviewQueue:
    """Cases and decisions; safe between threads and processes.

    Every method raises `QueueDownError` where the store does not answer.
    """

    def __init__(self, place: str) -> None:
        """Open the queue in a file, or in a Postgres by its URL, or begin it.

        Raises:
            ValueError: when it is something else.
        """
        self._engine = opened(place)
        self._writing = self._engine.execution_options(**{WRITES: True})
        try:
            with self._writing.begin() as connection:
                make(connection)
                for verdict, decision in take_marks(connection):
                    upsert(connection, [(row_of(verdict, decision["at"]), verdict)], decision["at"])
                    _decide(connection, verdict.account_id, verdict.session_id, decision)
        except SQLAlchemyError as fault:
            name = "the database" if "://" in place else place
            raise ValueError(f"{name} can't be used as a review queue ({type(fault).__name__})") from None
        except ValueError as fault:
            raise ValueError(f"{place if '://' not in place else 'the database'}: {fault}") from None

    def close(self) -> None:
        """Let go of its connections."""
        self._engine.dispose()

    def put(self, verdicts: Sequence[Verdict], *, stores_all: bool = False) -> int:
        """Store what was judged, the last verdict on each session; gives how many sessions were looked at.

        One that is not flagged is stored where the queue knows its account, or `stores_all`.
        """
        now = time.time()
        rows = {row["key"]: (row, verdict) for row, verdict in ((row_of(own, now), own) for own in verdicts)}
        with self._writes() as connection:
            known = {row["account_key"] for row, own in rows.values() if own.is_harvesting}
            known |= (
                set() if stores_all else known_accounts(connection, {row["account_key"] for row, _ in rows.values()})
            )
            wanted = [pair for pair in rows.values() if stores_all or pair[0]["account_key"] in known]
            for at in range(0, len(wanted), _ROWS):
                upsert(connection, wanted[at : at + _ROWS], now)
            if wanted:
                drop_oldest(connection)
        return len(wanted)

    def page(self, wanted: Wanted) -> QueuePage:
        """Cases in the order wanted."""
        where = [CASES.c.state == wanted.state if wanted.state != "all" else CASES.c.state.in_(STATES)]
        if wanted.text:
            where.append(CASES.c.names.contains(storable(wanted.text).lower(), autoescape=True))
        own, begin = select(CASES.c.key).where(*where).order_by(*_ORDERS[wanted.sort]), wanted.page * PAGE
        with self._reads() as connection:
            counted = select(CASES.c.state, func.count()).where(CASES.c.state.in_(STATES)).group_by(CASES.c.state)
            counts = dict.fromkeys(STATES, 0) | dict(iter(connection.execute(counted).tuples()))
            if wanted.text:  # looked for once, for what is shown and for how many there are
                found = connection.execute(own.limit(begin + MAX_COUNTED + 1)).scalars().all()
                n_found, keys = len(found), found[begin : begin + PAGE]
            else:
                n_found = sum(counts.values()) if wanted.state == "all" else counts[wanted.state]
                keys = connection.execute(own.limit(PAGE).offset(begin)).scalars().all()
            rows = connection.execute(select(*_ONES).where(CASES.c.key.in_(keys)).order_by(*_ORDERS[wanted.sort])).all()
        return QueuePage(wanted, tuple(map(_case, rows)), n_found, counts)

    def sessions(self, account_id: str) -> tuple[Case, ...]:
        """An account's cases in order of time, the last `MAX_OF_ACCOUNT`."""
        when = func.coalesce(CASES.c.started_at, CASES.c.judged_at)
        query = (
            select(*_ONES)
            .where(CASES.c.account_key == key_of(account_id))
            .order_by(when.desc(), CASES.c.session_id.desc())
        )
        with self._reads() as connection:
            rows = connection.execute(query.limit(MAX_OF_ACCOUNT)).all()
        return tuple(reversed([_case(row) for row in rows]))

    def session(self, account_id: str, session_id: str) -> tuple[Case, Verdict] | None:
        """One case and its verdict, None where the queue has none."""
        query = select(*_ONES, VERDICTS.c.packed).join(VERDICTS, VERDICTS.c.key == CASES.c.key)
        with self._reads() as connection:
            row = connection.execute(query.where(CASES.c.key == key_of(account_id, session_id))).one_or_none()
        return None if row is None else (_case(row), unpacked(row.packed))

    def decide(
        self, account_id: str, session_id: str | None, state: str, *, note: str = "", by: str = "",
        after: int | None = None,
    ) -> Decision | None:  # fmt: skip
        """Decide of one session, or of all of an account that are in the queue; None where there is none.

        `after` is the number of the account's last decision that was seen, 0 for none.

        Raises:
            ValueError: when the state is none that is known, or the note too long.
            DecidedMeanwhileError: when there is a later decision than that.
        """
        if state not in STATES or len(note) > MAX_NOTE_CHARS:
            raise ValueError(f"expected a state of {', '.join(STATES)} and a note of up to {MAX_NOTE_CHARS} characters")
        decision = {"state": state, "note": note, "by": by, "at": time.time()}
        with self._writes() as connection:
            return _decide(connection, account_id, session_id, decision, after)

    def decisions(self, account_id: str | None = None) -> tuple[Decision, ...]:
        """Decisions, the latest first; at most `MAX_OF_ACCOUNT`."""
        query = select(DECISIONS).order_by(DECISIONS.c.number.desc()).limit(MAX_OF_ACCOUNT)
        if account_id is not None:
            query = query.where(DECISIONS.c.account_key == key_of(account_id))
        with self._reads() as connection:
            return tuple(map(_decision, connection.execute(query).all()))

    def decision(self, number: int) -> Decision | None:
        """One decision, None where there is none of this number."""
        with self._reads() as connection:
            row = connection.execute(select(DECISIONS).where(DECISIONS.c.number == number)).one_or_none()
        return None if row is None else _decision(row)

    def labels(self) -> Iterator[Label]:
        """What was decided of each session, in order of accounts and sessions."""
        query: Select[Any] = (
            select(
                CASES.c.account_id, CASES.c.session_id, CASES.c.state, DECISIONS.c.by, DECISIONS.c.at, DECISIONS.c.note
            )
            .join(DECISIONS, DECISIONS.c.number == CASES.c.decision)
            .where(CASES.c.state.in_(STATES[1:]))
            .order_by(CASES.c.account_id, CASES.c.session_id)
        )
        with self._reads() as connection:
            for row in connection.execution_options(yield_per=_ROWS).execute(query):
                yield Label(*row)

    @contextmanager
    def _reads(self) -> Iterator[Connection]:
        with _reached(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writes(self) -> Iterator[Connection]:
        with _reached(), self._writing.begin() as connection:
            lock(connection)
            yield connection


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise DecidedMeanwhileError("somebody else decided of this account meanwhile: look again") from None
    except SQLAlchemyError as fault:
        raise QueueDownError(f"the review queue does not answer ({type(fault).__name__})") from None


def _decide(
    connection: Connection, account_id: str, session_id: str | None, decision: dict[str, Any], after: int | None = None
) -> Decision | None:
    own = key_of(account_id)
    covered = CASES.c.key == key_of(account_id, session_id)
    if session_id is None:
        covered = and_(CASES.c.account_key == own, CASES.c.state.in_(STATES))
    numbers = select(func.coalesce(func.max(DECISIONS.c.number), 0)).where(DECISIONS.c.account_key == own)
    last = connection.execute(numbers).scalar_one()
    if after is not None and after != last:
        raise DecidedMeanwhileError("somebody else decided of this account meanwhile: look again")
    n_sessions = connection.execute(select(func.count()).select_from(CASES).where(covered)).scalar_one()
    if not n_sessions:
        return None
    clearest = select(VERDICTS.c.packed).join(CASES, VERDICTS.c.key == CASES.c.key).where(covered)
    values = {name: storable(value) if isinstance(value, str) else value for name, value in decision.items()} | {
        "account_key": own, "after": last, "account_id": storable(account_id), "n_sessions": n_sessions,
        "session_id": None if session_id is None else storable(session_id),
        "packed": connection.execute(clearest.order_by(CASES.c.p_value, CASES.c.score.desc()).limit(1)).scalar_one(),
    }  # fmt: skip
    row = connection.execute(DECISIONS.insert().values(values).returning(*DECISIONS.c)).one()
    if row.number > MAX_DECISIONS:
        raise QueueDownError(f"the review queue is full: it holds {MAX_DECISIONS:,} decisions")
    connection.execute(update(CASES).where(covered).values(state=row.state, decision=row.number))
    return _decision(row)


def _case(row: Any) -> Case:
    values = {column.name: getattr(row, column.name) for column in _ONES}
    return Case(**values | {"areas": json.loads(row.areas)})


def _decision(row: Row[Any]) -> Decision:
    return Decision(
        row.number, row.account_id, row.session_id, row.n_sessions, row.state, row.note, row.by, row.at,
        unpacked(row.packed),
    )  # fmt: skip
