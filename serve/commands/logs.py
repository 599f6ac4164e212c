"""`stillwatch import` and `stillwatch formats`: logs as plain rows."""

from __future__ import annotations

import argparse
from pathlib import Path

from serve.commands.command import DONE, Command
from serve.commands.inputs import finish
from serve.commands.options import add_exchanges, progress_of


def _add_import(parser: argparse.ArgumentParser) -> None:
    add_exchanges(parser, "LOGS")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="rows to write, .parquet or .jsonl")
    parser.add_argument("--rejects", type=Path, metavar="FILE", help="write rejected rows as JSONL")


def _import(options: argparse.Namespace) -> int:
    from serve.io.formats import columns
    from serve.io.importing import Choice
    from serve.io.inputs import import_to

    choice = Choice(options.format, columns.parsed(options.columns))
    with progress_of(options) as progress:
        inputs = import_to(options.exchanges, options.out, choice, options.rejects, progress)
    code = finish(inputs, is_clean=True)
    print(f"wrote {options.out} ({options.out.stat().st_size:,} bytes)")
    return code


def _add_formats(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "A format is recognised by what a file holds, not by its name."


def _formats(options: argparse.Namespace) -> int:
    from serve.io import formats

    width = max(len(form.name) for form in formats.FORMATS)
    for form in formats.FORMATS:
        print(f"{form.name:<{width}}  {form.title}")
    return DONE


IMPORT = Command("import", "convert logs of any format to plain rows", _add_import, _import)
FORMATS = Command("formats", "list the log formats that are read", _add_formats, _formats)
