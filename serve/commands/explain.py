"""`stillwatch explain`: the verdict on a session, or on each of an account, with its reasons."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.commands.command import DONE, Command
from serve.commands.inputs import read_inputs
from serve.commands.options import add_bundle, add_exchanges
from serve.sessions.wording import counted

if TYPE_CHECKING:
    from serve.features.known_prompts import KnownPrompts
    from serve.io.reading import Selected
    from serve.scoring.scorer import Scorer
    from serve.scoring.verdict import Verdict
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
    parser.add_argument("--known-prompts", type=Path, metavar="FILTER", help="tell how many prompts are public ones")
    parser.add_argument("--json", action="store_true", help="verdicts as JSON lines, not as cards")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="cards of an account (default 3)")
    add_bundle(parser)


def _explain(options: argparse.Namespace) -> int:
    from serve.features.known_prompts import KnownPrompts
    from serve.io.discovery import discover
    from serve.io.reading import select_account, select_session
    from serve.model.calibration import posterior
    from serve.scoring.scorer import load
    from serve.scoring.verdict_card import plain
    from serve.sessions.sessionizing import Timeline

    if options.prior is not None:
        posterior(0.5, options.prior)  # refuses what is no share
    known = None if options.known_prompts is None else KnownPrompts.read(options.known_prompts)
    scorer = load(options.bundle)
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
        print(f"stillwatch: {counted(selected.n_rejected, 'row')} can't be used (score lists them)", file=sys.stderr)
    if not own:
        wanted = f"account {plain(options.account)}" if by_account else f"session {plain(options.session)}"
        raise ValueError(f"no {wanted} in {', '.join(map(str, options.exchanges))}")
    if by_account:
        own = _account(timeline, own, scorer, options)
    for index in own:
        named = list(_named(timeline, index, scorer, selected if are_rows else None, shows_text=options.show))
        _print(timeline, index, scorer, named, known, options)
    return DONE


def _account(timeline: Timeline, own: list[int], scorer: Scorer, options: argparse.Namespace) -> list[int]:
    """Show the verdict on an account; gives its sessions that are shown after it, the clearest first."""
    from serve.scoring.accounts import judge_account

    sessions = timeline.sessions(own[0], own[-1] + 1)  # an account's sessions lie together
    account = judge_account(sessions, scorer)
    verdicts = account.sessions
    order = sorted(range(len(own)), key=lambda k: (float(verdicts.p_value[k]), -float(verdicts.score[k])))
    shown = order if options.json else order[: options.top]
    if options.json:
        print(json.dumps(_account_record(account.row, account.whole)))
    else:
        if account.whole is not None:
            _print_card(account.whole, [], [], options, is_account=True)
        print(_account_line(account.row, len(shown)), end="\n\n")
    return [own[k] for k in shown]


def _account_line(row: dict[str, Any], n_shown: int) -> str:
    from serve.scoring.verdict_card import plain

    n_sessions, n_flagged = row["n_sessions"], round(row["flagged_share"] * row["n_sessions"])
    parts = [
        f"account {plain(row['account_id'])}: {row['label']}, p-value {row['p_value']:.4f}",
        "judged as a whole" if row["judged_by"] == "account" else "judged by its sessions (too small to judge as one)",
        f"{n_sessions:,} session{'s' * (n_sessions != 1)}, {n_flagged:,} flagged",
        f"the clearest follow{'s' * (n_shown == 1)} ({n_shown})",
    ]
    return "; ".join(parts if n_shown else parts[:-1])


def _account_record(row: dict[str, Any], whole: Verdict | None) -> dict[str, Any]:
    """The account's row, with the reasons where it is judged as a whole."""
    times = {name: None if row[name] is None else row[name].isoformat() for name in ("started_at", "ended_at")}
    return row | times | {"verdict": None if whole is None else dataclasses.asdict(whole)}


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
    timeline: Timeline, index: int, scorer: Scorer, named: list[NamedPrompt], known: KnownPrompts | None,
    options: argparse.Namespace,
) -> None:  # fmt: skip
    from serve.model.calibration import posterior
    from serve.scoring.verdict_card import growing

    sessions = timeline.sessions(index, index + 1)
    verdict = scorer.judge(sessions, explain_all=True).verdict(0)
    if options.json:
        more = {} if options.prior is None else {"posterior": posterior(verdict.score, options.prior)}
        row = dataclasses.asdict(verdict) | {"prompts": [dataclasses.asdict(prompt) for prompt in named]} | more
        print(json.dumps(row | ({} if known is None else {"n_known_prompts": known.counts(sessions)[0].item()})))
        return
    growth = [float(scorer.judge(beginning).score[0]) for beginning in growing(sessions)]
    _print_card(verdict, growth, named, options)
    if known is not None:
        n = known.counts(sessions)[0].item()
        print(
            f"{counted(n, 'prompt')} of {verdict.n_exchanges:,} in public sets ({known.name}); not judged by",
            end="\n\n",
        )


def _print_card(
    verdict: Verdict, growth: list[float], named: list[NamedPrompt], options: argparse.Namespace,
    *, is_account: bool = False,
) -> None:  # fmt: skip
    from rich.console import Console

    from serve.scoring.verdict_card import card, painted

    console = Console(soft_wrap=True, highlight=False)
    with console.capture() as shown:  # so that a pipe which closes is print's to notice
        text = card(verdict, growth, named, options.prior, is_account=is_account)
        console.print(painted(text, verdict), end="\n\n")
    print(shown.get(), end="")


EXPLAIN = Command("explain", "show verdicts with their reasons, of a session or an account", _add_explain, _explain)
