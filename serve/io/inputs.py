"""Inputs: what a command is given to read, as files of plain rows; logs of other formats are imported first."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from serve.io.discovery import InputError, below, kind_of, located
from serve.io.formats import columns
from serve.io.import_folder import REJECTS, has_import, imported_before, imported_files, make_folder, write_manifest
from serve.io.importing import SCHEMA, Choice, Import, Reading, Watcher, format_of, require_rows
from serve.io.log_files.files import Log
from serve.io.log_files.opening import LogError
from serve.io.logs.requests import Format
from serve.io.writers import Writer, check_places, check_suffix, writing

_HEAD_LINES = 20


@dataclass(frozen=True, slots=True)
class Inputs:
    """Files and folders of plain rows, and what was found in logs of other formats.

    `rejects` is a file of the rows that couldn't be imported; `left_out` counts files of folders by suffix.
    """

    paths: tuple[Path, ...]
    readings: tuple[Reading, ...]
    rejects: Path
    left_out: Counter[str]

    @property
    def n_rejected(self) -> int:
        """Rows of logs that can't be understood."""
        return sum(reading.rejected.total() for reading in self.readings)

    def lines(self) -> Iterator[str]:
        """For people: what was read as what."""
        yield from (reading.line() for reading in self.readings)
        if self.n_rejected:
            reasons = sum((reading.rejected for reading in self.readings), Counter[str]())
            yield f"{self.n_rejected:,} rows rejected: {_counted(reasons)}"
        if self.left_out:
            yield f"left out: {_counted(self.left_out)}"

    def is_clean(self, max_share: float) -> bool:
        """Whether no more than this share of the logs' rows was rejected."""
        n_rows = sum(r.n_requests + r.skipped.total() + r.rejected.total() for r in self.readings)
        return self.n_rejected <= max_share * n_rows


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{n:,} {name or 'files without suffix'}" for name, n in counts.most_common())


@contextmanager
def prepared(
    locations: Sequence[str | Path],
    folder: Path,
    choice: Choice,
    *,
    each_file: bool = False,
    resume: bool | None = None,
    watcher: Watcher | None = None,
) -> Iterator[Inputs]:
    """Inputs to read, with imported logs in `folder`, which is removed at the end.

    With `resume`, what an earlier run imported is used again if its logs are the same and its files as it wrote them;
    a command that can't be resumed gives None. The folder of one that can stays where it was interrupted or stopped (a
    `RuntimeError`) after all logs were imported, or where there was an import to resume. `each_file` imports every log
    on its own, so that it can be told later whether it was read before. `watcher` is told how far reading is.

    Raises:
        InputError: when an input isn't there, or something else is in the folder's place.
        ValueError: when another job is at work in the folder.
        LogError: when a log is of no known format, or can't be read on.
    """
    lock = make_folder(folder)
    is_resumed, is_whole, is_kept = bool(resume) and has_import(folder), False, False
    try:
        inputs = _prepared(located(map(str, locations), folder), folder, choice, each_file, resume, watcher)
        is_whole = resume is not None and bool(inputs.readings)
        yield inputs
    except BaseException as fault:
        is_kept = is_resumed or (is_whole and (isinstance(fault, RuntimeError) or not isinstance(fault, Exception)))
        raise
    finally:
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _prepared(
    paths: Sequence[Path],
    folder: Path,
    choice: Choice,
    each_file: bool,
    resume: bool | None,
    watcher: Watcher | None,
) -> Inputs:
    plain, logs, left_out = _sorted_out(paths, choice)
    marks = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path, _ in logs]
    identity: dict[str, object] = {"logs": marks, "form": choice.form, "columns": dict(choice.columns)}
    rejects = folder / REJECTS
    readings = imported_before(folder, identity) if resume else None
    if readings is None:
        readings = _import_all(logs, folder, each_file, watcher)
        if not plain:
            require_rows(readings)
        if not plain and not readings:
            pq.write_table(SCHEMA.empty_table(), folder / "imported-empty.parquet")
        write_manifest(folder, identity, readings)
    return Inputs((*plain, *imported_files(folder)), readings, rejects, left_out)


def _sorted_out(paths: Sequence[Path], choice: Choice) -> tuple[list[Path], list[tuple[Path, Format]], Counter[str]]:
    """Paths of plain rows, logs with their formats, and files of folders that are neither."""
    plain, logs, left_out = list[Path](), list[tuple[Path, Format]](), Counter[str]()
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} doesn't exist")
        files = [path] if path.is_file() else list(below(path))
        own = [(file, _format(file, choice, is_named=path.is_file())) for file in files]
        left_out.update(file.suffix for file, form in own if form == "unknown")
        if path.is_dir() and files and not any(isinstance(form, Format) for _, form in own):
            plain.append(path)
            continue
        plain += [file for file, form in own if form == "plain"]
        logs += [(file, form) for file, form in own if isinstance(form, Format)]
    return plain, logs, left_out


def _format(file: Path, choice: Choice, *, is_named: bool) -> Format | str:
    """A log's format; `plain` for rows of the contract, `empty`, or `unknown` for a file of a folder."""
    if not (choice.form or choice.columns) and kind_of(file) and _is_plain(file):
        return "plain"
    try:
        return format_of(Log(file), choice) or "empty"
    except LogError:
        if is_named or kind_of(file):
            raise
        return "unknown"


def _is_plain(file: Path) -> bool:
    """Whether a file has accounts and texts as prompts under these names, in a layout that the fast reader takes."""
    log = Log(file)
    try:
        return _has_plain_rows(log, file)
    except (LogError, OSError, pa.ArrowException):
        return True  # the reader of plain rows says what is wrong with it, and where


def _has_plain_rows(log: Log, file: Path) -> bool:
    if log.kind == "parquet":
        schema = pq.read_schema(file)
        return _are_plain(_names(schema.names, file)) and not pa.types.is_nested(schema.field("prompt").type)
    if log.kind != "lines" or not _is_utf8_lines(file):
        return False
    rows = log.sample.objects[:_HEAD_LINES]
    return (
        bool(rows)
        and all(_are_plain(_names(row, file)) for row in rows[:1])
        and all(not isinstance(row.get("prompt"), list | dict) for row in log.sample.objects)
    )


def _are_plain(names: set[str]) -> bool:
    """Whether the columns have the names of the contract: the required ones, and each other one that can be told."""
    return {"account_id", "prompt"} <= names and all(
        columns.named(sorted(names)).get(field, field) == field
        for field in ("account_id", "session_id", "at", "prompt")
    )


def _names(names: Iterable[str], file: Path) -> set[str]:
    """Names of columns, also of those that the file's folders give."""
    return set(names) | {part.split("=", 1)[0] for part in file.parts[:-1] if "=" in part}


def _is_utf8_lines(file: Path) -> bool:
    """Whether a file is UTF-8, gzipped only if its name says so, with lines that end with a line feed."""
    with file.open("rb") as stream:
        head = stream.read(1 << 16)
    is_gzip = head.startswith(b"\x1f\x8b")
    if is_gzip or head.startswith((b"\x28\xb5\x2f\xfd", b"\xff\xfe", b"\xfe\xff")):
        return is_gzip and kind_of(file) == "gzip"
    return kind_of(file) == "jsonl" and (b"\n" in head or b"\r" not in head)


def _import_all(
    logs: Sequence[tuple[Path, Format]], folder: Path, each_file: bool, watcher: Watcher | None
) -> tuple[Reading, ...]:
    for path in folder.glob("imported-*"):
        path.unlink()
    (folder / REJECTS).write_text("")
    return tuple(_import(own, folder, each_file, watcher) for own in _groups(logs, each_file))


@dataclass(frozen=True, slots=True)
class _Group:
    """Logs that are read together: of one format, or a single one."""

    form: Format
    paths: tuple[Path, ...]


def _groups(logs: Sequence[tuple[Path, Format]], each_file: bool) -> list[_Group]:
    paths: dict[tuple[str, Path | None], list[Path]] = {}
    forms = {form.name: form for _, form in logs}
    for path, form in logs:
        paths.setdefault((form.name, path if each_file else None), []).append(path)
    return [_Group(forms[name], tuple(own)) for (name, _), own in paths.items()]


def _import(group: _Group, folder: Path, each_file: bool, watcher: Watcher | None) -> Reading:
    name = group.form.name
    if each_file:
        name += f"-{hashlib.sha256(str(group.paths[0]).encode()).hexdigest()[:12]}"
    out = folder / f"imported-{name}.parquet"
    with writing(out, SCHEMA) as writer:
        reading = _read(group, writer, folder, watcher)
    newest = max(path.stat().st_mtime_ns for path in group.paths)
    os.utime(out, ns=(newest, newest))
    return reading


def _read(
    group: _Group, writer: Writer, folder: Path, watcher: Watcher | None, *, with_system: bool = False
) -> Reading:
    """Write the plain rows of logs of one format, and rows that can't be understood to a file in `folder`."""
    sizes = [path.stat().st_size for path in group.paths]
    job = Import(group.form, folder, sum(sizes), with_system=with_system)
    if watcher:
        watcher.begin(f"read {group.form.title}", 0)
    with (folder / REJECTS).open("a", encoding="utf-8") as rejects:
        for place, path in enumerate(group.paths):
            job.read(Log(path, _watch(watcher, sum(sizes[:place]), sum(sizes))), rejects)
    job.write(writer, watcher)
    return job.reading


def _watch(watcher: Watcher | None, n_before: int, n_all: int) -> Callable[[int], None] | None:
    """What tells the watcher of bytes of a log, `n_before` of earlier logs being read."""
    if watcher is None:
        return None
    return lambda n_read: watcher.tell(n_before + n_read >> 20, n_all >> 20, "MiB")


def import_to(
    locations: Sequence[str], out: Path, choice: Choice, rejects: Path | None = None, watcher: Watcher | None = None
) -> Inputs:
    """Write the plain rows of logs of any formats to `out`, and rows that can't be understood to `rejects`.

    `watcher` is told how far reading is.

    Raises:
        ValueError: when an input isn't there, is of no known format or can't be read on, or `out` says no kind.
    """
    check_suffix(out)
    check_places((out, *([rejects] if rejects else [])), locations)
    with tempfile.TemporaryDirectory(prefix="stillwatch.") as name:
        folder = Path(name)
        plain, logs, left_out = _sorted_out(located(locations, folder), choice)
        logs = [*((file, columns.FORMAT) for path in plain for file in _plain_files(path)), *logs]
        with writing(out, SCHEMA) as writer:
            groups = _groups(logs, each_file=False)
            readings = tuple(_read(group, writer, folder, watcher, with_system=True) for group in groups)
        found = (folder / REJECTS).read_bytes() if (folder / REJECTS).exists() else b""
    if rejects:
        rejects.write_bytes(found)
    return Inputs((out,), readings, rejects or out, left_out)


def _plain_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in below(path) if kind_of(file)]
