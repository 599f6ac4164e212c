"""Tasks: the work of a job, from files to files; reading the input is the first task of every job."""

from __future__ import annotations

import functools
import json
import os
import resource
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TextIO, TypeVar

import numpy as np
import pyarrow as pa

from serve.io.discovery import Slice, fault_text
from serve.io.reading import read
from serve.io.writers import replacing, sha256
from serve.jobs.checkpoint import Cost, Done, ReadDone, SliceCount
from serve.jobs.partitions import Spill

T = TypeVar("T")


class TaskError(RuntimeError):
    """A task that can't be finished on this machine: says why."""


@dataclass
class Stopwatch:
    """Seconds of processor time by stage, so that what else a machine does is not counted."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Add the time inside to a stage."""
        start = time.process_time()
        try:
            yield
        finally:
            self.add(stage, time.process_time() - start)

    def add(self, stage: str, seconds: float) -> None:
        """Add to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def cost(self) -> Cost:
        """What was measured."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return Cost(dict(self.seconds), process_name(), peak)


@dataclass(frozen=True, slots=True)
class ReadTask:
    """Read a share of the input and lay its rows down by partition."""

    index: int
    folder: Path
    slices: tuple[Slice, ...]
    n_partitions: int
    sample: float

    def run(self) -> ReadDone:
        """Do it.

        Raises:
            InputError: when the input can't be read.
            TaskError: when the folder can't be written, or memory is short.
        """
        watch = Stopwatch()
        spill_path, rejects_path = self.folder / spill_name(self.index), self.folder / rejects_name(self.index)
        with task_faults(self.folder):
            with (
                replacing(rejects_path, token=new_token(), private=True) as rejects,
                replacing(spill_path, token=new_token(), private=True) as part,
                rejects.open("w", encoding="utf-8") as rejects_file,
                Spill(part, n_partitions=self.n_partitions, sample=self.sample) as spill,
            ):
                slices = tuple(
                    _read_slice(piece, spill, watch, functools.partial(_note, rejects_file, position))
                    for position, piece in enumerate(self.slices)
                )
                with watch.of("spill"):
                    spill.flush()
            return ReadDone(
                index=self.index,
                slices=slices,
                n_kept=tuple(spill.n_kept.tolist()),
                n_left_out=spill.n_left_out,
                files=digests([spill_path, rejects_path]),
                cost=watch.cost(),
            )


class Task(Protocol):
    """Work from files to files, so that any process on any machine can do it."""

    def run(self) -> Done:
        """Do it; the same files whenever and wherever it runs."""
        ...


def process_name() -> str:
    """This process, told from those of other machines."""
    return f"{socket.gethostname()}:{os.getpid()}"


def spill_name(share: int) -> str:
    """File that a share of the input is laid down in."""
    return f"spill-{share:05}.arrow"


def rejects_name(share: int) -> str:
    """File with the rejects of a share: slice of the share, line within the slice, reason."""
    return f"rejects-{share:05}.jsonl"


def part_name(noun: str, partition: int, suffix: str) -> str:
    """File with a partition's rows of an output."""
    return f"{noun}-{partition:05}{suffix}"


def _read_slice(piece: Slice, spill: Spill, watch: Stopwatch, rejected: Callable[[int, str], None]) -> SliceCount:
    """Add a slice to the spill, telling each reject's line within the slice and reason."""
    reasons, notes = Counter[str](), Counter[str]()
    n_lines, n_rows, n_untimed = 0, 0, 0
    for batch in timed(read(piece), watch, "read"):
        with watch.of("spill"):
            spill.add(batch.table)
        for line, reason in sorted(batch.rejects.items()):
            rejected(line, reason)
        reasons.update(batch.rejects.values())
        notes.update(batch.notes)
        n_lines, n_rows = n_lines + batch.n_lines, n_rows + batch.n_rows
        n_untimed += int(np.isnan(batch.table.column("at").to_numpy()).sum())
    counts = dict(sorted(reasons.items())), n_untimed, dict(sorted((+notes).items()))
    return SliceCount(piece.source.path, n_lines, n_rows, *counts)


def timed(items: Iterator[T], watch: Stopwatch, stage: str) -> Iterator[T]:
    """The items, with the time it takes to get each counted."""
    while True:
        with watch.of(stage):
            item = next(items, None)
        if item is None:
            return
        yield item


@contextmanager
def task_faults(folder: Path) -> Iterator[None]:
    """Turn what a full disk or short memory raises into a `TaskError`."""
    try:
        yield
    except MemoryError as fault:
        raise TaskError("out of memory") from fault
    except (OSError, pa.ArrowException) as fault:
        raise TaskError(f"{folder}: can't be written or read: {fault_text(fault)}") from fault


def _note(file: TextIO, position: int, line: int, reason: str) -> None:
    file.write(json.dumps([position, line, reason]) + "\n")


def digests(paths: Sequence[Path]) -> dict[str, str]:
    """Sha256 of each file, by name."""
    return {path.name: sha256(path) for path in paths}


def new_token() -> str:
    """A suffix that no other process gives to a file in the making."""
    return f".{uuid.uuid4().hex[:12]}"
