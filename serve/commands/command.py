"""What a command is, and the exit codes that all commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

DONE, DRIFTED, UNUSABLE, TOO_MANY_REJECTS, STOPPED, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 4, 130, 143
EXIT_CODES = (
    "Exit codes of every command: 0 done; 1 done, and drift was found; 2 not usable, nothing was done; 3 done, but "
    "over 5 % of the rows were rejected; 4 stopped half-way; 130 Ctrl-C, 143 SIGTERM."
)
"""The same for every command, as its help says."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its name, what it does in a line, its options, and what runs it and returns the exit code."""

    name: str
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
