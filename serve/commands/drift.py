"""`stillwatch drift`: how far traffic has moved."""

from __future__ import annotations

import argparse
from pathlib import Path

from serve.commands.command import DONE, DRIFTED, Command
from serve.commands.options import add_bundle


def _add_drift(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "verdicts", nargs="+", type=Path, metavar="VERDICTS", help="verdicts file written by score, .parquet or .jsonl"
    )
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="compare with earlier verdicts, not with training"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all comparisons as JSON")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="features and areas to show (default 10)")
    add_bundle(parser)


def _drift(options: argparse.Namespace) -> int:
    from serve.bundle.bundle import Bundle
    from serve.bundle.files import RELEASED
    from serve.monitoring.drift import drift
    from serve.monitoring.drift_text import drift_text, write_drift
    from serve.monitoring.traffic import Reference, Traffic

    bundle = Bundle.load(options.bundle or RELEASED)
    traffic = Traffic.read(options.verdicts, bundle)
    if options.reference is not None:
        usual = Reference.of_traffic(Traffic.read([options.reference], bundle))
    elif bundle.benign is not None:
        usual = Reference.of_bundle(bundle.benign, traffic.n_exchanges)
    else:
        raise ValueError(f"bundle {bundle.bundle_id} has no benign profile: give earlier verdicts with --reference")
    found = drift(traffic, usual, bundle)
    print(drift_text(found, n_shown=options.top))
    if options.out is not None:
        write_drift(found, options.out)
    return DRIFTED if found.alarms else DONE


DRIFT = Command("drift", "measure how far traffic has moved from what a bundle knows", _add_drift, _drift)
