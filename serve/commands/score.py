"""`stillwatch score`: exchanges to verdicts."""

from __future__ import annotations

import argparse
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from serve.commands.command import Command
from serve.commands.inputs import exit_code, finish, read_job_inputs
from serve.commands.options import add_bundle, add_exchanges, add_job, add_sample, progress_of, rejects_of, workers_of

if TYPE_CHECKING:
    from serve.io.inputs import Inputs
    from serve.jobs.summary import ClearAccount, Summary


def _add_score(parser: argparse.ArgumentParser) -> None:
    add_exchanges(parser, "EXCHANGES")
    parser.add_argument("--out", type=Path, required=True, metavar="VERDICTS", help="file to write, .parquet or .jsonl")
    parser.add_argument("--accounts", type=Path, metavar="FILE", help="write verdicts by account, .parquet or .jsonl")
    add_job(parser)
    add_bundle(parser)
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="run on this machine or on a Ray cluster"
    )
    add_sample(parser)
    parser.add_argument(
        "--indicators", type=Path, metavar="FILE", help="campaigns to look for; matches go to VERDICTS.matches.jsonl"
    )
    parser.add_argument("--resume", action="store_true", help="resume a job that stopped")
    parser.add_argument("--json", action="store_true", help="the summary as one JSON object, for schedulers")


def _score(options: argparse.Namespace) -> int:
    from serve.batch.job import Job, check, run
    from serve.bundle.files import RELEASED
    from serve.jobs.summary import summary_record, summary_text

    job = Job(
        inputs=tuple(map(Path, options.exchanges)),
        out=options.out,
        rejects=rejects_of(options),
        accounts=options.accounts,
        indicators=options.indicators,
        bundle=options.bundle or RELEASED,
        engine=options.engine,
        sample=options.sample,
        resume=options.resume,
        **workers_of(options),
    )
    check(job)
    with read_job_inputs(options) as inputs:
        summary = run(replace(job, inputs=inputs.paths), progress_of(options))
    summary = _with_rejects(summary, inputs, job.rejects)
    if options.json:
        print(json.dumps(summary_record(summary) | {"inputs": list(inputs.lines())}))
        return exit_code(inputs, summary.is_clean)
    print(summary_text(summary))
    for line in _clearest(summary.clearest, options):
        print(line)
    return finish(inputs, summary.is_clean)


def _with_rejects(summary: Summary, inputs: Inputs, rejects: Path) -> Summary:
    """The summary with what was rejected where logs were converted."""
    reasons = Counter(summary.reasons)
    for reading in inputs.readings:
        reasons.update(reading.rejected)
    written = {path: rejects.stat().st_size if path == str(rejects) else n for path, n in summary.written.items()}
    return replace(summary, n_rows=summary.n_rows + inputs.n_rejected, reasons=reasons, written=written)


def _clearest(accounts: Sequence[ClearAccount], options: argparse.Namespace) -> Iterator[str]:
    """The accounts to look at first, each with the command that explains it."""
    from serve.scoring.verdict_card import plain

    if not accounts:
        yield "no account is flagged, nor any session of one"
        return
    given = [*options.exchanges]
    for name in ("format", "columns", "bundle"):
        if (value := getattr(options, name)) is not None:
            given += [f"--{name}", str(value)]
    one = len(accounts) == 1
    several = f"the {len(accounts)} clearest accounts, and what explains them"
    yield "the clearest account, and what explains it" if one else several
    for account in accounts:
        words = ["stillwatch", "explain", *map(str, given), f"--account={account.account_id}"]
        yield (
            f"  {account.label:<11} p {account.p_value:.4f} {account.n_exchanges:>9,} exchanges  "
            f"{plain(shlex.join(words), 500)}"
        )


SCORE = Command("score", "judge the sessions in files of exchanges", _add_score, _score)
