"""Partitioned jobs: what jobs share that read all of their input, and then go through it partition by partition."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from serve.jobs.checkpoint import Checkpoint, Done, ReadDone
from serve.jobs.executors import EXECUTORS, Executor, SerialExecutor
from serve.jobs.tasks import ReadTask, rejects_name

SMALL_BYTES = 8 << 20
"""Text below which starting processes takes longer than it saves."""


def engine_for(name: str, n_workers: int, text_bytes: float) -> Executor:
    """The engine of this name (`local` or `ray`); this process alone where a local one has little to do."""
    if name == "local" and (n_workers == 1 or text_bytes < SMALL_BYTES):
        return SerialExecutor()
    return EXECUTORS[name](n_workers)


def fits(done: Done, tasks: Sequence[ReadTask]) -> bool:
    """Whether an entry of a checkpoint can be one of a job that reads by these tasks."""
    n_partitions = tasks[0].n_partitions if tasks else 0
    if isinstance(done, ReadDone):
        return 0 <= done.index < len(tasks) and len(done.n_kept) == n_partitions
    return 0 <= done.index < n_partitions


def rows_by_partition(work: Checkpoint) -> list[int]:
    """Rows of each partition, when everything is read."""
    return [sum(rows) for rows in zip(*(read.n_kept for read in work.reads.values()), strict=True)]


def rejects(reads: Iterable[ReadDone], folder: Path) -> Iterator[dict[str, object]]:
    """Rejects of all files, in the order of what was read, with lines counted from where a file begins."""
    n_before: Counter[str] = Counter()
    for read in reads:
        begins = []
        for part in read.slices:
            begins.append(n_before[part.path])
            n_before[part.path] += part.n_lines
        with (folder / rejects_name(read.index)).open(encoding="utf-8") as file:
            for position, line, reason in map(json.loads, file):
                yield {"file": read.slices[position].path, "line": begins[position] + line, "reason": reason}
