"""Growing files: which parts of files of plain rows are new since they were looked at last, whatever rotates them.

A file of lines is known by its inode and its first bytes, so it is found again under another name of its folder. Every
other kind of file is a part: it is read once, when it is whole.
"""

from __future__ import annotations

import fnmatch
import glob
import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serve.io.discovery import InputError, Slice, Source, below, fault_text, fixed_columns, kind_of, open_parquet

_HEAD_BYTES = 512
_STEP_BYTES = 32 << 20
_BLOCK_BYTES = 1 << 16

Identity = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a file is read: `n_bytes` from its beginning, `n_lines` lines. `head` is a digest of its first bytes."""

    identity: Identity
    path: str
    kind: str
    head: str = ""
    n_bytes: int = 0
    n_lines: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """New rows of a file: where they are, and its mark once they are read (but for the count of lines)."""

    part: Slice
    after: Mark


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found: marks that are still of use, those of files to read and where each is now, and sentences on
    what isn't as expected."""

    marks: tuple[Mark, ...]
    places: tuple[tuple[Mark, Path], ...]
    warnings: tuple[str, ...]


def files_of(locations: Sequence[str]) -> list[Path]:
    """The files of plain rows that are there now: those named, of folders and of patterns; the oldest first."""
    found: dict[Path, None] = {}
    for location in locations:
        path = Path(location)
        named = [path] if path.exists() else [Path(name) for name in sorted(glob.glob(location, recursive=True))]
        for own in named:
            files = below(own) if own.is_dir() else iter([own])
            found |= dict.fromkeys(file for file in files if kind_of(file))
    return sorted(found, key=lambda path: (_modified(path), path))


def look(locations: Sequence[str], marks: Mapping[Identity, Mark]) -> Look:
    """Which files are there, and how far each was read, given what is known of files.

    A file of lines that was moved to another name of its folder is read to its end before the others.
    """
    present = {identity: path for path in files_of(locations) if (identity := _identity(path)) is not None}
    here: dict[Identity, Mark] = {}
    warnings: list[str] = []
    for identity, path in present.items():
        here[identity], warning = _seen(identity, path, marks, present)
        warnings += [warning] if warning else []
    gone = [mark for mark in marks.values() if mark.identity not in here]
    moved = [(mark, place) for mark in gone if _covers(locations, mark.path) and (place := _moved(mark)) is not None]
    others = [mark for mark in gone if not _covers(locations, mark.path) and os.path.exists(mark.path)]
    kept = (*here.values(), *(mark for mark, _ in moved), *others)
    return Look(kept, (*moved, *((mark, Path(mark.path)) for mark in here.values())), tuple(warnings))


def _seen(
    identity: Identity, path: Path, marks: Mapping[Identity, Mark], present: Mapping[Identity, Path]
) -> tuple[Mark, str]:
    """The mark of a file that is there, and a sentence where something is not as expected."""
    known, fresh = marks.get(identity), Mark(identity, str(path), kind_of(path) or "")
    if fresh.kind == "jsonl":
        if known is None or _begins_alike(known, path):
            return (fresh if known is None else replace(known, path=str(path))), ""
        is_cut = known.path == str(path)
        cut = f"{path} was cut: it is read from its beginning, and what was not read before is lost"
        return fresh, cut if is_cut else ""
    if known is not None and (not known.n_bytes or _size(path) == known.n_bytes):
        return replace(known, path=str(path)), ""
    earlier = next((own for own in marks.values() if own.path == str(path) and own.n_bytes), None)
    if earlier is not None and (earlier.identity == identity or earlier.identity not in present):
        read = replace(fresh, n_bytes=max(_size(path), 1))
        return read, f"{path} has changed since it was read: it is not read again"
    if fresh.kind == "gzip" and _digest(path, _HEAD_BYTES, gzip.open) in {
        own.head for own in marks.values() if own.n_bytes >= _HEAD_BYTES
    }:
        read = replace(fresh, n_bytes=max(_size(path), 1))
        return read, f"{path} is a compressed copy of a file that was read: it is not read again"
    return fresh, ""


def pieces(mark: Mark, place: Path) -> Iterator[Piece]:
    """What is new in a file, piece by piece, each of some megabytes; of lines only whole ones.

    Raises:
        InputError: when it can't be read, or is a part that isn't whole yet.
    """
    source = _source(mark, place)
    if mark.kind != "jsonl":
        if not mark.n_bytes:
            _require_whole(source)
            yield Piece(_all_of(source), replace(mark, n_bytes=max(source.size, 1)))
        return
    while (stop := _line_end(place, mark.n_bytes)) > mark.n_bytes:
        after = replace(mark, n_bytes=stop, head=_digest(place, min(stop, _HEAD_BYTES)))
        yield Piece(Slice(source, mark.n_bytes, stop), after)
        mark = after


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _covers(locations: Sequence[str], path: str) -> bool:
    """Whether a file of this name is followed, where it is there."""
    return any(path == own or Path(path).is_relative_to(own) or fnmatch.fnmatch(path, own) for own in locations)


def _begins_alike(mark: Mark, path: Path) -> bool:
    """Whether a file of lines begins with what was read of it."""
    return _size(path) >= mark.n_bytes and _digest(path, min(mark.n_bytes, _HEAD_BYTES)) == mark.head


def _moved(mark: Mark) -> Path | None:
    """Where in its folder a file of lines is that has another name now."""
    if mark.kind != "jsonl":
        return None
    try:
        entries = [Path(entry.path) for entry in os.scandir(Path(mark.path).parent)]
    except OSError:
        return None
    return next((path for path in entries if _identity(path) == mark.identity and _begins_alike(mark, path)), None)


def _source(mark: Mark, place: Path) -> Source:
    """The file as readers take it, by its old name's kind and folders wherever it is now."""
    try:
        status = place.stat()
    except OSError as fault:
        raise InputError(f"{place}: {fault_text(fault)}") from fault
    return Source(str(place), mark.kind, status.st_size, status.st_mtime_ns, fixed_columns(Path(mark.path)))


def _all_of(source: Source) -> Slice:
    if source.kind != "parquet":
        return Slice(source, 0, source.size)
    with open_parquet(source.path) as file:
        return Slice(source, 0, file.metadata.num_row_groups)


def _require_whole(source: Source) -> None:
    """Refuse a Parquet file without its end; other parts say so when they are read."""
    if source.kind == "parquet":
        open_parquet(source.path).close()


def _line_end(path: Path, begin: int) -> int:
    """Behind the last whole line that begins within a step of `begin`; `begin` itself where there is none."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            stop = min(size, begin + _STEP_BYTES)
            while stop > begin:
                start = max(begin, stop - _BLOCK_BYTES)
                file.seek(start)
                if (place := file.read(stop - start).rfind(b"\n")) >= 0:
                    return start + place + 1
                stop = start
            return _long_line_end(file.fileno(), begin + _STEP_BYTES, size) or begin
    except OSError as fault:
        raise InputError(f"{path}: {fault_text(fault)}") from fault


def _long_line_end(descriptor: int, start: int, size: int) -> int:
    """Behind the first line end from `start` on, 0 where there is none."""
    while start < size and (block := os.pread(descriptor, _BLOCK_BYTES, start)):
        if (place := block.find(b"\n")) >= 0:
            return start + place + 1
        start += len(block)
    return 0


def _digest(path: Path, n_bytes: int, opened: Callable[[Path, str], Any] = open) -> str:
    """Of the first bytes of a file, or of what is compressed in it."""
    try:
        with opened(path, "rb") as file:
            return hashlib.blake2b(file.read(n_bytes), digest_size=16).hexdigest()
    except (OSError, EOFError, zlib.error):
        return "unreadable"
