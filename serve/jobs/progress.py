"""Progress: how far a long job is, as one line that changes on a terminal and as plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TextIO

_EVERY_SECONDS = {True: 0.2, False: 10.0}


@dataclass
class Progress:
    """Tells of stages on `stream`; on a terminal often, elsewhere every ten seconds."""

    stream: TextIO
    clock: Callable[[], float] = time.monotonic
    _stage: str = ""
    _began_at: float = 0.0
    _told_at: float = 0.0
    _n_before: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.stream.isatty():
            self.stream.write("\r\x1b[K")  # leave the line clean, however it ends
            self.stream.flush()

    def begin(self, stage: str, n_before: int) -> None:
        """A stage begins, `n_before` units of which were done in an earlier run."""
        self._stage, self._n_before = stage, n_before
        self._began_at = self._told_at = self.clock()

    def tell(self, n_done: int, n_all: int, unit: str, detail: str = "") -> None:
        """`n_done` of `n_all` units are done."""
        now = self.clock()
        is_terminal = self.stream.isatty()
        if now - self._told_at < _EVERY_SECONDS[is_terminal]:
            return
        self._told_at = now
        rate = max(n_done - self._n_before, 0) / max(now - self._began_at, 1e-9)
        left = span((n_all - n_done) / rate) if rate else "?"
        pace = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
        line = f"{self._stage} {n_done:,} of {n_all:,} {unit}{detail}, {pace}/s, {left} left"
        self.stream.write(f"\r\x1b[K{line}" if is_terminal else f"{line}\n")
        self.stream.flush()


def span(seconds: float) -> str:
    """A stretch of time as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
