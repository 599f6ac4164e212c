"""Reasons lead from the baseline to the score, are few, and claim only what their numbers hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit

from serve.scoring.explanation import Sum
from serve.scoring.ideas import IDEAS, idea_of
from serve.scoring.reasons import MAX_REASONS, NOTHING, explanations
from serve.scoring.scorer import Scorer
from serve.scoring.verdict import Verdict, Verdicts
from serve.sessions.records import Exchange, Session, Sessions
from serve.sessions.size_classes import size_class
from tests.conftest import draw_sessions


@pytest.fixture(scope="module")
def judged(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> Verdicts:
    return tiny_scorer.judge(Sessions.of(sessions), explain_all=True)


def added(verdict: Verdict) -> float:
    assert verdict.baseline is not None
    assert verdict.rest is not None
    return verdict.baseline + sum(reason.contribution for reason in verdict.reasons) + verdict.rest


def test_baseline_reasons_and_rest_are_the_log_odds_of_the_score(judged: Verdicts) -> None:
    for verdict in judged:
        assert added(verdict) == pytest.approx(logit(verdict.score), abs=1e-9)


def test_ideas_add_up_before_anything_is_left_over(tiny_scorer: Scorer, judged: Verdicts) -> None:
    """The rest is what no shown idea has, not what attribution lost."""
    bundle, kind = tiny_scorer.bundle, size_class(judged.n_exchanges)
    assert bundle.benign is not None
    usual = bundle.benign.edges[:, :, 10].astype(np.float64)
    terms = bundle.classifier.contributions(judged.features, usual, kind)
    margins = bundle.classifier.margins(judged.features) - bundle.classifier.margins(usual)[kind]
    assert terms.sum(axis=1) == pytest.approx(margins, abs=1e-6)
    names = bundle.manifest["features"]
    for verdict, own in zip(judged, terms, strict=True):
        for reason in verdict.reasons:
            members = [value for name, value in zip(names, own, strict=True) if _idea(name) == reason.idea]
            assert reason.contribution == pytest.approx(bundle.calibration.slope * sum(members))


def _idea(name: str) -> str | None:
    index = idea_of(name)
    return None if index is None else IDEAS[index].name


def test_the_baseline_is_the_score_of_a_session_in_the_middle_of_benign_ones(
    tiny_scorer: Scorer, judged: Verdicts
) -> None:
    bundle = tiny_scorer.bundle
    assert bundle.benign is not None
    usual = bundle.benign.edges[:, :, 10].astype(np.float64)
    scores = bundle.calibration.score(bundle.classifier.margins(usual))[size_class(judged.n_exchanges)]
    assert [verdict.baseline for verdict in judged] == pytest.approx(logit(scores).tolist())


def test_there_are_at_most_five_each_idea_once_and_the_clear_ones_first(judged: Verdicts) -> None:
    assert max(len(verdict.reasons) for verdict in judged) == MAX_REASONS
    for verdict in judged:
        assert len({reason.idea for reason in verdict.reasons}) == len(verdict.reasons) <= MAX_REASONS
        weak = [reason.is_weak for reason in verdict.reasons]
        assert weak == sorted(weak)


def test_an_unmarked_value_lies_outside_its_range_and_pulls_as_its_idea_does(
    tiny_scorer: Scorer, judged: Verdicts
) -> None:
    bundle, names = tiny_scorer.bundle, list(tiny_scorer.bundle.manifest["features"])
    assert bundle.benign is not None
    kind = size_class(judged.n_exchanges)
    terms = bundle.classifier.contributions(judged.features, bundle.benign.edges[:, :, 10].astype(np.float64), kind)
    clear = 0
    for verdict, own, row in zip(judged, terms, judged.features, strict=True):
        for reason in verdict.reasons:
            column = names.index(reason.name)
            assert reason.value == row[column]
            index = int(size_class(np.array([verdict.n_exchanges]))[0])
            assert [reason.benign_low, reason.benign_high] == bundle.reference[index, column].tolist()
            if not reason.is_weak:
                clear += 1
                assert not reason.benign_low <= reason.value <= reason.benign_high
                assert own[column] * reason.contribution > 0.0
    assert clear


def test_a_reason_that_speaks_against_is_shown_where_there_is_one(tiny_scorer: Scorer) -> None:
    verdicts = tiny_scorer.judge(Sessions.of(draw_sessions(200, seed=3, sizes=(13, 21))), explain_all=True)
    bundle = tiny_scorer.bundle
    assert bundle.benign is not None
    usual, kind = bundle.benign.edges[:, :, 10].astype(np.float64), size_class(verdicts.n_exchanges)
    terms = bundle.calibration.slope * bundle.classifier.contributions(verdicts.features, usual, kind)
    ideas = [_idea(name) for name in bundle.manifest["features"]]
    n_replaced = 0
    for verdict, own in zip(verdicts, terms, strict=True):
        sums = [sum(own[[name == idea.name for name in ideas]]) for idea in IDEAS if idea.measures]
        total, strongest = own[[name is not None for name in ideas]].sum(), sorted(sums, key=abs)[-MAX_REASONS:]
        if any(value * total < 0.0 and abs(value) >= 0.005 for value in sums):
            assert any(reason.contribution * total < 0.0 for reason in verdict.reasons)
            n_replaced += all(value * total > 0.0 for value in strongest)
    assert n_replaced


def test_without_a_benign_profile_the_middle_of_the_range_stands_in(tiny_scorer: Scorer, judged: Verdicts) -> None:
    scorer = Scorer(replace(tiny_scorer.bundle, benign=None))
    columns = Sessions.of(draw_sessions(5, seed=1))
    for verdict in scorer.judge(columns, explain_all=True):
        assert added(verdict) == pytest.approx(logit(verdict.score), abs=1e-9)


def test_nobody_unwanted_is_explained(tiny_scorer: Scorer, judged: Verdicts) -> None:
    wanted = np.arange(len(judged)) % 3 == 0
    margins = tiny_scorer.bundle.classifier.margins(judged.features)
    found = explanations(tiny_scorer.bundle, judged.features, margins, judged.n_exchanges, wanted)
    assert [own != NOTHING for own in found] == wanted.tolist()
    assert all(found[index] == judged.explanations[index] for index in np.flatnonzero(wanted))


def test_a_sentence_never_holds_prompt_text(tiny_scorer: Scorer) -> None:
    prompts = ("xylophone password", "xylophone secret list", "bake a xylophone", "xylophone again", "my xylophone")
    verdict = tiny_scorer.score(Session("s", "a", tuple(map(Exchange, prompts))))
    assert not any("xylophone" in reason.sentence or "secret" in reason.sentence for reason in verdict.reasons)


def test_the_released_scorer_explains_in_sums_that_are_shown_right(released_scorer: Scorer) -> None:
    prompt = "Write a function that returns the sum of the first n primes for n ="
    for n in (1, 4, 20):
        verdict = released_scorer.score(Session("s", "a", tuple(Exchange(f"{prompt} {index}") for index in range(n))))
        shown = Sum.of(verdict.explanation)
        assert shown is not None
        assert shown.log_odds == pytest.approx(logit(verdict.score), abs=0.00501)
        parts = (shown.baseline, *shown.contributions, shown.rest)
        assert sum(round(100 * part) for part in parts) == round(100 * shown.log_odds)
