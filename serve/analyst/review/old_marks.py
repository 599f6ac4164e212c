"""Old marks: what analysts marked before there was a queue, taken into it once from the same file."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, inspect, text

from serve.scoring.verdict import Verdict

TABLE = "marks"


def take_marks(connection: Connection) -> list[tuple[Verdict, dict[str, Any]]]:
    """The marks of an older store, each as the verdict that it was on and as a decision; they are gone afterwards."""
    if connection.dialect.name != "sqlite" or TABLE not in inspect(connection).get_table_names():
        return []
    rows = connection.execute(text(f"SELECT * FROM {TABLE} ORDER BY at, account_id, session_id")).mappings().all()  # noqa: S608
    connection.execute(text(f"DROP TABLE {TABLE}"))
    return [_taken(dict(row)) for row in rows]


def _taken(row: dict[str, Any]) -> tuple[Verdict, dict[str, Any]]:
    is_harvesting = (row["verdict"] == "harvesting") == (row["mark"] == "confirmed")
    verdict = Verdict(
        row["session_id"], row["account_id"], 0, None, None, row["score"], row["p_value"], row["verdict"],
        row["score"], {}, {}, (), row["bundle"],
    )  # fmt: skip
    return verdict, {
        "state": "confirmed" if is_harvesting else "cleared", "note": row["note"], "by": row["by"], "at": row["at"],
    }  # fmt: skip
