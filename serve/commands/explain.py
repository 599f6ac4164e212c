"""`stillwatch explain`: one session's verdict with its reasons."""

from __future__ import annotations

import argparse
import sys

from serve.commands.command import DONE, Command
from serve.commands.inputs import read_inputs
from serve.commands.options import add_bundle, add_exchanges


def _add_explain(parser: argparse.ArgumentParser) -> None:
    add_exchanges(parser, "EXCHANGES")
    parser.add_argument(
        "--session", required=True, metavar="ID", help="session_id, as in the exchanges or the verdicts"
    )
    add_bundle(parser)


def _explain(options: argparse.Namespace) -> int:
    from rich.console import Console

    from serve.io.discovery import discover
    from serve.io.reading import select
    from serve.scoring.scorer import load
    from serve.scoring.verdict_card import card, growing, painted, plain
    from serve.sessions.sessionizing import Timeline

    with read_inputs(options) as inputs:
        selected = select(discover(inputs.paths).sources, session_id=options.session)
    timeline = Timeline.of(selected.table)
    own = [index for index, name in enumerate(timeline.session_ids.to_pylist()) if name == options.session]
    if selected.n_rejected:
        print(f"stillwatch: {selected.n_rejected:,} rows can't be used (score lists them)", file=sys.stderr)
    if not own:
        raise ValueError(f"no session {plain(options.session)} in {', '.join(map(str, options.exchanges))}")
    scorer = load(options.bundle)
    console = Console(soft_wrap=True, highlight=False)
    for index in own:
        sessions = timeline.sessions(index, index + 1)
        verdict = scorer.judge(sessions, explain_all=True).verdict(0)
        growth = [float(scorer.judge(beginning).score[0]) for beginning in growing(sessions)]
        with console.capture() as shown:  # so that a pipe which closes is print's to notice
            console.print(painted(card(verdict, growth), verdict), end="\n\n")
        print(shown.get(), end="")
    return DONE


EXPLAIN = Command("explain", "show one session's verdict with its reasons", _add_explain, _explain)
