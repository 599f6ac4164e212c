"""Job: files of exchanges in, campaigns and their members out; with an archive, only new files are read."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from serve.bundle.bundle import read_capabilities, trusted
from serve.bundle.files import RELEASED
from serve.campaigns.archive import Archive
from serve.campaigns.detector import find
from serve.campaigns.indicators import write as write_indicators
from serve.campaigns.results import SCHEMA, CampaignResult, members, report
from serve.campaigns.sketches import Sketches, sketch
from serve.features.session_features import observe
from serve.infrastructure.account_metadata import AccountMetadata, read_metadata
from serve.infrastructure.metadata_files import UNSTORED, KeyedMetadata, key_id, read_key
from serve.io.discovery import Found, discover, plan
from serve.io.writers import check_places, check_suffix, replacing, writing
from serve.jobs.checkpoint import ReadDone
from serve.jobs.executors import EXECUTORS, Executor, SerialExecutor
from serve.jobs.partitions import read_partition
from serve.jobs.progress import Progress
from serve.jobs.tasks import ReadTask, rejects_name, spill_name
from serve.scoring.scorer import CHUNK_PROMPTS, Scorer, load
from serve.sessions.sessionizing import Timeline

_SMALL_BYTES = 8 << 20
_PARTITION_BYTES = 32 << 20


@dataclass(frozen=True)
class CampaignJob:
    """What is to be done: read `inputs`, judge with `bundle`, write campaigns to `out`, and the others where given.

    What accounts were used from is read from the inputs and from the tables of `metadata`; it is archived only with a
    `metadata_key`, a file with a secret, and as hashes that are keyed with it.

    Raises:
        ValueError: when an output's name says nothing of its kind, or two outputs are the same.
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
    n_workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))

    def __post_init__(self) -> None:
        if self.out.suffix.lower() != ".json":
            raise ValueError(f"{self.out}: output file must end in .json")
        if self.members is not None:
            check_suffix(self.members)
        outputs = (self.out, self.rejects, self.members, self.indicators)
        check_places([path for path in outputs if path], self.inputs)


@dataclass(frozen=True, slots=True)
class SketchTask:
    """Cut a partition into sessions, judge them and keep a sketch of each account."""

    index: int
    folder: Path
    n_shares: int
    n_partitions: int
    bundle: str

    def run(self) -> Sketches | None:
        """The sketches of a partition, None where it holds no account."""
        spills = [self.folder / spill_name(share) for share in range(self.n_shares)]
        timeline = Timeline.of(read_partition(spills, self.index, self.n_partitions))
        scorer = load(self.bundle)
        parts = [_sketch(sessions, scorer) for sessions in timeline.chunks(CHUNK_PROMPTS)]
        return Sketches.joined(parts) if parts else None


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
    with progress, tempfile.TemporaryDirectory(dir=job.out.parent, prefix="_campaigns.") as folder:
        reads, parts = _gathered(job, Found(new, found.n_ignored), Path(folder), progress)
        _write_rejects(job.rejects, reads, Path(folder))
    scorer = load(job.bundle)
    sketches = archive.joined(Sketches.joined([_nobody(scorer), *parts]))
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
    _write(job, outcome, scorer)
    if job.archive:
        keyed = KeyedMetadata(metadata, key_id(key)) if key else None
        archive.save(job.archive, bundle_id, sketches, findings.campaigns, new, keyed)
    return outcome


def _check_key(job: CampaignJob, archive: Archive, key: bytes | None) -> None:
    if archive.metadata is not None and (key is None or key_id(key) != archive.metadata.key_id):
        raise ValueError(f"{job.archive} holds metadata hashed with a key, expected --metadata-key with the same one")


def _gathered(
    job: CampaignJob, found: Found, folder: Path, progress: Progress
) -> tuple[list[ReadDone], list[Sketches]]:
    """Everything that was read, and the sketches of each partition."""
    if not found.sources:
        return [], []
    n_partitions = int(found.text_bytes) // _PARTITION_BYTES + 1
    shares = plan(found.sources, max(found.text_bytes // 16, 4 << 20))
    read_tasks = [ReadTask(index, folder, share, n_partitions, 1.0) for index, share in enumerate(shares)]
    reads: list[ReadDone] = []
    parts: list[Sketches] = []
    with _engine(job, found) as engine:
        progress.begin("read", 0)
        for read in cast("Iterator[ReadDone]", engine.run(read_tasks)):
            reads.append(read)
            progress.tell(len(reads), len(read_tasks), "parts of the input")
        tasks = [
            SketchTask(index, folder, len(read_tasks), n_partitions, str(job.bundle)) for index in range(n_partitions)
        ]
        progress.begin("sketch", 0)
        for n_done, part in enumerate(cast("Iterator[Sketches | None]", engine.run(cast(Any, tasks))), 1):
            parts += [] if part is None else [part]
            progress.tell(n_done, n_partitions, "parts of the accounts")
    return sorted(reads, key=lambda read: read.index), parts


def _engine(job: CampaignJob, found: Found) -> Executor:
    if job.n_workers == 1 or found.text_bytes < _SMALL_BYTES:
        return SerialExecutor()
    return EXECUTORS["local"](job.n_workers)


def _nobody(scorer: Scorer) -> Sketches:
    """Sketches of no account, of the bundle's dimensions."""
    from serve.sessions.records import Sessions

    nothing = Sessions((), (), np.zeros(1, np.int64), (), np.zeros(0))
    bundle = scorer.bundle
    prompts = observe(nothing, bundle.encoder, bundle.capabilities, bundle.prompt_scorer)
    return sketch(nothing, prompts, np.zeros(0))


def _write_rejects(path: Path, reads: Sequence[ReadDone], folder: Path) -> None:
    n_before: Counter[str] = Counter()
    with replacing(path) as part, part.open("w", encoding="utf-8") as out:
        for read in reads:
            begins = []
            for piece in read.slices:
                begins.append(n_before[piece.path])
                n_before[piece.path] += piece.n_lines
            with (folder / rejects_name(read.index)).open(encoding="utf-8") as file:
                for position, line, reason in map(json.loads, file):
                    reject = {"file": read.slices[position].path, "line": begins[position] + line, "reason": reason}
                    out.write(json.dumps(reject, ensure_ascii=False) + "\n")


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
