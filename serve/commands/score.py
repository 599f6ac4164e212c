"""`stillwatch score`: exchanges to verdicts."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from serve.commands.command import DONE, TOO_MANY_REJECTS, Command
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
    parser.add_argument(
        "--known-prompts", type=Path, metavar="FILTER", help="public prompts; who sends some is in VERDICTS.known.jsonl"
    )
    parser.add_argument("--resume", action="store_true", help="resume a job that stopped")
    parser.add_argument("--json", action="store_true", help="the summary as one JSON object, for schedulers")
    following = parser.add_argument_group("files that grow")
    following.add_argument(
        "--follow", action="store_true", help="go on reading; append the verdict on each session once it is over"
    )
    following.add_argument(
        "--idle", type=float, metavar="MINUTES", help="a session is over after so long (default: 30)"
    )
    following.add_argument("--every", type=float, metavar="SECONDS", help="look for new rows so often (default: 10)")
    following.add_argument("--once", action="store_true", help="look once, then end")


def _score(options: argparse.Namespace) -> int:
    if options.follow:
        return _follow(options)
    if options.once or options.idle is not None or options.every is not None:
        raise ValueError("--idle, --every and --once need --follow")
    from serve.batch.job import Job, check, run
    from serve.bundle.files import RELEASED
    from serve.jobs.summary import summary_record, summary_text

    job = Job(
        inputs=tuple(map(Path, options.exchanges)),
        out=options.out,
        rejects=rejects_of(options),
        accounts=options.accounts,
        indicators=options.indicators,
        known_prompts=options.known_prompts,
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
    if not summary.n_exchanges:
        _say("no prompt was read, so nothing is judged; is it the right file, format or column?")
    if options.json:
        print(json.dumps(summary_record(summary) | {"inputs": list(inputs.lines())}))
        return exit_code(inputs, summary.is_clean)
    print(summary_text(summary))
    if job.known is not None:
        print(_known(job.known, summary.n_sessions))
    for line in _clearest(summary.clearest, options):
        print(line)
    return finish(inputs, summary.is_clean)


_NOT_FOLLOWED = ("accounts", "indicators", "known_prompts", "resume", "format", "columns", "workers")


def _follow(options: argparse.Namespace) -> int:
    from serve.following.follower import Follower, Following
    from serve.following.growing_files import files_of
    from serve.following.state import State
    from serve.scoring.scorer import load

    if unfit := [name for name in _NOT_FOLLOWED if getattr(options, name) not in (None, False)]:
        raise ValueError(f"--{unfit[0].replace('_', '-')} can't be used with --follow")
    if options.engine != "local" or options.sample != 1.0:
        raise ValueError("--engine and --sample can't be used with --follow")
    every_s = 10.0 if options.every is None else options.every
    if not every_s > 0:
        raise ValueError(f"every is {every_s:g} seconds, expected more than 0")
    idle_s = 1800.0 if options.idle is None else options.idle * 60
    following = Following(tuple(options.exchanges), options.out, rejects_of(options), idle_s)
    for name in options.exchanges:
        if not Path(name).is_dir() and not files_of([name]):
            _say(f"{name}: no file of plain rows is there yet")
    scorer = load(options.bundle)
    with State.opened(following.state, (following.out, following.rejects)) as state:
        follower = Follower(following, scorer, state, _say)
        try:
            if options.once:
                follower.poll()
            else:
                follower.follow(every_s, _say if not options.quiet else lambda _: None)
        finally:
            print(json.dumps(follower.counts.record()) if options.json else follower.counts.text())
    return DONE if follower.counts.is_clean else TOO_MANY_REJECTS


def _say(text: str) -> None:
    print(f"stillwatch: {text}", file=sys.stderr)


def _with_rejects(summary: Summary, inputs: Inputs, rejects: Path) -> Summary:
    """The summary with what was rejected where logs were converted."""
    reasons = Counter(summary.reasons)
    for reading in inputs.readings:
        reasons.update(reading.rejected)
    written = {path: rejects.stat().st_size if path == str(rejects) else n for path, n in summary.written.items()}
    return replace(summary, n_rows=summary.n_rows + inputs.n_rejected, reasons=reasons, written=written)


def _known(path: Path, n_sessions: int) -> str:
    """How many sessions send public prompts."""
    shares = [json.loads(line)["known_share"] for line in path.read_text(encoding="utf-8").splitlines()]
    half = sum(share >= 0.5 for share in shares)
    return (
        f"known      {len(shares):,} of {n_sessions:,} sessions have public prompts; of {half:,} they are half or more"
    )


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
