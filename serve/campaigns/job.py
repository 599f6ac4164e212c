"""Job: files of exchanges in, campaigns and their members out; with an archive, only new files are read."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from serve.bundle.bundle import read_capabilities, trusted
from serve.bundle.files import RELEASED
from serve.campaigns.archive import Archive, read_sketches, sketch_paths, write_sketches
from serve.campaigns.detector import find
from serve.campaigns.indicators import write as write_indicators
from serve.campaigns.results import SCHEMA, CampaignResult, members, report
from serve.campaigns.sketches import Sketches, sketch
from serve.features.session_features import observe
from serve.infrastructure.account_metadata import AccountMetadata, read_metadata
from serve.infrastructure.metadata_files import UNSTORED, KeyedMetadata, key_id, read_key
from serve.io.discovery import Found, Source, discover, plan
from serve.io.writers import check_places, check_suffix, replacing, writing
from serve.jobs.checkpoint import Checkpoint, JudgeDone
from serve.jobs.executors import EXECUTORS
from serve.jobs.partitioned import engine_for, fits, rejects, rows_by_partition
from serve.jobs.partitions import read_partition
from serve.jobs.progress import Progress
from serve.jobs.tasks import ReadTask, Stopwatch, digests, spill_name, task_faults
from serve.scoring.scorer import CHUNK_PROMPTS, Scorer, load
from serve.sessions.sessionizing import Timeline

_PARTITION_BYTES = 32 << 20


@dataclass(frozen=True)
class CampaignJob:
    """What is to be done: read `inputs`, judge with `bundle`, write campaigns to `out`, and the others where given.

    What accounts were used from is read from the inputs and from the tables of `metadata`; it is archived only with a
    `metadata_key`, a file with a secret, and as hashes that are keyed with it.

    `engine` is `local` or `ray`. What is read and sketched stays in `work_dir` until the job ends; one that stopped
    goes on from there with `resume`.

    Raises:
        ValueError: when an output's name says nothing of its kind, two outputs are the same, or the engine is unknown.
    """

    inputs: tuple[Path, ...]
    out: Path
    rejects: Path
    members: Path | None = None
    indicators: Path | None = None
    archive: Path | None = None
    metadata: tuple[Path, ...] = ()
    metadata_key: Path | None = None
    bundle: Path = RELEASED
    engine: str = "local"
    n_workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    resume: bool = False

    def __post_init__(self) -> None:
        if self.out.suffix.lower() != ".json":
            raise ValueError(f"{self.out}: output file must end in .json")
        if self.members is not None:
            check_suffix(self.members)
        outputs = (self.out, self.rejects, self.members, self.indicators)
        check_places([path for path in outputs if path], self.inputs)
        if self.engine not in EXECUTORS:
            raise ValueError(f"engine is {self.engine!r}, expected one of {', '.join(EXECUTORS)}")

    @property
    def work_dir(self) -> Path:
        """Where the job keeps what is done until it ends."""
        return self.out.with_name(f"_{self.out.name}.work")


@dataclass(frozen=True, slots=True)
class SketchTask:
    """Cut a partition into sessions, judge them and write a sketch of each account."""

    index: int
    folder: Path
    n_shares: int
    n_partitions: int
    bundle: str

    def run(self) -> JudgeDone:
        """Do it.

        Raises:
            BundleError: when the bundle can't be trusted.
            TaskError: when the folder can't be read or written, or memory is short.
        """
        watch = Stopwatch()
        with task_faults(self.folder), watch.of("sketch"):
            scorer = load(self.bundle)
            spills = [self.folder / spill_name(share) for share in range(self.n_shares)]
            timeline = Timeline.of(read_partition(spills, self.index, self.n_partitions))
            sketches = Sketches.joined([_sketch(sessions, scorer) for sessions in timeline.chunks(CHUNK_PROMPTS)])
            write_sketches(self.folder, self.index, sketches)
            lowest = sketches.lowest
        return JudgeDone(
            index=self.index,
            n_exchanges=len(timeline.order),
            n_sessions=len(timeline),
            n_accounts=len(sketches),
            n_flagged=int((lowest <= scorer.fpr).sum()),
            n_flagged_accounts=int((sketches.p_value <= scorer.fpr).sum()),
            files=digests(sketch_paths(self.folder, self.index)),
            cost=watch.cost(),
        )


def _sketch(sessions: Any, scorer: Scorer) -> Sketches:
    bundle = scorer.bundle
    prompts = observe(sessions, bundle.encoder, bundle.capabilities, bundle.prompt_scorer)
    return sketch(sessions, prompts, scorer.judge_observed(sessions, prompts).p_value)


def run(job: CampaignJob, progress: Progress) -> CampaignResult:
    """Run a job.

    Raises:
        ValueError: when inputs, outputs, archive or bundle are not what they should be.
    """
    bundle_id = str(trusted(job.bundle)["bundle_id"])
    archive = Archive.load(job.archive, bundle_id) if job.archive else Archive(None, {}, frozenset(), 0)
    if job.archive and archive.sketches is not None:
        archive.check(job.archive, read_capabilities(job.bundle))
    key = read_key(job.metadata_key) if job.metadata_key else None
    _check_key(job, archive, key)
    found = discover(job.inputs)
    new = tuple(source for source in found.sources if not archive.knows(source))
    tasks = _read_tasks(job, new)
    identity = _identity(job, new, bundle_id, archive.generation, tasks)
    with Checkpoint.open(job.work_dir, identity, resume=job.resume) as work:
        work.keep(lambda done: fits(done, tasks))
        with progress:
            _gather(job, tasks, work, progress)
        outcome = _linked(job, archive, found, new, work, key)
        work.remove()
    return outcome


def _linked(
    job: CampaignJob, archive: Archive, found: Found, new: tuple[Source, ...], work: Checkpoint, key: bytes | None
) -> CampaignResult:
    """Link all accounts that were sketched, and write what is found."""
    scorer = load(job.bundle)
    parts = [read_sketches(work.folder, index) for index in sorted(work.judgements)]
    sketches = archive.joined(Sketches.joined([_nobody(scorer), *parts]))
    reads = [work.reads[index] for index in sorted(work.reads)]
    read = read_metadata([*(Path(source.path) for source in new), *job.metadata], key or UNSTORED)
    metadata = AccountMetadata.joined([read, *([archive.metadata.metadata] if archive.metadata else [])])
    findings = find(sketches, scorer.bundle.capabilities, scorer.bundle.communities, metadata)
    findings = replace(findings, campaigns=archive.renamed(findings.campaigns))
    slices = [part for read in reads for part in read.slices]
    reasons = sum((Counter(part.reasons) for part in slices), Counter[str]())
    outcome = CampaignResult(
        findings, sketches, sum(part.n_rows for part in slices), sum(part.n_untimed for part in slices),
        len(found.sources) - len(new), dict(reasons.most_common()), metadata.n_accounts(sketches.account_ids),
    )  # fmt: skip
    with replacing(job.rejects) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(reject, ensure_ascii=False) + "\n" for reject in rejects(reads, work.folder))
    _write(job, outcome, scorer)
    if job.archive:
        keyed = KeyedMetadata(metadata, key_id(key)) if key else None
        archive.save(job.archive, scorer.bundle.bundle_id, sketches, findings.campaigns, new, keyed)
    return outcome


def _check_key(job: CampaignJob, archive: Archive, key: bytes | None) -> None:
    if archive.metadata is not None and (key is None or key_id(key) != archive.metadata.key_id):
        raise ValueError(f"{job.archive} holds metadata hashed with a key, expected --metadata-key with the same one")


def _read_tasks(job: CampaignJob, new: tuple[Source, ...]) -> tuple[ReadTask, ...]:
    n_bytes = sum(source.text_bytes for source in new)
    n_partitions = int(n_bytes) // _PARTITION_BYTES + 1
    shares = plan(new, max(n_bytes // 16, 4 << 20)) if new else ()
    return tuple(ReadTask(index, job.work_dir, share, n_partitions, 1.0) for index, share in enumerate(shares))


def _identity(
    job: CampaignJob, new: tuple[Source, ...], bundle_id: str, generation: int, tasks: tuple[ReadTask, ...]
) -> dict[str, object]:
    """What must be the same for a job to go on from what an earlier run left."""
    return {
        "input": [[source.path, source.size, source.modified_ns] for source in new],
        "bundle": bundle_id,
        "archive": [str(job.archive), generation],
        "parts": [len(tasks), tasks[0].n_partitions if tasks else 0],
    }


def _gather(job: CampaignJob, tasks: tuple[ReadTask, ...], work: Checkpoint, progress: Progress) -> None:
    """Read the input and sketch its accounts, as far as that isn't done."""
    if not tasks:
        return
    n_bytes = sum(part.source.text_bytes for task in tasks for part in task.slices)
    with engine_for(job.engine, job.n_workers, n_bytes) as engine:
        progress.begin("read", len(work.reads))
        for done in engine.run([task for task in tasks if task.index not in work.reads]):
            work.add(done)
            progress.tell(len(work.reads), len(tasks), "parts of the input")
        n_kept = rows_by_partition(work)
        waiting = [
            SketchTask(index, job.work_dir, len(tasks), len(n_kept), str(job.bundle))
            for index, n_rows in enumerate(n_kept)
            if n_rows and index not in work.judgements
        ]
        progress.begin("sketch", len(work.judgements))
        for done in engine.run(waiting):
            work.add(done)
            progress.tell(len(work.judgements), sum(n > 0 for n in n_kept), "parts of the accounts")


def _nobody(scorer: Scorer) -> Sketches:
    """Sketches of no account, of the bundle's dimensions."""
    from serve.sessions.records import Sessions

    nothing = Sessions((), (), np.zeros(1, np.int64), (), np.zeros(0))
    bundle = scorer.bundle
    prompts = observe(nothing, bundle.encoder, bundle.capabilities, bundle.prompt_scorer)
    return sketch(nothing, prompts, np.zeros(0))


def _write(job: CampaignJob, outcome: CampaignResult, scorer: Scorer) -> None:
    """Members and indicators first, the campaigns last."""
    if job.members:
        with writing(job.members, SCHEMA) as writer:
            writer.add(members(outcome, scorer.fpr))
    if job.indicators:
        n_cells = len(scorer.bundle.capabilities.cells)
        campaigns, bundle_id = outcome.findings.campaigns, scorer.bundle.bundle_id
        write_indicators(job.indicators, campaigns, outcome.sketches, n_cells, bundle_id)
    with replacing(job.out) as part:
        document = report(outcome, scorer.bundle.bundle_id)
        part.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
