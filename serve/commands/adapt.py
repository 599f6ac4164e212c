"""`stillwatch adapt`: a bundle refitted to a provider's own benign traffic."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from serve.commands.command import Command
from serve.commands.inputs import finish, read_inputs, require_rows
from serve.commands.options import add_exchanges


def _add_adapt(parser: argparse.ArgumentParser) -> None:
    add_exchanges(parser, "BENIGN")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="bundle folder to create")
    confirmed = parser.add_mutually_exclusive_group()
    confirmed.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="labels.jsonl of the analyst's page: BENIGN is all traffic, and parted by it",
    )
    confirmed.add_argument(
        "--harvesting",
        nargs="+",
        type=Path,
        default=(),
        metavar="FILE",
        help="exchanges of confirmed campaigns' accounts",
    )
    parser.add_argument(
        "--fpr", type=float, default=0.01, metavar="SHARE", help="share of benign sessions to flag (default 0.01)"
    )
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="bundle to start from (default: the released one)")


def _adapt(options: argparse.Namespace) -> int:
    from serve.adaptation.adapt import Adaptation, adapt, adaptation_text
    from serve.adaptation.label_files import part, read_labels
    from serve.bundle.bundle import trusted
    from serve.bundle.files import RELEASED
    from serve.jobs.summary import MAX_REJECTED_SHARE

    def progress(stage: str) -> None:
        print(f"adapt: {stage} ...", file=sys.stderr, flush=True)

    job = Adaptation(tuple(map(Path, options.exchanges)), options.out, options.bundle or RELEASED, options.fpr)
    trusted(job.bundle)
    with ExitStack() as stack:
        labels = None if options.labels is None else read_labels(options.labels)
        inputs = stack.enter_context(read_inputs(options))
        require_rows(inputs, options.exchanges)
        benign, confirmed, parted = inputs.paths, tuple[Path, ...](), None
        if labels is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stillwatch.")))
            parted = part(inputs.paths, labels, folder)
            benign, confirmed = (parted.benign,), tuple(filter(None, [parted.harvesting]))
            n = parted.n_left_out
            progress(f"leaving out {n:,} account{'s' * (n != 1)}, by the labels neither benign nor confirmed")
        if options.harvesting:
            other = argparse.Namespace(**{**vars(options), "exchanges": options.harvesting})
            campaigns = stack.enter_context(read_inputs(other))
            require_rows(campaigns, options.harvesting)
            confirmed = campaigns.paths
        done = adapt(replace(job, inputs=benign, harvesting=confirmed), progress)
        if parted is not None:
            done = replace(done, n_rows=parted.n_rows, n_rejected=parted.n_rejected)
    print(adaptation_text(done, options.fpr))
    return finish(inputs, done.n_rejected <= MAX_REJECTED_SHARE * done.n_rows)


ADAPT = Command("adapt", "adapt a bundle to your own benign traffic", _add_adapt, _adapt)
