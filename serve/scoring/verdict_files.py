"""Verdict files: verdicts read back from the file that a batch job wrote, checked, as columns again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serve.io.discovery import InputError, fault_text
from serve.io.writers import check_suffix
from serve.scoring.explanation import EVIDENCE, REASON, Evidence, Explanation, Reason
from serve.scoring.verdict import LABELS, SCHEMA, Verdicts

_NONE = "none"
_ROWS = 20_000
_READ = pa.schema([SCHEMA.field(name) for name in (
    "session_id", "account_id", "n_exchanges", "started_at", "ended_at", "score", "p_value", "label", "threshold",
    "coverage", "area_share", "reasons", "bundle", "baseline", "rest", "evidence",
)])  # fmt: skip


def read_verdicts(path: Path) -> Verdicts:
    """The verdicts of a file, each account's together; a file that holds none is no fault.

    What a page does not need is left out: `systematicness` is NaN, `profile` None and `features` has no columns. Where
    verdicts are of several bundles, `bundle` lists them.

    Raises:
        InputError: naming the file, and the line where it is JSON lines, when it holds no verdicts.
    """
    table = read_table(path, _READ)
    _check(table, path)
    return _columns(table.take(_by_account(table.column("account_id"))))


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """The columns of `schema` from a Parquet or JSON lines file, as `outputs.writing` leaves them; others are left out.

    Raises:
        InputError: naming the file, and the line where it is JSON lines, when they aren't there.
    """
    try:
        check_suffix(path)
    except ValueError as fault:
        raise InputError(f"{path}: is to be read, but is neither Parquet nor JSON lines by its name") from fault
    if not path.is_file():
        raise InputError(f"{path} is not there, or no file")
    try:
        if path.suffix.lower() != ".parquet":
            return pa.concat_tables([schema.empty_table(), *_json_tables(path, schema)])
        found = pq.read_table(path)
        _require(set(found.column_names), schema, str(path))
        return found.select(schema.names).cast(schema)
    except (OSError, pa.ArrowException) as fault:
        raise InputError(f"{path}: {fault_text(fault)}") from fault


def _json_tables(path: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    maps = [field.name for field in schema if pa.types.is_map(field.type)]
    times = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    rows: list[dict[str, Any]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                rows.append(_row(line, f"{path}:{number}", schema, maps, times))
            if len(rows) == _ROWS:
                yield _table(rows, schema, f"{path}:{number - _ROWS + 1} to {number}")
                rows = []
    yield _table(rows, schema, str(path))


def _table(rows: list[dict[str, Any]], schema: pa.Schema, place: str) -> pa.Table:
    try:
        return pa.Table.from_pylist(rows, schema)
    except (pa.ArrowException, TypeError, OverflowError) as fault:
        # Arrow quotes the value it trips over, which may be anything.
        raise InputError(f"{place}: a value is not of its column's type ({type(fault).__name__})") from fault


def _row(line: bytes, place: str, schema: pa.Schema, maps: list[str], times: list[str]) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("not an object")
        _require(set(row), schema, place)
        for name in maps:
            row[name] = list(row[name].items())
        for name in times:
            row[name] = None if row[name] is None else datetime.fromisoformat(row[name])
    except InputError:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError) as fault:
        raise InputError(f"{place}: is no row of {', '.join(schema.names[:3])} … ({type(fault).__name__})") from fault
    return row


def _require(names: set[str], schema: pa.Schema, place: str) -> None:
    if missing := [name for name in schema.names if name not in names]:
        raise InputError(f"{place}: has no {', '.join(missing)}; expected what stillwatch score writes")


def _check(table: pa.Table, path: Path) -> None:
    """Refuse what no verdict can be: pages divide by these numbers and place marks by them."""
    for name in set(_READ.names) - {"started_at", "ended_at", "baseline", "rest"}:
        if table.column(name).null_count:
            raise InputError(f"{path}: column {name} has {table.column(name).null_count} nulls, expected none")
    for name in ("score", "p_value", "threshold"):
        values = _floats(table, name)
        if not ((values >= 0.0) & (values <= 1.0)).all():
            raise InputError(f"{path}: column {name} holds numbers that are not from 0 to 1")
    if (_ints(table, "n_exchanges") < 1).any():
        raise InputError(f"{path}: column n_exchanges holds numbers below 1")
    if strange := set(table.column("label").unique().to_pylist()) - set(LABELS):
        raise InputError(f"{path}: column label holds {len(strange)} other labels than {', '.join(LABELS)}")
    for name in ("coverage", "area_share"):
        shares = _shares(table, name, _names(table, name))
        if not ((shares >= 0.0) & (shares <= 1.0 + 1e-9)).all():
            raise InputError(f"{path}: column {name} holds shares that are not from 0 to 1")


def _by_account(column: pa.ChunkedArray) -> pa.Array:
    codes = column.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return pa.array(np.argsort(codes, kind="stable"))


def _columns(table: pa.Table) -> Verdicts:
    areas = tuple(sorted({*_names(table, "coverage"), *_names(table, "area_share")} - {_NONE}))
    return Verdicts(
        areas=areas,
        session_ids=tuple(table.column("session_id").to_pylist()),
        account_ids=tuple(table.column("account_id").to_pylist()),
        n_exchanges=_ints(table, "n_exchanges"),
        started_at=_seconds(table, "started_at"),
        ended_at=_seconds(table, "ended_at"),
        score=_floats(table, "score"),
        p_value=_floats(table, "p_value"),
        label=np.array(table.column("label").to_pylist(), dtype=f"<U{max(map(len, LABELS))}"),
        threshold=_floats(table, "threshold"),
        coverage=_shares(table, "coverage", areas),
        area_share=_shares(table, "area_share", (*areas, _NONE)),
        explanations=tuple(_explanations(table)),
        evidence=tuple(
            tuple(Evidence(*(row[name] for name in EVIDENCE.names)) for row in own)
            for own in table.column("evidence").to_pylist()
        ),
        bundle=", ".join(sorted(table.column("bundle").unique().to_pylist())),
        systematicness=np.full(len(table), np.nan),
        profile=(None,) * len(table),
        features=np.zeros((len(table), 0)),
    )


def _explanations(table: pa.Table) -> Iterator[Explanation]:
    columns = (table.column(name).to_pylist() for name in ("baseline", "reasons", "rest"))
    for baseline, rows, rest in zip(*columns, strict=True):
        yield Explanation(baseline, tuple(Reason(**{name: row[name] for name in REASON.names}) for row in rows), rest)


def _floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    return np.asarray(table.column(name).to_numpy(), dtype=np.float64)


def _ints(table: pa.Table, name: str) -> NDArray[np.int64]:
    return np.asarray(table.column(name).to_numpy(), dtype=np.int64)


def _seconds(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Seconds since 1970, NaN where unknown."""
    milliseconds = table.column(name).cast(pa.int64()).combine_chunks()
    known = milliseconds.is_valid().to_numpy(zero_copy_only=False)
    return np.where(known, milliseconds.fill_null(0).to_numpy(zero_copy_only=False) / 1000.0, np.nan)


def _names(table: pa.Table, name: str) -> list[str]:
    keys = table.column(name).combine_chunks().keys
    return [str(key) for key in keys.unique().to_pylist()]


def _shares(table: pa.Table, name: str, names: tuple[str, ...] | list[str]) -> NDArray[np.float64]:
    """A map column as shape (n_rows, n_names), 0 where a name is not in the map."""
    column = table.column(name).combine_chunks()
    dense = np.zeros((len(table), len(names)))
    if not len(table) or not len(column.keys):
        return dense
    encoded = column.keys.dictionary_encode()
    place = {key: position for position, key in enumerate(names)}
    columns = np.array([place.get(key, -1) for key in encoded.dictionary.to_pylist()], dtype=np.int64)
    offsets = column.offsets.to_numpy()
    rows = np.repeat(np.arange(len(table)), np.diff(offsets))
    found = columns[encoded.indices.to_numpy()]
    items = np.asarray(column.items.to_numpy(zero_copy_only=False), dtype=np.float64)
    dense[rows[found >= 0], found[found >= 0]] = items[found >= 0]
    return dense
