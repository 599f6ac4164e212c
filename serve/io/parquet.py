"""Parquet: exchanges from Parquet, one row an exchange."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from serve.io.discovery import InputError, Slice, fault_text, open_parquet
from serve.io.timestamps import parquet_times
from serve.io.validation import MISSING, REPLACED, SCHEMA, Batch, Rows, filled, ids
from serve.sessions.prompt_text import storable

_BATCH_BYTES = 8 << 20
_MAX_BATCH_ROWS = 65_536


def read_columns(part: Slice) -> Iterator[Batch]:
    """Rows of a slice of row groups, see `exchanges.read`."""
    path, fixed = part.source.path, dict(part.source.fixed)
    n_before = 0
    with open_parquet(path) as file:
        names = _columns(path, file, fixed)
        for group in range(part.start, part.stop):
            try:
                for batch in _record_batches(file, group, names):
                    yield _of_arrow(batch, n_before, fixed).checked({}, batch.num_rows)
                    n_before += batch.num_rows
            except (OSError, pa.ArrowException) as fault:
                raise InputError(f"{path}: row group {group} can't be read: {fault_text(fault)}") from fault


def _record_batches(file: pq.ParquetFile, group: int, names: list[str]) -> Iterator[pa.RecordBatch]:
    size = file.metadata.row_group(group)
    bytes_per_row = size.total_byte_size / max(size.num_rows, 1)
    n_rows = int(max(1, min(_MAX_BATCH_ROWS, _BATCH_BYTES / max(bytes_per_row, 1))))
    return iter(file.iter_batches(n_rows, row_groups=[group], columns=names, use_threads=False))


def _columns(path: str, file: pq.ParquetFile, fixed: Mapping[str, str]) -> list[str]:
    """The columns to read."""
    names = file.schema_arrow.names
    if twice := [name for name in SCHEMA.names if names.count(name) > 1]:
        raise InputError(f"{path}: has {names.count(twice[0])} columns {twice[0]}, expected 1")
    for name in MISSING:
        if name not in names and name not in fixed:
            raise InputError(f"{path}: has no column {name}, expected account_id and prompt")
    for name in ("account_id", "prompt", "session_id"):
        kind = file.schema_arrow.field(name).type if name in names else pa.null()
        if not (_is_text(kind) or (name != "prompt" and pa.types.is_integer(kind))):
            raise InputError(f"{path}: column {name} is {kind}, expected string")
    if "at" in names:
        _check_at(path, file.schema_arrow.field("at").type)
    return [name for name in SCHEMA.names if name in names]


def _check_at(path: str, kind: pa.DataType) -> None:
    try:
        parquet_times(pa.array([], kind), Counter())
    except ValueError as fault:
        raise InputError(f"{path}: {fault}") from fault


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    tests = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary,
        pa.types.is_large_binary, pa.types.is_null,
    )  # fmt: skip
    return any(test(kind) for test in tests)


def _of_arrow(batch: pa.RecordBatch, n_before: int, fixed: Mapping[str, str]) -> Rows:
    faults: dict[int, str] = {}
    notes: Counter[str] = Counter()
    absent = pa.nulls(batch.num_rows, pa.large_string())
    texts = {
        name: _arrow_texts(name, batch.column(name), faults, notes) if name in batch.schema.names else absent
        for name in ("account_id", "prompt", "session_id")
    }
    at = batch.column("at") if "at" in batch.schema.names else pa.nulls(batch.num_rows, pa.float64())
    return Rows(
        lines=np.arange(n_before + 1, n_before + 1 + batch.num_rows),
        account_id=filled(ids(texts["account_id"]), fixed.get("account_id")),
        session_id=filled(ids(texts["session_id"]), fixed.get("session_id")),
        at=parquet_times(at, notes),
        prompt=texts["prompt"],
        faults=faults,
        notes=notes,
    )


def _arrow_texts(name: str, column: pa.Array, faults: dict[int, str], notes: Counter[str]) -> pa.Array:
    """A column of texts, null where there is none or an id isn't UTF-8; prompts are mended."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type) or pa.types.is_integer(column.type):
        return column.cast(pa.large_string())
    raw = column.cast(pa.large_binary())
    try:
        return raw.cast(pa.large_string())
    except pa.ArrowInvalid:
        values = raw.to_pylist()
    if name == "prompt":
        return _mended(values, notes)
    return pa.array([_decoded(name, row, value, faults) for row, value in enumerate(values)], pa.large_string())


def _mended(values: list[bytes | None], notes: Counter[str]) -> pa.Array:
    """Prompts some of which aren't UTF-8: U+FFFD stands for what isn't, and for NULs."""
    texts = [value if value is None else storable(value.decode(errors="replace")) for value in values]
    notes[REPLACED] += sum(
        text is not None and text.encode() != value for text, value in zip(texts, values, strict=True)
    )
    return pa.array(texts, pa.large_string())


def _decoded(name: str, row: int, value: bytes | None, faults: dict[int, str]) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        faults.setdefault(row, f"{name} is not UTF-8")
        return None
