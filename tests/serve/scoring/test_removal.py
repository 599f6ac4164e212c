"""The prompts that weigh most are those without which a session scores least."""

from __future__ import annotations

import pytest
from scipy.special import logit

from serve.scoring.evidence import N_PROMPTS
from serve.scoring.removal import weightiest
from serve.scoring.scorer import Scorer
from serve.sessions.records import Session, Sessions
from tests.conftest import draw_sessions


def test_a_fall_is_what_judging_the_rest_gives(tiny_scorer: Scorer) -> None:
    for session in draw_sessions(6, seed=11, sizes=(2, 8, 21)):
        whole = logit(tiny_scorer.score(session).score)
        falls = []
        for place in range(len(session.exchanges)):
            rest = session.exchanges[:place] + session.exchanges[place + 1 :]
            falls.append(whole - logit(tiny_scorer.score(Session("s", "a", rest)).score))
        found = weightiest(tiny_scorer, Sessions.of([session]))
        assert len(found) == min(N_PROMPTS, len(falls))
        assert [weight.fall for weight in found] == pytest.approx(sorted(falls, reverse=True)[: len(found)], abs=1e-9)
        assert [falls[weight.position - 1] for weight in found] == pytest.approx([weight.fall for weight in found])


def test_a_single_prompt_cannot_be_removed(tiny_scorer: Scorer) -> None:
    assert weightiest(tiny_scorer, Sessions.of(draw_sessions(1, seed=0, sizes=(1,)))) == ()


def test_of_a_long_session_the_clearest_are_tried(tiny_scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Sessions.of(draw_sessions(1, seed=4, sizes=(21,)))
    monkeypatch.setattr("serve.scoring.removal.MAX_TRIED", 2)
    monkeypatch.setattr("serve.scoring.removal._CHUNK_PROMPTS", 21)
    found = {weight.position for weight in weightiest(tiny_scorer, session)}
    named = tiny_scorer.judge(session, explain_all=True).verdict(0).evidence
    assert found == {prompt.position for prompt in named[:2]}
