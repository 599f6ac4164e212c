"""Known sets: prompts of public sets as a filter, by which `stillwatch score --known-prompts` tells who sends them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from serve.features.known_prompts import KnownPrompts
from serve.io.discovery import InputError, below
from serve.io.importing import Choice, format_of, shown_names
from serve.io.log_files.files import Log
from serve.io.log_files.opening import LogError
from serve.io.logs.requests import Format, Request
from serve.jobs.progress import Progress, span
from serve.sessions.wording import counted

_COLUMN = "text"
_CARDS = frozenset(("CARDS.json", "dataset_info.json", "dataset_infos.json"))
"""Files of folders that describe sets, beside READMEs."""


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files of sets: those given, and all of folders but their cards.

    Raises:
        InputError: when one isn't there.
    """
    found = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} doesn't exist")
        found += (
            [path] if path.is_file() else [own for own in below(path) if own.suffix != ".md" and own.name not in _CARDS]
        )
    return found


def texts_of(path: Path, column: str | None = None) -> Iterator[str]:
    """The prompts of a set: the texts of a column (`text` where none is named), what clients ask in a log of any
    format, or the lines of a text.

    Raises:
        LogError: when the file has no such column and, where none is named, is nothing else of these; or when it can't
            be read on.
    """
    log, name = Log(path), column or _COLUMN
    if any(isinstance(row.get(name), str) for row in log.sample.objects):
        for record in log.records():
            if isinstance(record.value, dict) and isinstance(text := record.value.get(name), str):
                yield text
    elif column is not None:
        # A list of prompts, one a line, looks like CSV whose names of columns are the first of them.
        names = () if ".txt" in path.suffixes else dict.fromkeys(key for row in log.sample.objects for key in row)
        raise LogError(f"{path}: no column {column} with texts; its columns: {shown_names(names) or 'none'}")
    elif (form := _format_of(log)) is not None:
        for outcome in form.requests(log):
            if isinstance(outcome, Request):
                yield from (turn.text for turn in outcome.talk.turns)
    elif log.kind == "text" or ".txt" in path.suffixes:  # one with commas looks like CSV
        yield from filter(str.strip, log.lines())
    elif log.kind != "empty":
        raise LogError(f"{path}: no column {_COLUMN} and no known format; name the column of prompts with --column")


def _format_of(log: Log) -> Format | None:
    try:
        return format_of(log, Choice())
    except LogError:  # it asks for arguments that other commands have
        return None


def known_prompts(paths: Sequence[Path], column: str | None, fpr: float, progress: Progress) -> KnownPrompts:
    """The filter of all prompts of these files.

    Raises:
        LogError: as `texts_of`.
        ValueError: when they hold no prompt.
    """

    def texts() -> Iterator[str]:
        progress.begin("read", 0)
        for place, path in enumerate(paths):
            yield from texts_of(path, column)
            progress.tell(place + 1, len(paths), "files")

    name = ", ".join(path.name.split(".", 1)[0] for path in paths)
    found = KnownPrompts.of(name if len(name) <= 200 else f"{len(paths)} sets", texts(), fpr)
    if not found.n_prompts:
        raise ValueError(f"{counted(len(paths), 'file')} without a prompt, expected public sets of prompts")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 done, 2 not usable."""
    parser = argparse.ArgumentParser(prog="python -m train.seeds", description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path, metavar="FILE|DIR", help="public sets of prompts, in any layout")
    parser.add_argument("--out", required=True, type=Path, metavar="FILTER", help="the filter, for --known-prompts")
    parser.add_argument(
        "--column", help="column of the prompt (default: text, else by the format; a text by its lines)"
    )
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
    sys.stdout.write(
        f"{counted(found.n_prompts, 'prompt')} in {given.out} ({given.out.stat().st_size:,} bytes) after {took}\n"
    )
    return 0
