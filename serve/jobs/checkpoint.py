"""Work: the folder beside the verdicts where a job keeps what is done, so that it can stop anywhere and go on.

A task's files appear under their names only when complete, and the manifest lists a task only when its files are there.
What the manifest doesn't list is done again, to the same bytes.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

JOB, MANIFEST, LOCK = "job.json", "manifest.jsonl", "lock"


@dataclass(frozen=True, slots=True)
class SliceCount:
    """What was found in one slice of a file; `reasons` counts its rejects, `n_untimed` usable rows without a time (none
    in the manifest of a job that was begun before they were counted)."""

    path: str
    n_lines: int
    n_rows: int
    reasons: Mapping[str, int]
    n_untimed: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a task took: seconds of processor time by stage, the process that ran it, the most memory that ever held."""

    seconds: Mapping[str, float]
    process: str
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class ReadDone:
    """A share of the input that was read: rows kept by partition, rows of no sample, files written (name → bytes)."""

    index: int
    slices: tuple[SliceCount, ...]
    n_kept: tuple[int, ...]
    n_left_out: int
    files: Mapping[str, int]
    cost: Cost

    kind = "read"

    @classmethod
    def of(cls, line: dict[str, Any]) -> Self:
        """Read back from the manifest."""
        slices = tuple(SliceCount(**part) for part in line.pop("slices"))
        n_kept = tuple(line.pop("n_kept"))
        return cls(slices=slices, n_kept=n_kept, cost=Cost(**line.pop("cost")), **line)


@dataclass(frozen=True, slots=True)
class JudgeDone:
    """A partition that was judged, and the files written (name → bytes)."""

    index: int
    n_exchanges: int
    n_sessions: int
    n_accounts: int
    n_flagged: int
    n_flagged_accounts: int
    files: Mapping[str, int]
    cost: Cost

    kind = "judge"

    @classmethod
    def of(cls, line: dict[str, Any]) -> Self:
        """Read back from the manifest."""
        return cls(cost=Cost(**line.pop("cost")), **line)


Done = ReadDone | JudgeDone


class Work:
    """The folder, locked for one job."""

    def __init__(self, folder: Path, lock: BinaryIO) -> None:
        """See `Work.open`."""
        self.folder = folder
        self.reads: dict[int, ReadDone] = {}
        self.judgements: dict[int, JudgeDone] = {}
        self.processes: dict[str, int] = {}
        """The most memory that each process held which did a task since the folder was opened."""
        self._lock = lock

    @classmethod
    def open(cls, folder: Path, job: Mapping[str, Any], *, resume: bool) -> Self:
        """Take the folder for `job` (any JSON that tells jobs apart), with what was done before when `resume` is set.

        Raises:
            ValueError: when another job holds the folder, it is a stranger's, or it was begun for another job.
        """
        if folder.exists() and not (folder / LOCK).exists():
            raise ValueError(f"{folder} is in the way: it isn't the work folder of a job")
        folder.mkdir(exist_ok=True)
        lock = (folder / LOCK).open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise ValueError(f"{folder}: another job is at work there") from None
        work = cls(folder, lock)
        try:
            work._begin(json.loads(json.dumps(job)), resume=resume)
        except BaseException:
            lock.close()
            raise
        return work

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._lock.close()

    def add(self, done: Done) -> None:
        """Note that a task is done."""
        self._remember(done)
        self.processes[done.cost.process] = max(done.cost.peak_bytes, self.processes.get(done.cost.process, 0))
        with (self.folder / MANIFEST).open("a", encoding="utf-8") as manifest:
            manifest.write(_line(done))
            manifest.flush()
            os.fsync(manifest.fileno())

    def remove(self) -> None:
        """Delete the folder; the job is over."""
        (self.folder / JOB).unlink(missing_ok=True)
        shutil.rmtree(self.folder)

    @property
    def done(self) -> tuple[Done, ...]:
        """All that is done, in this run or before."""
        return (*self.reads.values(), *self.judgements.values())

    def _begin(self, job: dict[str, Any], *, resume: bool) -> None:
        path = self.folder / JOB
        if resume and path.exists():
            begun = json.loads(path.read_text(encoding="utf-8"))
            if other := [name for name in job if job[name] != begun.get(name)]:
                raise ValueError(f"{self.folder} was begun with another {', '.join(other)}: run without --resume")
            self._recall()
            return
        for entry in self.folder.iterdir():
            if entry.name != LOCK:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        _write(path, json.dumps(job))

    def _recall(self) -> None:
        """Take from the manifest what is whole: a line may be torn, a file may be gone."""
        path = self.folder / MANIFEST
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        for line in lines:
            fields = json.loads(line)
            done = ReadDone.of(fields) if fields.pop("kind") == ReadDone.kind else JudgeDone.of(fields)
            if all(_has_size(self.folder / name, size) for name, size in done.files.items()):
                self._remember(done)
        _write(path, "".join(map(_line, self.done)))

    def _remember(self, done: Done) -> None:
        if isinstance(done, ReadDone):
            self.reads[done.index] = done
        else:
            self.judgements[done.index] = done


def _line(done: Done) -> str:
    return json.dumps({"kind": done.kind, **dataclasses.asdict(done)}) + "\n"


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
