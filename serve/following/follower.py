"""Follower: reads what is new in files that grow, and judges each session once, when it is over.

A session is over when no exchange of it was read for `idle_s`, or when it has as many exchanges as a session may have;
the verdict is what a batch gives for the same exchanges. Memory and disk are bounded by what comes in within `idle_s`,
and by `MAX_WAITING`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve.following.counts import Counts
from serve.following.growing_files import Mark, Piece, look, pieces
from serve.following.state import State, Unit
from serve.io.discovery import InputError
from serve.io.reading import read
from serve.io.validation import MISSING
from serve.io.writers import check_places, json_lines
from serve.scoring.scorer import CHUNK_PROMPTS, Scorer
from serve.sessions.sessionizing import MAX_EXCHANGES, MAX_GIVEN_EXCHANGES, Timeline

MAX_WAITING = 1_000_000
"""Exchanges that wait at most; beyond that the sessions that have been quiet longest are judged."""

_SAY_EVERY_S = 10.0


@dataclass(frozen=True)
class Following:
    """What is followed: `inputs` (files, folders, patterns), judged to `out`; rows that can't be used go to `rejects`.

    Raises:
        ValueError: when an output is no .jsonl file or can't be written, or a number is out of range.
        InputError: when there is no folder that an input could be in.
    """

    inputs: tuple[str, ...]
    out: Path
    rejects: Path
    idle_s: float = 1800.0
    max_waiting: int = MAX_WAITING

    def __post_init__(self) -> None:
        if self.out.suffix.lower() != ".jsonl":
            raise ValueError(f"{self.out}: with --follow, verdicts are appended to a file that ends in .jsonl")
        if not self.idle_s > 0:
            raise ValueError(f"idle is {self.idle_s / 60:g} minutes, expected more than 0")
        if missing := [name for name in self.inputs if not Path(name).parent.exists()]:
            raise InputError(f"{missing[0]} doesn't exist")
        check_places((self.out, self.rejects, self.state), self.inputs)

    @property
    def state(self) -> Path:
        """Where it is stored how far the work is."""
        return self.out.with_name(f"_{self.out.name}.follow")


class Follower:
    """Follows files; see `Following`."""

    def __init__(
        self,
        following: Following,
        scorer: Scorer,
        state: State,
        warn: Callable[[str], None],
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Judge with `scorer`, going on from `state`; `warn` is given each sentence on an input once."""
        self._following, self._scorer, self._state, self._clock = following, scorer, state, clock or time.time
        self._warn, self._warned = warn, set[str]()
        self.counts = Counts(n_waiting=state.n_waiting)

    def poll(self) -> None:
        """Read what is new, and judge what is over.

        Raises:
            ValueError: when an output isn't as it was left.
            JobStoppedError: when the state can't be written.
        """
        known = self._state.marks()
        found = look(self._following.inputs, known)
        if known != {mark.identity: mark for mark in found.marks}:
            with self._state.change():
                self._state.replace_marks(found.marks)
        faults = set(found.warnings)
        for mark, place in found.places:
            try:
                self._read(mark, place)
            except InputError as fault:
                faults.add(f"{fault}; it is tried again")
        for text in sorted(faults - self._warned):
            self._warn(text)
        self._warned = faults
        self._judge()

    def follow(self, every_s: float, tell: Callable[[str], None]) -> None:
        """Look every so many seconds, until a signal ends it; `tell` is given a line now and then if there is news.

        Raises:
            ValueError: as `poll`.
            JobStoppedError: as `poll`.
        """
        said, said_at = self.counts.text(), time.monotonic()
        while True:
            self.poll()
            text = self.counts.text()
            if text != said and time.monotonic() - said_at >= _SAY_EVERY_S:
                tell(text)
                said, said_at = text, time.monotonic()
            time.sleep(every_s)

    def _read(self, mark: Mark, place: Path) -> None:
        n_lines = mark.n_lines
        for piece in pieces(mark, place):
            n_lines = self._take(piece, n_lines)
            if self.counts.n_waiting > self._following.max_waiting:
                self._judge()

    def _take(self, piece: Piece, n_lines: int) -> int:
        """Add new rows to what waits; `n_lines` lines of the file are before them, and as many as returned after."""
        counts, rejects = replace(self.counts, reasons=self.counts.reasons.copy()), list[str]()
        n_read = 0
        with self._state.change():
            for batch in read(piece.part):
                self._state.add(batch.table, self._clock())
                for line, reason in sorted(batch.rejects.items()):
                    about = {"file": piece.part.source.path, "line": n_lines + line, "reason": reason}
                    rejects.append(json.dumps(about, ensure_ascii=False) + "\n")
                n_read += batch.n_lines
                counts.n_rows += batch.n_rows
                counts.n_waiting += len(batch.table)
                counts.reasons.update(batch.rejects.values())
            if not n_lines:
                _require_columns(piece, counts.n_rows - self.counts.n_rows, counts.reasons - self.counts.reasons)
            self._state.mark(replace(piece.after, n_lines=n_lines + n_read))
            self._state.put_out(self._following.rejects, "".join(rejects))
        self.counts = counts
        return n_lines + n_read

    def _judge(self) -> None:
        """Judge what is over, some thousand exchanges at a time."""
        due = self._state.due(self._clock() - self._following.idle_s, self._following.max_waiting)
        for units in _groups(due):
            with self._state.change():
                numbers, verdicts = self._verdicts(units)
                self._state.put_out(self._following.out, "".join(chain.from_iterable(map(json_lines, verdicts))))
                self._state.remove(numbers, units)
                self._state.forget_old_names()
            self.counts.n_sessions += sum(map(len, verdicts))
            self.counts.n_flagged += sum(pc.sum(pc.equal(own["label"], "harvesting")).as_py() or 0 for own in verdicts)
            self.counts.n_waiting -= len(numbers)

    def _verdicts(self, units: Sequence[Unit]) -> tuple[list[int], list[pa.Table]]:
        """The exchanges that are judged now, by their numbers, and the verdicts on their sessions."""
        waiting = self._state.waiting(units)
        rows = _over(Timeline.of(waiting.table), units, waiting.owners)
        timeline = Timeline.of(waiting.table.take(pa.array(rows)))
        verdicts = [self._named(self._scorer.judge(part).table()) for part in timeline.chunks(CHUNK_PROMPTS)]
        return waiting.numbers[rows].tolist(), verdicts

    def _named(self, table: pa.Table) -> pa.Table:
        """The verdicts with names that no earlier session of the account has."""
        ids = zip(table["account_id"].to_pylist(), table["session_id"].to_pylist(), strict=True)
        names = pa.array([self._state.new_name(*own) for own in ids], pa.string())
        return table.set_column(table.schema.get_field_index("session_id"), "session_id", names)


def _require_columns(piece: Piece, n_rows: int, reasons: Counter[str]) -> None:
    """Refuse a file that begins with rows none of which has a column that every exchange has."""
    for name, reason in MISSING.items():
        if n_rows and reasons[reason] == n_rows:
            raise InputError(f"{piece.part.source.path}: no row has a usable {name}; only plain rows are followed")


def _groups(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """Units in groups of about `CHUNK_PROMPTS` exchanges."""
    group, n = list[Unit](), 0
    for unit in units:
        if group and n + unit.n > CHUNK_PROMPTS:
            yield group
            group, n = [], 0
        group.append(unit)
        n += unit.n
    if group:
        yield group


def _over(timeline: Timeline, units: Sequence[Unit], owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of sessions that are over, in order: of a unit that isn't, all but the last unless that one is full."""
    owner = owners[timeline.order[timeline.offsets[:-1]]]
    is_last = np.append(np.diff(owner) != 0, True)
    n_full = np.array([MAX_EXCHANGES if unit.session_id is None else MAX_GIVEN_EXCHANGES for unit in units])
    is_over = np.array([unit.is_over for unit in units])[owner]
    sizes = np.diff(timeline.offsets)
    ends = is_over | ~is_last | (sizes == n_full[owner])
    return np.sort(timeline.order[np.repeat(ends, sizes)])
