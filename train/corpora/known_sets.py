"""Known sets: prompts of public sets as a filter, by which `stillwatch score --known-prompts` tells who sends them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from serve.features.known_prompts import KnownPrompts
from serve.io.discovery import InputError, below
from serve.io.importing import Choice, format_of
from serve.io.log_files.files import Log
from serve.io.log_files.opening import LogError
from serve.io.logs.requests import Request
from serve.jobs.progress import Progress, span

_CARDS = "CARDS.json"


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files of sets: those given, and all of folders but their cards.

    Raises:
        InputError: when one isn't there.
    """
    found = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} doesn't exist")
        found += [path] if path.is_file() else [own for own in below(path) if own.suffix not in (".md", ".json")]
    return found


def texts_of(path: Path, column: str) -> Iterator[str]:
    """The prompts of a set: a column of texts, or what clients ask in a log of any format.

    Raises:
        LogError: when the file has no such column and is of no known format, or can't be read on.
    """
    log = Log(path)
    if any(isinstance(row.get(column), str) for row in log.sample.objects):
        for record in log.records():
            if isinstance(record.value, dict) and isinstance(text := record.value.get(column), str):
                yield text
        return
    if (form := format_of(log, Choice())) is not None:
        for outcome in form.requests(log):
            if isinstance(outcome, Request):
                yield from (turn.text for turn in outcome.talk.turns)


def known_prompts(paths: Sequence[Path], column: str, fpr: float, progress: Progress) -> KnownPrompts:
    """The filter of all prompts of these files.

    Raises:
        LogError: as `texts_of`.
    """

    def texts() -> Iterator[str]:
        progress.begin("read", 0)
        for place, path in enumerate(paths):
            yield from texts_of(path, column)
            progress.tell(place + 1, len(paths), "files")

    name = ", ".join(path.name.split(".", 1)[0] for path in paths)
    return KnownPrompts.of(name if len(name) <= 200 else f"{len(paths)} sets", texts(), fpr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 done, 2 not usable."""
    parser = argparse.ArgumentParser(prog="python -m train.seeds", description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path, metavar="FILE|DIR", help="public sets of prompts, in any layout")
    parser.add_argument("--out", required=True, type=Path, metavar="FILTER")
    parser.add_argument("--column", default="text", help="column of the prompt (default: text, else by the format)")
    parser.add_argument("--fpr", type=float, default=0.001, help="share of other prompts that pass for known ones")
    given = parser.parse_args(arguments)
    began_at = time.perf_counter()
    try:
        if not 0.0 < given.fpr <= 0.5:
            raise ValueError(f"fpr is {given.fpr:g}, expected a share above 0 and up to 0.5")
        with Progress(sys.stderr) as progress:
            found = known_prompts(files_of(given.sets), given.column, given.fpr, progress)
        found.write(given.out)
    except (ValueError, LogError, OSError, ImportError) as fault:
        sys.stderr.write(f"seeds: {fault}\n")
        return 2
    took = span(time.perf_counter() - began_at)
    sys.stdout.write(f"{found.n_prompts:,} prompts in {given.out} ({given.out.stat().st_size:,} bytes) after {took}\n")
    return 0
