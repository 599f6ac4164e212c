"""`stillwatch explain`: the verdict on a session, or on each of an account, with its reasons."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from serve.commands.command import DONE, Command
from serve.commands.inputs import read_inputs
from serve.commands.options import add_bundle, add_exchanges

if TYPE_CHECKING:
    from serve.io.reading import Selected
    from serve.scoring.scorer import Scorer
    from serve.scoring.verdict_card import NamedPrompt
    from serve.sessions.sessionizing import Timeline


def _add_explain(parser: argparse.ArgumentParser) -> None:
    add_exchanges(parser, "EXCHANGES")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--session", metavar="ID", help="session_id, as in the exchanges or the verdicts")
    which.add_argument("--account", metavar="ID", help="all sessions of an account, the clearest first")
    parser.add_argument("--show", action="store_true", help="print the prompts that weigh most, from EXCHANGES")
    parser.add_argument(
        "--prior", type=float, metavar="SHARE", help="share of sessions that harvest: what the score means then"
    )
    parser.add_argument("--json", action="store_true", help="verdicts as JSON lines, not as cards")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="cards of an account (default 3)")
    add_bundle(parser)


def _explain(options: argparse.Namespace) -> int:
    from serve.io.discovery import discover
    from serve.io.reading import select_account, select_session
    from serve.model.calibration import posterior
    from serve.scoring.scorer import load
    from serve.scoring.verdict_card import plain
    from serve.sessions.sessionizing import Timeline

    if options.prior is not None:
        posterior(0.5, options.prior)  # refuses what is no share
    with read_inputs(options) as inputs:
        sources = discover(inputs.paths).sources
        by_account = options.account is not None
        selected = select_account(sources, options.account) if by_account else select_session(sources, options.session)
        are_rows = not inputs.readings
    timeline = Timeline.of(selected.table)
    own = [
        index for index, name in enumerate(timeline.session_ids.to_pylist()) if by_account or name == options.session
    ]
    if selected.n_rejected:
        print(f"stillwatch: {selected.n_rejected:,} rows can't be used (score lists them)", file=sys.stderr)
    if not own:
        wanted = f"account {plain(options.account)}" if by_account else f"session {plain(options.session)}"
        raise ValueError(f"no {wanted} in {', '.join(map(str, options.exchanges))}")
    scorer = load(options.bundle)
    if by_account:
        own = _clearest(timeline, own, scorer, options)
    for index in own:
        named = list(_named(timeline, index, scorer, selected if are_rows else None, shows_text=options.show))
        _print(timeline, index, scorer, named, options)
    return DONE


def _clearest(timeline: Timeline, own: list[int], scorer: Scorer, options: argparse.Namespace) -> list[int]:
    """The sessions of an account that are shown, the clearest first, after a line on all of them."""
    from serve.scoring.verdict_card import plain

    verdicts = [scorer.judge(timeline.sessions(index, index + 1)) for index in own]
    order = sorted(range(len(own)), key=lambda k: (float(verdicts[k].p_value[0]), -float(verdicts[k].score[0])))
    shown = order[: options.top]
    if not options.json:
        n_flagged = sum(bool(verdict.is_flagged[0]) for verdict in verdicts)
        print(f"account {plain(options.account)}: {len(own):,} sessions, {n_flagged:,} flagged; here {len(shown)}\n")
    return [own[k] for k in (order if options.json else shown)]


def _named(
    timeline: Timeline, index: int, scorer: Scorer, selected: Selected | None, *, shows_text: bool
) -> Iterator[NamedPrompt]:
    """The prompts that weigh most, with their place in the log where its rows are exchanges."""
    from serve.scoring.removal import weightiest
    from serve.scoring.verdict_card import NamedPrompt

    session = timeline.sessions(index, index + 1)
    for weight in weightiest(scorer, session):
        place = weight.position - 1
        at, row = float(session.at[place]), int(timeline.order[timeline.offsets[index] + place])
        yield NamedPrompt(
            weight.position,
            weight.fall,
            None if math.isnan(at) else at,
            None if selected is None else selected.files[row],
            None if selected is None else int(selected.lines[row]),
            session.prompts[place] if shows_text else None,
        )


def _print(
    timeline: Timeline, index: int, scorer: Scorer, named: list[NamedPrompt], options: argparse.Namespace
) -> None:
    from rich.console import Console

    from serve.model.calibration import posterior
    from serve.scoring.verdict_card import card, growing, painted

    sessions = timeline.sessions(index, index + 1)
    verdict = scorer.judge(sessions, explain_all=True).verdict(0)
    if options.json:
        more = {} if options.prior is None else {"posterior": posterior(verdict.score, options.prior)}
        row = dataclasses.asdict(verdict) | {"prompts": [dataclasses.asdict(prompt) for prompt in named]} | more
        print(json.dumps(row))
        return
    growth = [float(scorer.judge(beginning).score[0]) for beginning in growing(sessions)]
    console = Console(soft_wrap=True, highlight=False)
    with console.capture() as shown:  # so that a pipe which closes is print's to notice
        console.print(painted(card(verdict, growth, named, options.prior), verdict), end="\n\n")
    print(shown.get(), end="")


EXPLAIN = Command("explain", "show verdicts with their reasons, of a session or an account", _add_explain, _explain)
