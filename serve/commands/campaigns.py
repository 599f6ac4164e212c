"""`stillwatch campaigns`: exchanges to campaigns."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from serve.commands.command import Command
from serve.commands.inputs import finish, read_job_inputs
from serve.commands.options import add_bundle, add_exchanges, add_job, progress_of, rejects_of, workers_of


def _add_campaigns(parser: argparse.ArgumentParser) -> None:
    add_exchanges(parser, "EXCHANGES")
    parser.add_argument("--out", type=Path, required=True, metavar="CAMPAIGNS", help="file to write, .json")
    parser.add_argument(
        "--members", type=Path, metavar="FILE", help="write account, campaign and confidence, .parquet or .jsonl"
    )
    add_job(parser)
    parser.add_argument(
        "--archive", type=Path, metavar="DIR", help="keep sketches here between runs, and read only new files"
    )
    parser.add_argument(
        "--metadata", type=Path, nargs="+", default=[], metavar="FILE",
        help="tables of account_id with ip, asn, api_key, payment, signup, user_agent or country",
    )  # fmt: skip
    parser.add_argument(
        "--metadata-key", type=Path, metavar="FILE", help="a secret: keep metadata in the archive, hashed with it"
    )
    parser.add_argument("--indicators", type=Path, metavar="FILE", help="write hashes and profiles to share, as JSON")
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="run on this machine or on a Ray cluster"
    )
    parser.add_argument("--resume", action="store_true", help="resume a job that stopped")
    add_bundle(parser)


def _campaigns(options: argparse.Namespace) -> int:
    from serve.bundle.bundle import trusted
    from serve.bundle.files import RELEASED
    from serve.campaigns.job import CampaignJob, run
    from serve.campaigns.results import summary_text

    began_at = time.monotonic()
    job = CampaignJob(
        inputs=tuple(map(Path, options.exchanges)),
        out=options.out,
        rejects=rejects_of(options),
        members=options.members,
        indicators=options.indicators,
        archive=options.archive,
        metadata=tuple(options.metadata),
        metadata_key=options.metadata_key,
        engine=options.engine,
        resume=options.resume,
        bundle=options.bundle or RELEASED,
        **workers_of(options),
    )
    trusted(job.bundle)
    with read_job_inputs(options, each_file=options.archive is not None) as inputs:
        outcome = run(replace(job, inputs=inputs.paths), progress_of(options))
    print(summary_text(outcome, time.monotonic() - began_at))
    return finish(inputs, outcome.is_clean)


CAMPAIGNS = Command("campaigns", "find accounts that harvest together", _add_campaigns, _campaigns)
