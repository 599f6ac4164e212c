"""Discovery: which files are meant and hold exchanges, and how reading them is shared out."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

SUFFIXES = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".jsonl.gz": "gzip", ".ndjson.gz": "gzip",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
"""How a file is read, by the end of its name."""

_EXPANSION = {"jsonl": 1.0, "gzip": 4.0, "parquet": 2.5}
_FROM_FOLDERS = ("account_id", "session_id")
_QUOTED = re.compile(r"['\"`].*['\"`]", re.DOTALL)


class InputError(ValueError):
    """An input that can't be read: names the file and says what is wrong; never quotes a prompt."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file of exchanges; `fixed` are columns that its folders name (`account_id=a1/`), as in Hive tables."""

    path: str
    kind: str
    size: int
    modified_ns: int
    fixed: tuple[tuple[str, str], ...] = ()

    @property
    def text_bytes(self) -> int:
        """A guess at the bytes of text in the file."""
        return int(self.size * _EXPANSION[self.kind])


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of a source that is read in one go: bytes of JSONL, row groups of Parquet, all of a gzip file."""

    source: Source
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Found:
    """Sources in the order they are read, and how many files of folders were left out as being of another kind."""

    sources: tuple[Source, ...]
    n_ignored: int

    @property
    def text_bytes(self) -> int:
        """A guess at the bytes of text in all sources."""
        return sum(source.text_bytes for source in self.sources)


def discover(paths: Sequence[Path]) -> Found:
    """Files to read: those named, and those below folders, by name; hidden files and `_files` of folders are skipped.

    Raises:
        InputError: when a path doesn't exist, is of no known kind, or there is no file at all.
    """
    sources: dict[str, Source] = {}
    n_ignored = 0
    for path in paths:
        if path.is_dir():
            files = tuple(below(path))
            known = [file for file in files if kind_of(file)]
            n_ignored += len(files) - len(known)
        elif path.exists():
            known = [path]
        else:
            raise InputError(f"{path} doesn't exist")
        for file in known:
            sources.setdefault(os.path.realpath(file), _source(file))
    if not sources:
        raise InputError(f"{', '.join(map(str, paths))}: no file ends with {', '.join(SUFFIXES)}")
    return Found(tuple(sources.values()), n_ignored)


def located(locations: Iterable[str], folder: Path) -> tuple[Path, ...]:
    """Files and folders that are meant: paths, patterns, `-` for standard input, and URLs such as `s3://bucket/key`.

    Standard input and what a URL names are copied into `folder`.

    Raises:
        InputError: when something isn't there.
    """
    return tuple(path for location in locations for path in _located(str(location), folder))


def _located(location: str, folder: Path) -> list[Path]:
    if location == "-":
        copy = folder / "stdin"
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        return [copy]
    if "://" in location:
        return [_copied(location, folder)]
    path = Path(location)
    found = [] if path.exists() else [Path(name) for name in sorted(glob.glob(location, recursive=True))]
    return found or [path]


def _copied(url: str, folder: Path) -> Path:
    target = folder / f"copy-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    try:
        source, path = fs.FileSystem.from_uri(url)
        info = source.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise InputError(f"{url} doesn't exist")
        place = target if info.type == fs.FileType.Directory else target / Path(path).name
        place.parent.mkdir(exist_ok=True, parents=True)
        fs.copy_files(path, str(place), source_filesystem=source, destination_filesystem=fs.LocalFileSystem())
    except (OSError, ValueError, pa.ArrowException) as fault:
        if isinstance(fault, InputError):
            raise
        raise InputError(f"{url}: can't be read: {type(fault).__name__}") from None
    return place


def plan(sources: Sequence[Source], n_bytes: int) -> tuple[tuple[Slice, ...], ...]:
    """Shares of about `n_bytes` of text, one a task, in reading order: many small files, or a part of a large one.

    Raises:
        InputError: when a file can't be opened.
    """
    shares: list[tuple[Slice, ...]] = []
    open_share: list[Slice] = []
    filled = 0
    for source in sources:
        for part, size in _slices(source, n_bytes):
            if open_share and filled + size > n_bytes:
                shares.append(tuple(open_share))
                open_share, filled = [], 0
            open_share.append(part)
            filled += size
    return (*shares, tuple(open_share)) if open_share else tuple(shares)


def open_parquet(path: str) -> pq.ParquetFile:
    """A Parquet file, read through small buffers.

    Raises:
        InputError: when it isn't one.
    """
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except (OSError, pa.ArrowException) as fault:
        raise InputError(f"{path}: {fault_text(fault)}") from fault


def fault_text(fault: BaseException) -> str:
    """What an error of the system or of Arrow says, on one line, without what it quotes: that may be a prompt."""
    text = fault.strerror if isinstance(fault, OSError) and fault.strerror else _QUOTED.sub("'...'", str(fault))
    return " ".join(text.split())[:200] or type(fault).__name__


def _source(path: Path) -> Source:
    kind = kind_of(path)
    if kind is None:
        raise InputError(f"{path}: exchanges are read from files that end with {', '.join(SUFFIXES)}")
    status = path.stat()
    return Source(str(path), kind, status.st_size, status.st_mtime_ns, fixed_columns(path))


def fixed_columns(path: Path) -> tuple[tuple[str, str], ...]:
    """Columns that the folders of a file name, see `Source.fixed`."""
    pairs = (part.split("=", 1) for part in path.parts[:-1] if "=" in part)
    return tuple((name, unquote(value)) for name, value in pairs if name in _FROM_FOLDERS and value)


def kind_of(path: Path) -> str | None:
    """How a file of plain rows is read, by the end of its name; None for other names."""
    return next((kind for suffix, kind in SUFFIXES.items() if path.name.lower().endswith(suffix)), None)


def below(folder: Path) -> Iterator[Path]:
    """Files of a folder and its folders, by name; hidden ones and `_files` are left out."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir():
            yield from below(entry)
        else:
            yield entry


def _slices(source: Source, n_bytes: int) -> Iterator[tuple[Slice, int]]:
    """Slices of a source, each with the bytes of text that it holds."""
    if source.kind == "parquet":
        yield from _row_groups(source, n_bytes)
    elif source.kind == "gzip":
        yield Slice(source, 0, source.size), source.text_bytes
    else:
        yield from _line_ranges(source, n_bytes)


def _row_groups(source: Source, n_bytes: int) -> Iterator[tuple[Slice, int]]:
    with open_parquet(source.path) as file:
        sizes = [file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups)]
    start, filled = 0, 0
    for group, size in enumerate(sizes):
        if filled and filled + size > n_bytes:
            yield Slice(source, start, group), filled
            start, filled = group, 0
        filled += size
    yield Slice(source, start, len(sizes)), filled


def _line_ranges(source: Source, n_bytes: int) -> Iterator[tuple[Slice, int]]:
    """Ranges of bytes that begin and end where lines do."""
    try:
        with open(source.path, "rb") as file:
            start = 0
            while start + n_bytes < source.size:
                file.seek(start + n_bytes)
                while (part := file.readline(1 << 20)) and not part.endswith(b"\n"):
                    pass
                yield Slice(source, start, file.tell()), file.tell() - start
                start = file.tell()
    except OSError as fault:
        raise InputError(f"{source.path}: {fault_text(fault)}") from fault
    if start < source.size or not source.size:
        yield Slice(source, start, source.size), source.size - start
