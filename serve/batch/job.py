"""Job: exchanges in files, of any order and amount, to verdicts and accounts in files; restartable, exactly once.

Every row is read once and laid down by the hash of its account; then each partition, which holds whole accounts, is
sorted, cut into sessions and judged on its own. Engines differ only in where these tasks run. The order of the verdicts
(by hash of account, then session) depends on nothing but the exchanges.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from serve.batch.judge_task import JudgeTask
from serve.batch.totals import FileCount, counts_by_file, n_judged, summarised
from serve.bundle.bundle import read_capabilities, trusted
from serve.bundle.files import RELEASED
from serve.campaigns import indicators
from serve.features import known_prompts
from serve.io.discovery import Found, InputError, discover, fault_text, plan
from serve.io.jsonl import NOT_ROWS
from serve.io.validation import MISSING
from serve.io.writers import check_places, check_suffix, join, replacing, sha256
from serve.jobs.checkpoint import Checkpoint
from serve.jobs.executors import EXECUTORS, Executor
from serve.jobs.partitioned import SMALL_BYTES, engine_for, fits, rejects, rows_by_partition
from serve.jobs.progress import Progress
from serve.jobs.summary import Summary
from serve.jobs.tasks import ReadTask, TaskError, part_name
from serve.scoring import accounts, verdict
from serve.sessions.wording import counted

_PARTITION_BYTES = 32 << 20
_LEAST_PARTITIONS, _MAX_PARTITIONS = 16, 2048
_SHARE_BYTES = (4 << 20, 128 << 20)


class JobStoppedError(RuntimeError):
    """A job that ended half-way; what it had done is kept, and it goes on from there when it is run with `resume`."""


class UselessInputError(InputError):
    """An input that was read and holds nothing to judge, so that reading it again doesn't help."""


@dataclass(frozen=True)
class Job:
    """What is to be done: read `inputs` (files, folders), judge with `bundle`, write `out` and the others given.

    `engine` is `local` or `ray`; `sample` the share of accounts to look at, 0-1. With a file of `indicators`, sessions
    that match are written beside `out`, to `matches`; with a filter of `known_prompts`, those with known ones to
    `known`.

    Raises:
        ValueError: when names of outputs clash, say nothing of their kind, or numbers are out of range.
    """

    inputs: tuple[Path, ...]
    out: Path
    rejects: Path
    accounts: Path | None = None
    indicators: Path | None = None
    known_prompts: Path | None = None
    bundle: Path = RELEASED
    engine: str = "local"
    n_workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    sample: float = 1.0
    resume: bool = False

    def __post_init__(self) -> None:
        if self.engine not in EXECUTORS:
            raise ValueError(f"engine is {self.engine!r}, expected one of {', '.join(EXECUTORS)}")
        if not 0.0 < self.sample <= 1.0:
            raise ValueError(f"sample is {self.sample}, expected a share above 0 and up to 1")
        if self.n_workers < 1:
            raise ValueError(f"workers is {self.n_workers}, expected at least 1")
        for path in (self.out, self.accounts):
            if path is not None:
                check_suffix(path)
        check_places(self.outputs, self.inputs)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Every file that is written."""
        return tuple(
            path for path in (self.out, self.accounts, self.rejects, self.matches, self.known) if path is not None
        )

    @property
    def matches(self) -> Path | None:
        """Where sessions that match indicators are written."""
        return self.out.with_name(f"{self.out.name}.matches.jsonl") if self.indicators else None

    @property
    def known(self) -> Path | None:
        """Where sessions with known prompts are written."""
        return self.out.with_name(f"{self.out.name}.known.jsonl") if self.known_prompts else None

    @property
    def work_dir(self) -> Path:
        """Where the job keeps what is done until it ends."""
        return self.out.with_name(f"_{self.out.name}.work")


def check(job: Job) -> str:
    """Look at the bundle and the indicators before anything is read; returns the id of the bundle.

    Raises:
        ValueError: when they are not what they should be.
    """
    bundle_id = str(trusted(job.bundle)["bundle_id"])
    if job.indicators is not None:
        n_cells = len(read_capabilities(job.bundle).cells)
        indicators.check_map(indicators.read(job.indicators), job.indicators, bundle_id, n_cells)
    if job.known_prompts is not None:
        known_prompts.KnownPrompts.read(job.known_prompts)
    return bundle_id


def run(job: Job, progress: Progress) -> Summary:
    """Do a job.

    Raises:
        ValueError: when it can't begin: inputs, outputs or bundle are not what they should be.
        JobStoppedError: when it can't go on.
    """
    began_at = time.monotonic()
    found = discover(job.inputs)
    bundle_id = check(job)
    tasks = _read_tasks(job, found)
    with Checkpoint.open(job.work_dir, _identity(job, found, bundle_id, tasks), resume=job.resume) as work:
        work.keep(lambda done: fits(done, tasks))
        with _stopping(work), progress, engine_for(job.engine, job.n_workers, found.text_bytes) as engine:
            _read_all(tasks, engine, work, progress)
            _judge_all(job, rows_by_partition(work), engine, work, progress)
            _write_all(job, work)
        summary = summarised(found, work, job.outputs, _accounts_parts(job, work), time.monotonic() - began_at)
        work.remove()
    return summary


def _read_tasks(job: Job, found: Found) -> tuple[ReadTask, ...]:
    low, high = _SHARE_BYTES
    shares = plan(found.sources, min(max(found.text_bytes // 16, low), high))
    n_least = _LEAST_PARTITIONS if found.text_bytes >= SMALL_BYTES else 1
    n_partitions = max(n_least, min(_MAX_PARTITIONS, int(found.text_bytes * job.sample) // _PARTITION_BYTES + 1))
    return tuple(ReadTask(index, job.work_dir, share, n_partitions, job.sample) for index, share in enumerate(shares))


def _identity(job: Job, found: Found, bundle_id: str, tasks: tuple[ReadTask, ...]) -> dict[str, object]:
    """What must be the same for a job to go on from what an earlier run left."""
    return {
        "input": [[source.path, source.size, source.modified_ns] for source in found.sources],
        "bundle": bundle_id,
        "sample": job.sample,
        "indicators": job.indicators.read_text(encoding="utf-8") if job.indicators else None,
        "known_prompts": sha256(job.known_prompts) if job.known_prompts else None,
        "parts": [len(tasks), tasks[0].n_partitions],
        "output": [job.out.suffix, _accounts_suffix(job)],
    }


def _accounts_suffix(job: Job) -> str:
    return job.accounts.suffix if job.accounts else ".jsonl"


@contextmanager
def _stopping(work: Checkpoint) -> Iterator[None]:
    """Turn faults on the way into `JobStoppedError`; where nothing can be judged, leave nothing to go on from."""
    try:
        yield
    except UselessInputError:
        work.forget()
        raise
    except (InputError, TaskError, OSError, pa.ArrowException) as fault:
        text = str(fault) if isinstance(fault, InputError | TaskError) else f"{work.folder.parent}: {fault_text(fault)}"
        raise JobStoppedError(text + _tip(fault, work)) from fault


def _tip(fault: Exception, work: Checkpoint) -> str:
    """What is kept and how to go on, where that can help."""
    if not (n_done := len(work.done)):
        return ""
    when = " once that file can be read as it was" if isinstance(fault, InputError) else ""
    kept = f"{counted(n_done, 'finished part')} {'is' if n_done == 1 else 'are'} kept"
    return f" ({kept} in {work.folder}: go on with --resume{when})"


def _read_all(tasks: tuple[ReadTask, ...], engine: Executor, work: Checkpoint, progress: Progress) -> None:
    progress.begin("read", len(work.reads))
    for done in engine.run([task for task in tasks if task.index not in work.reads]):
        work.add(done)
        n_rows = sum(part.n_rows for read in work.reads.values() for part in read.slices)
        progress.tell(len(work.reads), len(tasks), "parts of the input", f" ({counted(n_rows, 'row')})")
    _require_columns(counts_by_file(work))


def _require_columns(files: Mapping[str, FileCount]) -> None:
    """Refuse a file none of whose rows has a column that every exchange has."""
    for path, count in files.items():
        n_rows = count.n_rows - sum(count.reasons[reason] for reason in NOT_ROWS)
        for name, reason in MISSING.items():
            if n_rows and count.reasons[reason] == n_rows:
                raise UselessInputError(f"{path}: no row has a usable {name}, expected one in every row")


def _judge_all(job: Job, n_kept: list[int], engine: Executor, work: Checkpoint, progress: Progress) -> None:
    suffixes = job.out.suffix, _accounts_suffix(job)
    looked_for = tuple(str(path) if path else None for path in (job.indicators, job.known_prompts))
    tasks = [
        JudgeTask(index, job.work_dir, len(work.reads), len(n_kept), str(job.bundle), *suffixes, *looked_for)
        for index, n_rows in enumerate(n_kept)
        if n_rows and index not in work.judgements
    ]
    progress.begin("judge", n_judged(work))
    for done in engine.run(tasks):
        work.add(done)
        n_sessions = sum(done.n_sessions for done in work.judgements.values())
        progress.tell(n_judged(work), sum(n_kept), "exchanges", f" ({counted(n_sessions, 'session')})")


def _write_all(job: Job, work: Checkpoint) -> None:
    """Put the outputs in place, the verdicts last."""
    with replacing(job.rejects) as part, part.open("w", encoding="utf-8") as file:
        reads = [work.reads[index] for index in sorted(work.reads)]
        file.writelines(json.dumps(reject, ensure_ascii=False) + "\n" for reject in rejects(reads, work.folder))
    indices = sorted(work.judgements)
    if job.accounts:
        join(job.accounts, _accounts_parts(job, work), accounts.SCHEMA)
    if job.matches:
        join(job.matches, [work.folder / part_name("matches", index, ".jsonl") for index in indices], indicators.SCHEMA)
    if job.known:
        join(job.known, [work.folder / part_name("known", index, ".jsonl") for index in indices], known_prompts.SCHEMA)
    join(job.out, [work.folder / part_name("verdicts", index, job.out.suffix) for index in indices], verdict.SCHEMA)


def _accounts_parts(job: Job, work: Checkpoint) -> list[Path]:
    suffix = _accounts_suffix(job)
    return [work.folder / part_name("accounts", index, suffix) for index in sorted(work.judgements)]
