"""Tasks: the two kinds of work of a job, each from files to files, so that any process on any machine can do it."""

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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.scoring import accounts, verdict
from serve.campaigns.detector import indicators
from serve.embedding.encoders import Encoder
from serve.io.reading import read
from serve.features.session_features import observe
from serve.io.writers import replacing, writing
from serve.jobs.partitions import Spill, read_partition
from serve.scoring.scorer import CHUNK_PROMPTS, Scorer, load
from serve.io.discovery import Slice, said
from serve.sessions.sessionizing import Timeline
from serve.jobs.checkpoint import Cost, JudgeDone, ReadDone, SliceCount

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


class TimedEncoder:
    """An encoder that counts the seconds it takes."""

    def __init__(self, encoder: Encoder) -> None:
        """Encode with `encoder`."""
        self.name = encoder.name
        self.n_dims = encoder.n_dims
        self.seconds = 0.0
        self._encoder = encoder

    def encode(self, texts: Sequence[str]) -> NDArray[np.int8]:
        """See `Encoder.encode`."""
        start = time.process_time()
        vectors = self._encoder.encode(texts)
        self.seconds += time.process_time() - start
        return vectors


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
        with _faults(self.folder):
            with (
                replacing(rejects_path, token=_token()) as rejects,
                replacing(spill_path, token=_token()) as part,
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
                files=_sizes([spill_path, rejects_path]),
                cost=watch.cost(),
            )


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """Cut a partition into sessions and judge them; with a file of `indicators`, match them, too."""

    index: int
    folder: Path
    n_shares: int
    n_partitions: int
    bundle: str
    verdicts_suffix: str
    accounts_suffix: str
    indicators: str | None = None

    def run(self) -> JudgeDone:
        """Do it.

        Raises:
            BundleError: when the bundle can't be trusted.
            TaskError: when the folder can't be read or written, or memory is short.
        """
        watch = Stopwatch()
        with _faults(self.folder):
            with watch.of("load"):
                scorer, encoder = _scorer(self.bundle)
            with watch.of("sort"):
                spills = [self.folder / spill_name(share) for share in range(self.n_shares)]
                timeline = Timeline.of(read_partition(spills, self.index, self.n_partitions))
            paths = (
                self.folder / part_name("verdicts", self.index, self.verdicts_suffix),
                self.folder / part_name("accounts", self.index, self.accounts_suffix),
                self.folder / part_name("matches", self.index, ".jsonl"),
            )
            tally = self._judge(timeline, scorer, encoder, paths, watch)
            with watch.of("write"), writing(paths[1], accounts.SCHEMA, token=_token()) as writer:
                areas = scorer.bundle.capabilities.areas
                table = accounts.roll_up(tally, areas, fpr=scorer.fpr, bundle=scorer.bundle.bundle_id)
                writer.add(table)
            return JudgeDone(
                index=self.index,
                n_exchanges=len(timeline.order),
                n_sessions=len(timeline),
                n_accounts=len(table),
                n_flagged=int((tally.label == "harvesting").sum()),
                n_flagged_accounts=table.column("label").to_pylist().count("harvesting"),
                files=_sizes(paths),
                cost=watch.cost(),
            )

    def _judge(
        self, timeline: Timeline, scorer: Scorer, encoder: TimedEncoder, paths: Sequence[Path], watch: Stopwatch
    ) -> accounts.Tally:
        tallies = []
        bundle = scorer.bundle
        known = _indicators(self.indicators) if self.indicators else None
        with (
            writing(paths[0], verdict.SCHEMA, token=_token()) as writer,
            writing(paths[2], indicators.SCHEMA, token=_token()) as matches,
        ):
            for sessions in _timed(timeline.chunks(CHUNK_PROMPTS), watch, "sort"):
                encoded = encoder.seconds
                with watch.of("judge"):
                    prompts = observe(sessions, bundle.encoder, bundle.capabilities, bundle.evidence)
                    verdicts = scorer.judge_observed(sessions, prompts)
                watch.add("encode", encoder.seconds - encoded)
                watch.add("judge", encoded - encoder.seconds)
                with watch.of("write"):
                    writer.add(verdicts.table())
                if known is not None:
                    with watch.of("match"):
                        cells = prompts.assigned.cell.astype(np.int64)
                        matches.add(indicators.match(known, sessions, cells, bundle.bundle_id))
                tallies.append(accounts.Tally.of(verdicts))
        return accounts.Tally.joined(tallies)


Task = ReadTask | JudgeTask


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
    reasons: Counter[str] = Counter()
    n_lines, n_rows, n_untimed = 0, 0, 0
    for batch in _timed(read(piece), watch, "read"):
        with watch.of("spill"):
            spill.add(batch.table)
        for line, reason in sorted(batch.rejects.items()):
            rejected(line, reason)
        reasons.update(batch.rejects.values())
        n_lines, n_rows = n_lines + batch.n_lines, n_rows + batch.n_rows
        n_untimed += int(np.isnan(batch.table.column("at").to_numpy()).sum())
    return SliceCount(piece.source.path, n_lines, n_rows, dict(sorted(reasons.items())), n_untimed)


def _timed(items: Iterator[T], watch: Stopwatch, stage: str) -> Iterator[T]:
    """The items, with the time it takes to get each counted."""
    while True:
        with watch.of(stage):
            item = next(items, None)
        if item is None:
            return
        yield item


@functools.cache
def _scorer(bundle: str) -> tuple[Scorer, TimedEncoder]:
    """The scorer, once a process, and the clock on its encoder."""
    scorer = load(bundle)
    encoder = TimedEncoder(scorer.bundle.encoder)
    return Scorer(replace(scorer.bundle, encoder=encoder)), encoder


@functools.cache
def _indicators(path: str) -> indicators.Indicators:
    return indicators.read(Path(path))


@contextmanager
def _faults(folder: Path) -> Iterator[None]:
    """Turn what a full disk or short memory raises into a `TaskError`."""
    try:
        yield
    except MemoryError as fault:
        raise TaskError("out of memory") from fault
    except (OSError, pa.ArrowException) as fault:
        raise TaskError(f"{folder}: can't be written or read: {said(fault)}") from fault


def _note(file: TextIO, position: int, line: int, reason: str) -> None:
    file.write(json.dumps([position, line, reason]) + "\n")


def _sizes(paths: Sequence[Path]) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in paths}


def _token() -> str:
    return f".{uuid.uuid4().hex[:12]}"
