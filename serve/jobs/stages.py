"""Stages: what a long run is at, as one line on a terminal that is drawn again each second; nothing elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Self, TextIO

from serve.jobs.progress import span

_REDRAW_S = 1.0
_CURRENT: list[Stages] = []


def begin(stage: str) -> None:
    """Say that a stage begins, to whoever listens."""
    if _CURRENT:
        _CURRENT[-1].begin(stage)


class Stages:
    """Listens to `begin` while it is open; `shares` says which part of a run's time each stage takes, in order."""

    def __init__(
        self, stream: TextIO, shares: Mapping[str, float], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Draw on `stream` where it is a terminal."""
        self._stream, self._shares, self._clock = stream, shares, clock
        self._began_at, self._stage, self._stage_at = clock(), "", clock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        _CURRENT.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _CURRENT.remove(self)
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def begin(self, stage: str) -> None:
        """A stage begins."""
        self._stage, self._stage_at = stage, self._clock()
        if self._thread is None and self._stream.isatty():
            self._thread = threading.Thread(target=self._redraw, name="stages", daemon=True)
            self._thread.start()

    def line(self) -> str:
        """What is shown now: the stage, how long it takes, and about how long the rest will."""
        now, names = self._clock(), list(self._shares)
        text = f"{self._stage}, {span(now - self._stage_at)}"
        if self._stage not in self._shares:
            return text
        place = names.index(self._stage)
        before = sum(self._shares[name] for name in names[:place])
        left = 1.0 - before - self._shares[self._stage]
        whole = (self._stage_at - self._began_at) / before if before else 0.0
        rest = max(whole * (1.0 - before) - (now - self._stage_at), whole * left)
        return f"{place + 1} of {len(names)}: {text}" + (f", about {span(rest)} left" if whole else "")

    def _redraw(self) -> None:
        while not self._ended.wait(_REDRAW_S):
            self._stream.write(f"\r\x1b[K{self.line()}")
            self._stream.flush()
