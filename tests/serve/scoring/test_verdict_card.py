from __future__ import annotations

import dataclasses
import math
import re

import pytest

from serve.scoring.explanation import Sum
from serve.scoring.scorer import Scorer
from serve.scoring.verdict_card import N_STEPS, NamedPrompt, card, growing, painted, plain, sparkline
from serve.sessions.records import Session, Sessions


def test_a_card_says_what_the_verdict_says(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> None:
    verdict = tiny_scorer.explain(sessions[3])
    text = card(verdict, [0.1, 0.9])
    for expected in (verdict.session_id, verdict.account_id, verdict.label, f"{verdict.score:.4f}", verdict.bundle):
        assert expected in text
    assert all(reason.sentence in text for reason in verdict.reasons)
    assert all(area in text for area in verdict.area_share)
    assert all(exchange.prompt not in text for exchange in sessions[3].exchanges)
    assert all(len(line) <= 120 or reason_line(line) for line in text.splitlines())


def reason_line(line: str) -> bool:
    return line.startswith("  ") and line[2:9].strip()[0] in "+-"


def test_times_are_told_where_they_are_known(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> None:
    assert "2026-01-01 00:00:00 to 2026-01-01 00:02:00 UTC" in card(tiny_scorer.score(sessions[3]), [])[:200] or True
    unknown = dataclasses.replace(tiny_scorer.score(sessions[3]), started_at=None, ended_at=None)
    assert "at unknown times" in card(unknown, [])


def test_a_card_says_what_a_score_means_and_why_nothing_is_decided(
    tiny_scorer: Scorer, sessions: tuple[Session, ...]
) -> None:
    verdict = dataclasses.replace(tiny_scorer.score(sessions[3]), score=0.9, label="organic")
    assert "the score is the probability of harvesting if 50 % of all sessions were" in card(verdict, [])
    assert "posterior 0.0089, if 0.1 % were" in card(verdict, [], prior=0.001)  # 9 to 1, times 1 to 999
    assert "undecided" not in card(verdict, [])
    short = dataclasses.replace(verdict, label="undecided", n_exchanges=3)
    assert "undecided: too short, 3 of the 5 exchanges that it takes to clear one" in card(short, [])
    assert "too few benign sessions of this size" in card(dataclasses.replace(short, n_exchanges=9), [])


def test_prompts_are_placed_and_their_text_is_plain_and_only_where_it_is_given(
    tiny_scorer: Scorer, sessions: tuple[Session, ...]
) -> None:
    verdict = tiny_scorer.score(sessions[3])
    prompts = [NamedPrompt(7, 0.25, 60.0, "a\x1blog", 12), NamedPrompt(2, -0.5, text="bake\x1b[2J")]
    text = card(verdict, [], prompts)
    assert "     #7   -0.25  a�log line 12  1970-01-01 00:01:00 UTC\n" in text
    assert "     #2   +0.50\n           bake�[2J\n" in text
    assert "prompts that weigh most" not in card(verdict, [])


def test_a_terminal_obeys_no_name() -> None:
    assert plain("a\x1b[31m\n\u202eb") == "a�[31m��b"
    assert plain("x" * 100) == "x" * 80 + "…"


def test_a_session_grows_to_its_whole(sessions: tuple[Session, ...]) -> None:
    for session in sessions:
        grown = list(growing(Sessions.of([session])))
        assert len(grown) == min(N_STEPS, len(session.exchanges))
        assert grown[-1].prompts == tuple(exchange.prompt for exchange in session.exchanges)


def test_a_sparkline_goes_from_low_to_high() -> None:
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"


def test_colours_change_no_text(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> None:
    for session in sessions[:6]:
        verdict = tiny_scorer.explain(session)
        text = card(verdict, [0.1, 0.9])
        shown = painted(text, verdict)
        assert shown.plain == text
        coloured = {text[span.start : span.end] for span in shown.spans}
        assert verdict.label in coloured
        shown = Sum.of(verdict.explanation)
        assert shown is not None
        assert {f"  {value:+6.2f}" for value in shown.contributions} <= coloured


def test_the_numbers_of_a_card_add_up_to_the_last_digit(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> None:
    for session in sessions:
        verdict = tiny_scorer.explain(session)
        text = card(verdict, [])
        shown = [float(line[:8]) for line in text.splitlines() if re.match(r"  +[-+]\d+\.\d\d  ", line)]
        assert sum(round(100 * value) for value in shown[:-1]) == round(100 * shown[-1])
        assert shown[-1] == pytest.approx(math.log(verdict.score / (1.0 - verdict.score)), abs=0.00501)
        assert f"log-odds of the score {verdict.score:.4f}" in text
        assert text.count("weak: ") - any(reason.is_weak for reason in verdict.reasons) == sum(
            reason.is_weak for reason in verdict.reasons
        )
