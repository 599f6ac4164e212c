"""Totals: what the parts of a batch job found, added up: by file, and as the job's summary."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serve.batch.clearest import clearest
from serve.io.discovery import Found
from serve.jobs.checkpoint import Checkpoint
from serve.jobs.summary import Summary
from serve.jobs.tasks import process_name


@dataclass
class FileCount:
    """What was found in one file."""

    n_rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def counts_by_file(work: Checkpoint) -> dict[str, FileCount]:
    """What was found in each file, in the order in which they were read."""
    files: dict[str, FileCount] = {}
    for _, read in sorted(work.reads.items()):
        for part in read.slices:
            count = files.setdefault(part.path, FileCount())
            count.n_rows += part.n_rows
            count.reasons.update(part.reasons)
    return files


def n_judged(work: Checkpoint) -> int:
    """How many exchanges were judged so far."""
    return sum(done.n_exchanges for done in work.judgements.values())


def summarised(
    found: Found, work: Checkpoint, outputs: Sequence[Path], accounts_parts: Sequence[Path], clock_seconds: float
) -> Summary:
    """What a job that is done did; `accounts_parts` are its parts of the accounts file."""
    files = counts_by_file(work)
    judged = work.judgements.values()
    seconds: Counter[str] = Counter()
    for done in work.done:
        seconds.update(done.cost.seconds)
    notes = sum((Counter(part.notes) for read in work.reads.values() for part in read.slices), Counter[str]())
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Summary(
        n_files=len(found.sources),
        n_ignored=found.n_ignored,
        n_rows=sum(count.n_rows for count in files.values()),
        n_untimed=sum(part.n_untimed for read in work.reads.values() for part in read.slices),
        n_left_out=sum(read.n_left_out for read in work.reads.values()),
        n_exchanges=n_judged(work),
        n_sessions=sum(done.n_sessions for done in judged),
        n_accounts=sum(done.n_accounts for done in judged),
        n_flagged=sum(done.n_flagged for done in judged),
        n_flagged_accounts=sum(done.n_flagged_accounts for done in judged),
        n_undecided=sum(done.n_undecided for done in judged),
        notes=dict(sorted(notes.items())),
        n_altered=sum(done.n_altered for done in judged),
        reasons=dict(sum((count.reasons for count in files.values()), Counter[str]()).most_common()),
        seconds=dict(seconds),
        clock_seconds=clock_seconds,
        n_processes=max(len(work.processes), 1),
        peak_bytes=sum((work.processes | {process_name(): own_peak}).values()),
        written={str(path): path.stat().st_size for path in outputs},
        clearest=clearest(accounts_parts),
    )
