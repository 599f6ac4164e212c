"""Stored cases: how verdicts become rows of the review queue, and which of them make room for others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from serve.analyst.review.cases import packed
from serve.analyst.review.tables import CASES, VERDICTS
from serve.scoring.verdict import Verdict
from serve.sessions.records import full_name

MAX_CASES = 250_000
"""Cases that are stored; beyond that the oldest that nobody decided are dropped."""

_ROWS = 500
_NAME = 256


def key_of(account_id: str, session_id: str | None = None) -> str:
    """A name of fixed length for an account, or for one of its sessions; no two have the same."""
    return hashlib.sha256(full_name(account_id, session_id).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def storable(text: str) -> str:
    """A text that both databases can hold."""
    return text.replace("\0", "\u2400").encode("utf-8", "replace").decode()


def _names(verdict: Verdict) -> str:
    """What a search looks into; short enough for an index of either database."""
    return "\n".join(storable(name).lower()[:_NAME] for name in (verdict.account_id, verdict.session_id))


def row_of(verdict: Verdict, now: float) -> dict[str, Any]:
    """A verdict as a row of cases, judged `now` (seconds since 1970)."""
    names = ("n_exchanges", "started_at", "ended_at", "score", "p_value", "threshold", "label", "bundle")
    return {name: getattr(verdict, name) for name in names} | {
        "key": key_of(verdict.account_id, verdict.session_id), "account_key": key_of(verdict.account_id),
        "account_id": storable(verdict.account_id), "session_id": storable(verdict.session_id), "judged_at": now,
        "state": "new" if verdict.is_harvesting else "", "areas": json.dumps(dict(verdict.area_share)),
        "names": _names(verdict),
    }  # fmt: skip


def known_accounts(connection: Connection, keys: set[str]) -> set[str]:
    """Those of these accounts that the queue has."""
    ordered, found = sorted(keys), set[str]()
    for at in range(0, len(ordered), _ROWS):
        part = CASES.c.account_key.in_(ordered[at : at + _ROWS])
        found |= set(connection.execute(select(CASES.c.account_key).where(part).distinct()).scalars())
    return found


def upsert(connection: Connection, pairs: Sequence[tuple[dict[str, Any], Verdict]], now: float) -> None:
    """Store rows and their verdicts in place of those of the same sessions, unless those were decided of.

    A flagged session that nobody decided of stays flagged where less of it is judged later: a client that sends a short
    request of the same session doesn't take it out of the queue.
    """
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(CASES)
    new = statement.excluded
    grown = and_(
        CASES.c.state == "cleared", new.state == "new", CASES.c.n_exchanges > 0,
        new.n_exchanges >= 2 * CASES.c.n_exchanges,
    )  # fmt: skip
    renewed = and_(CASES.c.state == "new", or_(new.state == "new", new.n_exchanges >= CASES.c.n_exchanges))
    changed = {name: new[name] for name in pairs[0][0] if name != "key"}
    statement = statement.on_conflict_do_update(
        index_elements=[CASES.c.key], set_=changed, where=or_(CASES.c.state == "", renewed, grown)
    )
    connection.execute(statement, [row for row, _ in pairs])
    keys = CASES.c.key.in_([row["key"] for row, _ in pairs])
    taken = set(connection.execute(select(CASES.c.key).where(keys, CASES.c.judged_at == now)).scalars())
    texts = dialect.insert(VERDICTS)
    texts = texts.on_conflict_do_update(index_elements=[VERDICTS.c.key], set_={"packed": texts.excluded.packed})
    if own := [{"key": row["key"], "packed": packed(verdict)} for row, verdict in pairs if row["key"] in taken]:
        connection.execute(texts, own)


def drop_oldest(connection: Connection) -> None:
    """Make room: drop the oldest cases that nobody decided of, where there are more than `MAX_CASES`."""
    n_over = connection.execute(select(func.count()).select_from(CASES)).scalar_one() - MAX_CASES
    if n_over <= 0:
        return
    undecided = CASES.c.state.in_(("", "new"))
    oldest = select(CASES.c.key).where(undecided).order_by(CASES.c.judged_at, CASES.c.key).limit(n_over)
    keys = connection.execute(oldest).scalars().all()
    for at in range(0, len(keys), _ROWS):
        for table in (CASES, VERDICTS):
            connection.execute(delete(table).where(table.c.key.in_(keys[at : at + _ROWS])))
