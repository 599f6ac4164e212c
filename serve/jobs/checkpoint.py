"""Checkpoint: the folder beside the verdicts where a job keeps what is done, so that it can stop anywhere and go on.

A task's files appear under their names only when complete, and the manifest lists a task only when its files are there.
What the manifest doesn't list is done again, to the same bytes, and so is a file that isn't as it was written.

Spill files hold prompts. They rest here, readable by their owner alone, from the first task until the job ends; the
folder of a job that stopped stays until the job is resumed or somebody deletes the folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

from serve.io.writers import locked, sha256

JOB, MANIFEST, LOCK = "job.json", "manifest.jsonl", "lock"


@dataclass(frozen=True, slots=True)
class SliceCount:
    """What was found in one slice of a file; `reasons` counts its rejects, `n_untimed` usable rows without a time,
    `notes` what was made of usable rows (neither is in the manifest of a job that was begun before they were counted).
    """

    path: str
    n_lines: int
    n_rows: int
    reasons: Mapping[str, int]
    n_untimed: int = 0
    notes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a task took: seconds of processor time by stage, the process that ran it, the most memory that ever held."""

    seconds: Mapping[str, float]
    process: str
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class ReadDone:
    """A share of the input that was read: rows kept by partition, rows of no sample, files written (name → sha256)."""

    index: int
    slices: tuple[SliceCount, ...]
    n_kept: tuple[int, ...]
    n_left_out: int
    files: Mapping[str, str]
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
    """A partition that was judged, and the files written (name → sha256)."""

    index: int
    n_exchanges: int
    n_sessions: int
    n_accounts: int
    n_flagged: int
    n_flagged_accounts: int
    files: Mapping[str, str]
    cost: Cost
    n_altered: int = 0
    n_undecided: int = 0

    kind = "judge"

    @classmethod
    def of(cls, line: dict[str, Any]) -> Self:
        """Read back from the manifest."""
        return cls(cost=Cost(**line.pop("cost")), **line)


Done = ReadDone | JudgeDone


class Checkpoint:
    """The folder, locked for one job."""

    def __init__(self, folder: Path, lock: BinaryIO) -> None:
        """See `Checkpoint.open`."""
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
            ValueError: when another job holds the folder, it is a stranger's, others may write there, or it was begun
                for another job.
        """
        if folder.is_symlink():
            raise ValueError(f"{folder} is in the way: it is a link, expected a folder or nothing")
        if folder.exists() and not (folder / LOCK).exists():
            raise ValueError(f"{folder} is in the way: it isn't the work folder of a job")
        folder.mkdir(mode=0o700, exist_ok=True)
        _require_private(folder)
        lock = locked(folder / LOCK)
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
        if kind is not None and not self.done and self.folder.exists():
            self.remove()
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

    def keep(self, fits: Callable[[Done], bool]) -> None:
        """Keep what `fits`; anything else is done again."""
        self.reads = {index: done for index, done in self.reads.items() if fits(done)}
        self.judgements = {index: done for index, done in self.judgements.items() if fits(done)}

    def forget(self) -> None:
        """Keep nothing."""
        self.keep(lambda _: False)

    @property
    def done(self) -> tuple[Done, ...]:
        """All that is done, in this run or before."""
        return (*self.reads.values(), *self.judgements.values())

    def _begin(self, job: dict[str, Any], *, resume: bool) -> None:
        path = self.folder / JOB
        if resume and path.exists():
            begun = _begun(path)
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
            done = _entry(line)
            if done and all(_is_same(self.folder, name, digest) for name, digest in done.files.items()):
                self._remember(done)
        _write(path, "".join(map(_line, self.done)))

    def _remember(self, done: Done) -> None:
        if isinstance(done, ReadDone):
            self.reads[done.index] = done
        else:
            self.judgements[done.index] = done


def _line(done: Done) -> str:
    """An entry with a digest of itself, by which a changed or torn one is known."""
    text = json.dumps({"kind": done.kind, **dataclasses.asdict(done)})
    return f"{hashlib.sha256(text.encode()).hexdigest()} {text}\n"


def _entry(line: bytes) -> Done | None:
    """What a line of the manifest says, None where it isn't as it was written."""
    digest, _, text = line.partition(b" ")
    if digest != hashlib.sha256(text).hexdigest().encode():
        return None
    try:
        fields = json.loads(text)
        return ReadDone.of(fields) if fields.pop("kind") == ReadDone.kind else JudgeDone.of(fields)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):  # of another release
        return None


def _begun(path: Path) -> dict[str, Any]:
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as fault:
        raise ValueError(f"{path} can't be read ({type(fault).__name__}): run without --resume") from fault
    if not isinstance(begun, dict):
        raise ValueError(f"{path} holds a {type(begun).__name__}, expected an object: run without --resume")
    return begun


def _require_private(folder: Path) -> None:
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise ValueError(f"{folder} belongs to another user, expected a folder of one's own")
    folder.chmod(0o700)


def _is_same(folder: Path, name: str, digest: str) -> bool:
    path = folder / name
    return Path(name).name == name and path.is_file() and not path.is_symlink() and sha256(path) == digest


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
