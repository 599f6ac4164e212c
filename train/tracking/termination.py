"""Termination: SIGTERM as an exception, so that what is open is ended on the way out."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn


class Terminated(SystemExit):
    """SIGTERM came: the process ends with the exit code that shells give for it, without a traceback."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM a `Terminated` inside; only the main thread may, in others it stays as it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated(128 + number)
