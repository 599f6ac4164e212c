"""Options that several commands have."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serve.jobs.progress import Progress


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add `--bundle`, by default None: the released one; and `--require-signed`."""
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="bundle to judge with (default: the released one)")
    add_signer(parser)


def add_signer(parser: argparse.ArgumentParser) -> None:
    """Add `--require-signed`, which `main` lets every reader of a bundle know of."""
    parser.add_argument(
        "--require-signed", metavar="KEY", help="refuse a bundle without a signature by this minisign key (or its file)"
    )


def add_exchanges(parser: argparse.ArgumentParser, metavar: str) -> None:
    """Add the inputs of exchanges and how they are read, for `read_inputs`."""
    parser.add_argument(
        "exchanges",
        nargs="+",
        metavar=metavar,
        help="rows or logs: files, folders, patterns, URLs, or - for standard input",
    )
    add_reading(parser)


def progress_of(options: argparse.Namespace) -> Progress:
    """Who is told on stderr how far the work is; with `--quiet` nobody hears it."""
    from serve.jobs.progress import Progress

    return Progress(io.StringIO() if options.quiet else sys.stderr)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add `--format` and `--columns`: how logs are read; and `--quiet`, for `progress_of`."""
    parser.add_argument("--format", metavar="NAME", help="read as this format (default: recognised by content)")
    parser.add_argument("--columns", metavar="FIELD=COLUMN,...", help="columns of a table: account_id=user,prompt=text")
    parser.add_argument("--quiet", action="store_true", help="say nothing of how far the work is")


def add_job(parser: argparse.ArgumentParser) -> None:
    """Add what jobs have that read exchanges row by row: `--rejects` and `--workers`."""
    parser.add_argument(
        "--rejects", type=Path, metavar="FILE", help="rejected rows, JSONL (default: OUT.rejects.jsonl)"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes (default: one for each core)")


def workers_of(options: argparse.Namespace) -> dict[str, int]:
    """`n_workers` as an argument of a job, where it was given."""
    return {} if options.workers is None else {"n_workers": options.workers}


def rejects_of(options: argparse.Namespace) -> Path:
    """The file for rejected rows: the one that was given, or beside `--out`."""
    return Path(options.rejects or options.out.with_name(f"{options.out.name}.rejects.jsonl"))


def add_sample(parser: argparse.ArgumentParser) -> None:
    """Add `--sample`, a share of accounts from 0 to 1."""
    parser.add_argument("--sample", type=float, default=1.0, metavar="SHARE", help="use only this share of accounts")
