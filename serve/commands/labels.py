"""`stillwatch labels`: corpora from analysts' feedback."""

from __future__ import annotations

import argparse
from pathlib import Path

from serve.commands.command import DONE, Command
from serve.commands.inputs import read_inputs
from serve.commands.options import add_exchanges


def _add_labels(parser: argparse.ArgumentParser) -> None:
    add_exchanges(parser, "EXCHANGES")
    parser.add_argument(
        "--feedback", type=Path, required=True, metavar="DB", help="feedback file of the analyst's page"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write the corpora to")


def _labels(options: argparse.Namespace) -> int:
    from serve.analyst.feedback import Feedback, export

    if not options.feedback.is_file():
        raise ValueError(f"there is no feedback file {options.feedback}")
    with read_inputs(options) as inputs:
        found = export(Feedback(options.feedback).marks(), inputs.paths, options.out)
    for label, n_sessions in found.n_sessions.items():
        print(f"{n_sessions:,} {label} session{'s' * (n_sessions != 1)} of {found.n_prompts[label]:,} prompts")
    if n := found.n_missing:
        print(f"{n:,} marked session{'s have' if n != 1 else ' has'} no exchange in these files")
    if found.descriptions:
        print(f"python -m train corpora.described=[{','.join(map(str, found.descriptions))}]")
    return DONE


LABELS = Command("labels", "turn analysts' marks into corpora for training", _add_labels, _labels)
