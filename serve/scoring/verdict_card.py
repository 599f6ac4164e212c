"""Verdict card: one verdict as text for a terminal; no prompt text, and no control characters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from serve.model.calibration import BASE_RATE, MIN_DECIDABLE, posterior
from serve.scoring.explanation import Sum
from serve.scoring.verdict import Verdict
from serve.sessions.records import Sessions
from serve.sessions.wording import counted

if TYPE_CHECKING:
    from rich.text import Text

N_STEPS = 24
SHOWN_CHARS = 1_000
"""Characters of a prompt that are shown where a user asks for it."""
_BAR_WIDTH = 24
_TICKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class NamedPrompt:
    """One of the prompts that weigh most, where it stands in the session (from 1) and in a log, its time, and by how
    much the log-odds of the score fall without it; `text` only where a user asked to see it."""

    position: int
    fall: float
    at: float | None = None
    file: str | None = None
    line: int | None = None
    text: str | None = None


def card(
    verdict: Verdict, growth: Sequence[float], prompts: Sequence[NamedPrompt] = (), prior: float | None = None,
    *, is_account: bool = False,
) -> str:  # fmt: skip
    """The verdict, its reasons, the prompts that weigh most, what it covers, and `growth`, the score at even steps as
    the session grew; with a `prior`, the share of sessions that harvest, what the score means then. `is_account` says
    that the verdict is on all sessions of an account together."""
    account = f"account {plain(verdict.account_id)}"
    lines = [
        f"{account}, all sessions as one" if is_account else f"session {plain(verdict.session_id)} of {account}",
        f"{counted(verdict.n_exchanges, 'exchange')}{_period(verdict)}",
        "",
        f"{verdict.label}   score {verdict.score:.4f} (flagged from {verdict.threshold:.4f}), p-value "
        f"{verdict.p_value:.4f}",
        *_meaning(verdict, prior),
        *([f"score as the session grew  {sparkline(growth)}"] if len(growth) > 1 else []),
        "",
        *_why(verdict),
        "",
        *_prompts(prompts),
        f"{'area':<28}{'prompts':<{_BAR_WIDTH + 7}}cells reached",
        *_areas(verdict),
        "",
        f"bundle {verdict.bundle}",
    ]
    return "\n".join(lines)


def painted(text: str, verdict: Verdict) -> Text:
    """A card in colours that are told apart by anyone, where the terminal has any; the text itself is the same."""
    from rich.text import Text

    label = {"harvesting": "bold dark_orange3", "organic": "bold deep_sky_blue3"}.get(verdict.label, "bold")
    shown = Text(text)
    shown.highlight_regex(rf"(?m)^{verdict.label}(?=   score)", label)
    shown.highlight_regex(r"(?m)^  +\+\d+\.\d\d(?=  )", "dark_orange3")
    shown.highlight_regex(r"(?m)^  +-\d+\.\d\d(?=  )", "deep_sky_blue3")
    shown.highlight_regex(rf"[{_TICKS[0]}-{_TICKS[-1]}]+", "deep_sky_blue3")
    shown.highlight_regex(r"(?m)^(why .*|area .*|session .*)$", "bold")
    return shown


def growing(sessions: Sessions) -> Iterator[Sessions]:
    """One session's beginnings, at up to `N_STEPS` even steps of its growth, the last one whole."""
    n = len(sessions.prompts)
    for k in sorted({max(1, round(n * step / N_STEPS)) for step in range(1, N_STEPS + 1)}):
        yield Sessions(
            sessions.session_ids,
            sessions.account_ids,
            np.array([0, k], np.int64),
            sessions.prompts[:k],
            sessions.at[:k],
        )


def sparkline(values: Sequence[float]) -> str:
    """A row of bars, each from 0 to 1."""
    return "".join(_TICKS[min(int(value * len(_TICKS)), len(_TICKS) - 1)] for value in values)


def plain(text: str, width: int = 80) -> str:
    """A text from outside, cut to a width, without what would move or colour a terminal."""
    shown = "".join(character if character.isprintable() else "�" for character in text[:width])
    return shown if len(text) <= width else f"{shown}…"


def _period(verdict: Verdict) -> str:
    if verdict.started_at is None or verdict.ended_at is None:
        return ", at unknown times"
    first, last = (datetime.fromtimestamp(at, UTC) for at in (verdict.started_at, verdict.ended_at))
    return f", {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC"


def _why(verdict: Verdict) -> Iterator[str]:
    """The sum that leads to the log-odds of the score."""
    yield "why (log-odds; + speaks for harvesting)"
    shown = Sum.of(verdict.explanation)
    if shown is None:
        return
    yield _term(shown.baseline, "a session of this size in the middle of benign ones")
    for value, reason in zip(shown.contributions, verdict.reasons, strict=True):
        yield _term(value, f"{'weak: ' if reason.is_weak else ''}{reason.sentence}")
    yield _term(shown.rest, "all else")
    yield _term(shown.log_odds, f"log-odds of the score {verdict.score:.4f}")
    if any(reason.is_weak for reason in verdict.reasons):
        yield "  weak: many benign sessions of this size have such a value, too"


def _meaning(verdict: Verdict, prior: float | None) -> Iterator[str]:
    """Why a session is undecided, and what its score means at another base rate."""
    if verdict.label == "undecided" and verdict.n_exchanges < MIN_DECIDABLE:
        yield f"undecided: too short, {verdict.n_exchanges} of the {MIN_DECIDABLE} exchanges that it takes to clear one"
    elif verdict.label == "undecided":
        yield "undecided: this bundle knows too few benign sessions of this size to judge one"
    yield f"the score is the probability of harvesting if {BASE_RATE:.0%} of all sessions were".replace("%", " %")
    if prior is not None:
        yield f"posterior {posterior(verdict.score, prior):.4f}, if {100.0 * prior:g} % were"


def _prompts(prompts: Sequence[NamedPrompt]) -> Iterator[str]:
    """Where the prompts that weigh most are."""
    if not prompts:
        return
    yield "prompts that weigh most (position; how far the log-odds fall without it)"
    for prompt in prompts:
        place = "" if prompt.line is None else f"  {plain(prompt.file or '')} line {prompt.line:,}"
        at = "" if prompt.at is None else f"  {datetime.fromtimestamp(prompt.at, UTC):%Y-%m-%d %H:%M:%S} UTC"
        yield f"  {f'#{prompt.position:,}':>7}  {-prompt.fall:+6.2f}{place}{at}"
        if prompt.text is not None:
            yield f"           {plain(prompt.text, SHOWN_CHARS)}"
    yield ""


def _term(value: float, text: str) -> str:
    return f"  {value:+6.2f}  {text}"


def _areas(verdict: Verdict) -> list[str]:
    ordered = sorted(verdict.area_share.items(), key=lambda item: (-item[1], item[0]))
    return [
        f"  {area:<26}{_bar(share):<{_BAR_WIDTH}} {share:5.0%} {verdict.coverage.get(area, 0.0):8.0%}"
        for area, share in ordered
    ]


def _bar(share: float) -> str:
    return "█" * max(1, round(share * _BAR_WIDTH))
