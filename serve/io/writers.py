"""Writers: tables written as Parquet or JSON lines, by the end of the file's name, and in place only when complete."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_GROUP = 50_000
SEAL = "sha256"
"""Entry of a JSON file with the digest of the others."""


class Writer(Protocol):
    """Anything that tables of one schema can be added to."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...

    def add(self, table: pa.Table) -> None:
        """Write these rows after those before."""
        ...


class ParquetWriter:
    """Parquet with row groups of even size."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Begin a file at `path`."""
        self._waiting = schema.empty_table()
        self._file = pq.ParquetWriter(path, schema, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._file.write_table(self._waiting)
        self._file.close()

    def add(self, table: pa.Table) -> None:
        """See `Writer.add`."""
        self._waiting = pa.concat_tables([self._waiting, table])
        while len(self._waiting) >= ROWS_PER_GROUP:
            self._file.write_table(self._waiting.slice(0, ROWS_PER_GROUP).combine_chunks())
            self._waiting = self._waiting.slice(ROWS_PER_GROUP)


class JsonWriter:
    """One JSON object a line; times as ISO 8601 texts, maps as objects."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Begin a file at `path`."""
        self._file = path.open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()

    def add(self, table: pa.Table) -> None:
        """See `Writer.add`."""
        self._file.writelines(json_lines(table))


def json_lines(table: pa.Table) -> Iterator[str]:
    """The rows of a table as `JsonWriter` writes them, each with its line end."""
    for row in table.to_pylist(maps_as_pydicts="strict"):
        yield json.dumps(row, ensure_ascii=False, default=_plain) + "\n"


WRITERS: dict[str, type[ParquetWriter] | type[JsonWriter]] = {".parquet": ParquetWriter, ".jsonl": JsonWriter}


def locked(path: Path) -> BinaryIO:
    """The file, made where it is not there, and held until it is closed or its process ends.

    Raises:
        ValueError: when another process holds it, naming its folder.
    """
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ValueError(f"{path.parent}: another job is at work there") from None
    return file


def folder_fault(path: Path) -> str:
    """Why nothing can be made at an absolute path: its folder is missing or not writable; empty where something can."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    return "" if os.access(path.parent, os.W_OK | os.X_OK) else f"{path.parent} is not writable"


def check_places(outputs: Sequence[Path], inputs: Sequence[Path | str]) -> None:
    """Refuse output files that can't be written, are one and the same, or lie in an input.

    Raises:
        ValueError: naming the file.
    """
    places = [Path(os.path.realpath(path)) for path in outputs]
    for path, place in zip(outputs, places, strict=True):
        if places.count(place) > 1:
            raise ValueError(f"{path}: two outputs have the same name")
        if path.is_dir():
            raise ValueError(f"{path}: is a folder, expected a file to write")
        if fault := folder_fault(place):
            raise ValueError(f"{path}: can't be written, {fault}")
        for source in map(os.path.realpath, inputs):
            if place.is_relative_to(source):
                raise ValueError(f"{path}: output file lies in the input {source}")


def check_suffix(path: Path) -> None:
    """Refuse a name that doesn't say what to write.

    Raises:
        ValueError: naming what was expected.
    """
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f"{path}: output file must end in {' or '.join(WRITERS)}")


@contextmanager
def writing(path: Path, schema: pa.Schema, *, token: str = "", private: bool = False) -> Iterator[Writer]:
    """A writer to `path`, which is there only when all is written; see `replacing`."""
    with replacing(path, token=token, private=private) as part, WRITERS[path.suffix.lower()](part, schema) as writer:
        yield writer


def join(path: Path, parts: Sequence[Path], schema: pa.Schema) -> None:
    """Write files of the same kind, one after another, to `path`."""
    if path.suffix.lower() == ".parquet":
        with writing(path, schema) as writer:
            for table in _row_groups(parts):
                writer.add(table)
        return
    with replacing(path) as part, part.open("wb") as whole:
        for source in parts:
            with source.open("rb") as piece:
                shutil.copyfileobj(piece, whole, 1 << 20)


@contextmanager
def replacing(path: Path, *, token: str = "", private: bool = False) -> Iterator[Path]:
    """A name to write to, which becomes `path` at the end, on disk for good; it is removed when there is a fault.

    `token` tells apart processes that may write the same file at the same time; a `private` file is its owner's alone.
    """
    part = path.with_name(f".{path.name}{token}.part")
    try:
        if private:
            part.unlink(missing_ok=True)
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(listed: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the digest of all its other entries, by which a torn or changed one is known."""
    return {**listed, SEAL: _digest(listed)}


def check_seal(listed: Mapping[str, Any]) -> None:
    """Refuse an object that isn't as it was sealed; one without a digest passes.

    Raises:
        ValueError: with both digests.
    """
    if SEAL in listed and (found := _digest(listed)) != listed[SEAL]:
        raise ValueError(f"the digest {str(listed[SEAL])[:64]}, but its content makes {found}")


def _digest(listed: Mapping[str, Any]) -> str:
    entries = {key: value for key, value in listed.items() if key != SEAL}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _row_groups(parts: Sequence[Path]) -> Iterator[pa.Table]:
    for part in parts:
        with pq.ParquetFile(part) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} has no JSON form")
