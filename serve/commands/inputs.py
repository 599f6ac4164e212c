"""What a command reads: plain rows or logs, as the options of `add_exchanges` say."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from serve.commands.command import DONE, TOO_MANY_REJECTS
from serve.commands.options import progress_of, rejects_of

if TYPE_CHECKING:
    from serve.io.inputs import Inputs


def import_folder(out: Path) -> Path:
    """Where imported logs lie while the command that writes `out` is at work."""
    return out.with_name(f"_{out.name}.import")


@contextmanager
def read_inputs(options: argparse.Namespace, out: Path | None = None, *, each_file: bool = False) -> Iterator[Inputs]:
    """The inputs as plain rows; imported logs lie beside `out`, or in a temporary folder, until the command is done."""
    from serve.io.formats import columns
    from serve.io.importing import Choice
    from serve.io.inputs import prepared

    choice = Choice(options.format, columns.parsed(options.columns))
    with ExitStack() as stack:
        if out is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stillwatch."))) / "import"
        else:
            folder = import_folder(out)
        resume = getattr(options, "resume", None)
        with progress_of(options) as progress:
            inputs = stack.enter_context(
                prepared(options.exchanges, folder, choice, each_file=each_file, resume=resume, watcher=progress)
            )
        yield inputs


@contextmanager
def read_job_inputs(options: argparse.Namespace, *, each_file: bool = False) -> Iterator[Inputs]:
    """The inputs of a job that reads row by row, with a warning where they repeat themselves; at the end the rejects of
    imported logs are added to the job's."""
    with read_inputs(options, options.out, each_file=each_file) as inputs:
        _warn_of_repetition(inputs.paths)
        yield inputs
        _append_rejects(rejects_of(options), inputs)


def require_rows(inputs: Inputs, given: Sequence[str | Path]) -> None:
    """Refuse logs that hold no prompt, by the names that were given.

    Raises:
        InputError: when there is nothing but such logs.
    """
    from serve.io.discovery import InputError

    are_imported = all(path.parent == inputs.rejects.parent for path in inputs.paths)
    if are_imported and not sum(reading.n_prompts for reading in inputs.readings):
        raise InputError(f"{', '.join(map(str, given))}: 0 usable rows, expected exchanges")


def _warn_of_repetition(paths: Sequence[Path]) -> None:
    """Warn on stderr where plain rows repeat the history of their sessions."""
    from serve.io.repetition import warning

    text = warning(paths)
    if text is not None:
        print(f"stillwatch: {text}", file=sys.stderr)


def _append_rejects(rejects: Path, inputs: Inputs) -> None:
    """Add the rejects of imported logs to those of the job."""
    if inputs.rejects.exists() and inputs.rejects.stat().st_size:
        with rejects.open("ab") as file:
            file.write(inputs.rejects.read_bytes())


def finish(inputs: Inputs, is_clean: bool) -> int:
    """Print how logs were read; return the exit code."""
    for line in inputs.lines():
        print(line)
    return exit_code(inputs, is_clean)


def exit_code(inputs: Inputs, is_clean: bool) -> int:
    """The exit code of a job that was done, by the share of rows that were rejected."""
    from serve.jobs.summary import MAX_REJECTED_SHARE

    return DONE if is_clean and inputs.is_clean(MAX_REJECTED_SHARE) else TOO_MANY_REJECTS
