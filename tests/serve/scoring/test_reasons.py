"""Reasons are the classifier's own, few, in order, and never quote."""

from __future__ import annotations

import re

import numpy as np
import pytest

from serve.capability.capability_map import CapabilityMap
from serve.features.session_features import SHOWN_ONLY, feature_names
from serve.scoring.reasons import MAX_REASONS, MIN_REASONS, TOPICS, reasons
from serve.scoring.scorer import Scorer
from serve.scoring.verdict import Verdict, Verdicts
from serve.sessions.records import Exchange, Session, Sessions
from serve.sessions.size_classes import size_class

# A size alone is no reason, and some features are not judged by.
UNSPOKEN = ("size.", *SHOWN_ONLY)


@pytest.fixture(scope="module")
def judged(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> Verdicts:
    return tiny_scorer.judge(Sessions.of(sessions), explain_all=True)


def topic_of(name: str) -> int:
    return next(index for index, topic in enumerate(TOPICS) if name.startswith(topic.prefixes))


def test_every_feature_is_spoken_of_and_every_sentence_has_its_feature(capabilities: CapabilityMap) -> None:
    names = feature_names(capabilities.areas)
    spoken = tuple(prefix for topic in TOPICS for prefix in topic.prefixes)
    assert [name for name in names if not name.startswith(spoken + UNSPOKEN)] == []
    assert [name for topic in TOPICS for name, _ in topic.shown if name not in names] == []
    assert [name for index, topic in enumerate(TOPICS) for name, _ in topic.shown if topic_of(name) != index] == []


def test_there_are_three_to_five_strongest_first(judged: Verdicts) -> None:
    for verdict in judged:
        sizes = [abs(reason.contribution) for reason in verdict.reasons]
        assert MIN_REASONS <= len(sizes) <= MAX_REASONS
        assert sizes == sorted(sizes, reverse=True)
        assert len({topic_of(reason.name) for reason in verdict.reasons}) == len(sizes)


def test_reasons_are_the_largest_sums_over_features_that_say_the_same(tiny_scorer: Scorer, judged: Verdicts) -> None:
    names = tiny_scorer.bundle.manifest["features"]
    contributions = tiny_scorer.bundle.classifier.contributions(judged.features)
    for verdict, own in zip(judged, contributions, strict=True):
        sums = [0.0] * len(TOPICS)
        for name, value in zip(names, own, strict=False):
            if not name.startswith(UNSPOKEN):
                sums[topic_of(name)] += value
        largest = sorted(map(abs, sums), reverse=True)
        for reason, size in zip(verdict.reasons, largest, strict=False):
            assert reason.contribution == pytest.approx(sums[topic_of(reason.name)])
            assert abs(reason.contribution) == pytest.approx(size)


def test_value_and_benign_range_are_those_of_the_feature(tiny_scorer: Scorer, judged: Verdicts) -> None:
    names = list(tiny_scorer.bundle.manifest["features"])
    classes = size_class(judged.n_exchanges)
    for verdict, row, index in zip(judged, judged.features, classes, strict=True):
        for reason in verdict.reasons:
            column = names.index(reason.name)
            assert reason.value == row[column]
            assert [reason.benign_low, reason.benign_high] == tiny_scorer.bundle.reference[index, column].tolist()


def test_sentences_are_plain(judged: Verdicts) -> None:
    for verdict in judged:
        for reason in verdict.reasons:
            assert re.fullmatch(r"[A-Z0-9].+; benign sessions of this size have -?[\d.]+–-?[\d.]+\.", reason.sentence)
            assert not re.search(r"[{}_]|nan|inf\b", reason.sentence)


def test_counts_in_sentences_are_counts_of_prompts(judged: Verdicts) -> None:
    counted = [(verdict, reason) for verdict in judged for reason in verdict.reasons if " of " in reason.sentence[:12]]
    told = [(verdict, reason) for verdict, reason in counted if re.match(r"\d+ of \d+ prompts", reason.sentence)]
    assert told
    for verdict, reason in told:
        count, n = map(int, re.findall(r"\d+", reason.sentence)[:2])
        assert (count, n) == (round(reason.value * verdict.n_exchanges), verdict.n_exchanges)


def test_nobody_unwanted_is_explained(tiny_scorer: Scorer, judged: Verdicts) -> None:
    wanted = np.arange(len(judged)) % 3 == 0
    found = reasons(tiny_scorer.bundle, judged.features, judged.n_exchanges, wanted)
    assert [bool(own) for own in found] == wanted.tolist()
    assert all(found[index] == judged.reasons[index] for index in np.flatnonzero(wanted))


def test_a_sentence_never_holds_prompt_text(tiny_scorer: Scorer) -> None:
    prompts = ("xylophone password", "xylophone secret list", "bake a xylophone", "xylophone again", "my xylophone")
    verdict = tiny_scorer.score(Session("s", "a", tuple(map(Exchange, prompts))))
    assert not any("xylophone" in reason.sentence or "secret" in reason.sentence for reason in verdict.reasons)


def verdict_on(scorer: Scorer, prompt: str, n: int) -> Verdict:
    return scorer.score(Session("s", "a", tuple(Exchange(f"{prompt} {index}") for index in range(n))))


def test_the_released_scorer_explains_in_full_sentences(released_scorer: Scorer) -> None:
    verdict = verdict_on(released_scorer, "Write a function that returns the sum of the first n primes for n =", 20)
    assert MIN_REASONS <= len(verdict.reasons) <= MAX_REASONS
    assert all(reason.sentence.endswith(".") and "{" not in reason.sentence for reason in verdict.reasons)
    assert all(reason.benign_low <= reason.benign_high for reason in verdict.reasons)
