"""JudgeTask: a partition of exchanges in, its verdicts and accounts out."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.campaigns import indicators
from serve.embedding.encoders import Encoded, Encoder
from serve.features import known_prompts
from serve.features.session_features import observe
from serve.features.whole_accounts import WholeAccounts
from serve.io.writers import writing
from serve.jobs.checkpoint import JudgeDone
from serve.jobs.partitions import read_partition
from serve.jobs.tasks import Stopwatch, digests, new_token, part_name, spill_name, task_faults, timed
from serve.scoring import accounts, verdict
from serve.scoring.scorer import CHUNK_PROMPTS, Scorer, load
from serve.sessions.normalization import altered_counts
from serve.sessions.sessionizing import Timeline


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
        return self.read(texts).vectors

    def read(self, texts: Sequence[str]) -> Encoded:
        """See `Encoder.read`."""
        start = time.process_time()
        encoded = self._encoder.read(texts)
        self.seconds += time.process_time() - start
        return encoded


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """Cut a partition into sessions and judge them; with a file of `indicators`, match them, too; with a filter of
    `known_prompts`, tell those with known ones."""

    index: int
    folder: Path
    n_shares: int
    n_partitions: int
    bundle: str
    verdicts_suffix: str
    accounts_suffix: str
    indicators: str | None = None
    known_prompts: str | None = None

    def run(self) -> JudgeDone:
        """Do it.

        Raises:
            BundleError: when the bundle can't be trusted.
            TaskError: when the folder can't be read or written, or memory is short.
        """
        watch = Stopwatch()
        with task_faults(self.folder):
            with watch.of("load"):
                scorer, encoder = _scorer(self.bundle)
            with watch.of("sort"):
                spills = [self.folder / spill_name(share) for share in range(self.n_shares)]
                timeline = Timeline.of(read_partition(spills, self.index, self.n_partitions))
            paths = (
                self.folder / part_name("verdicts", self.index, self.verdicts_suffix),
                self.folder / part_name("accounts", self.index, self.accounts_suffix),
                self.folder / part_name("matches", self.index, ".jsonl"),
                self.folder / part_name("known", self.index, ".jsonl"),
            )
            tally, n_altered, whole = self._judge(timeline, scorer, encoder, paths, watch)
            with watch.of("write"), writing(paths[1], accounts.SCHEMA, token=new_token(), private=True) as writer:
                bundle = scorer.bundle
                table = accounts.roll_up(
                    tally, bundle.capabilities.areas, fpr=scorer.fpr, bundle=bundle.bundle_id, n_altered=n_altered,
                    whole=whole,
                )  # fmt: skip
                writer.add(table)
            return JudgeDone(
                index=self.index,
                n_exchanges=len(timeline.order),
                n_sessions=len(timeline),
                n_accounts=len(table),
                n_flagged=int((tally.label == "harvesting").sum()),
                n_flagged_accounts=table.column("label").to_pylist().count("harvesting"),
                files=digests(paths),
                cost=watch.cost(),
                n_altered=int(n_altered.sum()),
                n_undecided=int((tally.label == "undecided").sum()),
            )

    def _judge(
        self, timeline: Timeline, scorer: Scorer, encoder: TimedEncoder, paths: Sequence[Path], watch: Stopwatch
    ) -> tuple[accounts.Tally, NDArray[np.int64], accounts.WholeVerdicts]:
        """What the roll-up reads: of each session, how many of its prompts are altered, and accounts as a whole."""
        tallies, n_altered = [], []
        bundle = scorer.bundle
        whole = WholeAccounts(timeline.owners(), np.diff(timeline.offsets), bundle.capabilities)
        known = _indicators(self.indicators) if self.indicators else None
        prompts_filter = _known_prompts(self.known_prompts) if self.known_prompts else None
        with (
            writing(paths[0], verdict.SCHEMA, token=new_token(), private=True) as writer,
            writing(paths[2], indicators.SCHEMA, token=new_token(), private=True) as matches,
            writing(paths[3], known_prompts.SCHEMA, token=new_token(), private=True) as public,
        ):
            for sessions in timed(timeline.chunks(CHUNK_PROMPTS), watch, "sort"):
                encoded = encoder.seconds
                with watch.of("judge"):
                    prompts = observe(sessions, bundle.encoder, bundle.capabilities, bundle.prompt_scorer)
                    verdicts = scorer.judge_observed(sessions, prompts)
                    whole.add(prompts, verdicts.features)
                watch.add("encode", encoder.seconds - encoded)
                watch.add("judge", encoded - encoder.seconds)
                with watch.of("write"):
                    writer.add(verdicts.table())
                if known is not None:
                    with watch.of("match"):
                        cells = prompts.assigned.cell.astype(np.int64)
                        matches.add(indicators.match(known, sessions, cells, bundle.bundle_id))
                if prompts_filter is not None:
                    with watch.of("match"):
                        public.add(prompts_filter.table(sessions))
                tallies.append(accounts.Tally.of(verdicts))
                n_altered.append(altered_counts(sessions))
        judged = accounts.WholeVerdicts.of(whole.rows(), whole.n_exchanges, bundle, scorer.fpr)
        return accounts.Tally.joined(tallies), np.concatenate(n_altered), judged


@functools.cache
def _scorer(bundle: str) -> tuple[Scorer, TimedEncoder]:
    """The scorer, once a process, and the clock on its encoder."""
    scorer = load(bundle)
    encoder = TimedEncoder(scorer.bundle.encoder)
    return Scorer(replace(scorer.bundle, encoder=encoder)), encoder


@functools.cache
def _known_prompts(path: str) -> known_prompts.KnownPrompts:
    return known_prompts.KnownPrompts.read(Path(path))


@functools.cache
def _indicators(path: str) -> indicators.Indicators:
    return indicators.read(Path(path))
