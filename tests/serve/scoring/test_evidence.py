"""The prompts that are named are those that look most like harvest, by their place in the session."""

from __future__ import annotations

import numpy as np

from serve.features.session_features import observe
from serve.features.similarity import MAX_SCORED
from serve.scoring.evidence import N_PROMPTS, PromptScores, clearest
from serve.scoring.explanation import Evidence
from serve.scoring.scorer import Scorer
from serve.sessions.records import Session, Sessions

EVERY = np.ones(2, np.bool_)


def test_the_clearest_come_first_and_of_equals_the_earlier() -> None:
    scores = PromptScores.of(np.array([0.5, 2.0, -1.0, 2.0, 7.0, 1.0]), np.array([0, 4, 6]))
    assert clearest(scores, EVERY) == (
        (Evidence(2, 2.0), Evidence(4, 2.0), Evidence(1, 0.5)),
        (Evidence(1, 7.0), Evidence(2, 1.0)),
    )
    assert clearest(scores, np.array([False, True]))[0] == ()


def test_of_a_long_session_only_what_is_measured_is_named() -> None:
    rng = np.random.default_rng(0)
    harvest = rng.normal(size=MAX_SCORED + 10)
    found = clearest(PromptScores.of(harvest, np.array([0, len(harvest)])), EVERY[:1])[0]
    assert found == clearest(PromptScores.of_ranked(harvest[::2], 2), EVERY[:1])[0]
    assert [own.position % 2 for own in found] == [1] * N_PROMPTS
    assert [harvest[own.position - 1] for own in found] == sorted(harvest[::2])[: -N_PROMPTS - 1 : -1]


def test_a_verdict_names_prompts_of_its_session(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> None:
    columns, bundle = Sessions.of(sessions), tiny_scorer.bundle
    prompts = observe(columns, bundle.encoder, bundle.capabilities, bundle.prompt_scorer)
    for index, verdict in enumerate(tiny_scorer.judge(columns, explain_all=True)):
        own = prompts.evidence[prompts.offsets[index] : prompts.offsets[index + 1], 0]
        assert len(verdict.evidence) == min(N_PROMPTS, len(own))
        assert all(own[named.position - 1] == named.log_odds for named in verdict.evidence)
        assert min(named.log_odds for named in verdict.evidence) >= np.sort(own)[-N_PROMPTS:].min()
