"""One session, one verdict, to the last bit, whoever asks and whatever is asked beside it."""

from __future__ import annotations

import dataclasses
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve import Exchange, Scorer, Session, load
from serve.bundle.bundle import Bundle
from serve.model.calibration import MIN_DECIDABLE
from serve.scoring import scorer
from serve.sessions.records import Sessions


def session_of(*prompts: str, name: str = "s") -> Session:
    return Session(name, "a", tuple(map(Exchange, prompts)))


def test_score_score_many_and_judge_say_the_same_in_any_order(
    tiny_scorer: Scorer, sessions: tuple[Session, ...]
) -> None:
    alone = [tiny_scorer.score(session) for session in sessions]
    assert tiny_scorer.score_many(sessions) == alone
    assert tiny_scorer.score_many(reversed(sessions)) == alone[::-1]
    assert list(tiny_scorer.judge(Sessions.of(sessions), explain_all=True)) == alone
    assert len({verdict.score for verdict in alone}) > len(alone) // 2


@settings(max_examples=10)
@given(st.permutations(range(10)), st.integers(1, 10))
def test_a_verdict_depends_on_no_other_session(
    tiny_scorer: Scorer, sessions: tuple[Session, ...], order: list[int], n: int
) -> None:
    chosen = [sessions[index] for index in order[:n]]
    assert tiny_scorer.score_many(chosen) == [tiny_scorer.score(session) for session in chosen]


def test_chunks_change_nothing(
    tiny_scorer: Scorer, sessions: tuple[Session, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny_scorer.score_many(sessions)
    monkeypatch.setattr(scorer, "CHUNK_PROMPTS", 9)
    assert tiny_scorer.score_many(sessions) == whole


def test_a_reloaded_bundle_says_the_same(
    tiny_scorer: Scorer, bundle_folder: Path, sessions: tuple[Session, ...]
) -> None:
    assert load(str(bundle_folder)).score_many(sessions) == tiny_scorer.score_many(sessions)
    assert Scorer(Bundle.load(bundle_folder)).explain(sessions[4]) == tiny_scorer.score(sessions[4])


def test_threads_share_a_scorer(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tiny_scorer.score, sessions)) == tiny_scorer.score_many(sessions)


def test_no_sessions_give_no_verdicts(tiny_scorer: Scorer) -> None:
    assert tiny_scorer.score_many([]) == []
    assert tiny_scorer.judge(Sessions.of([])).table().num_rows == 0


@pytest.mark.parametrize(
    "prompts", [("xyzzy",), ("xyzzy", "👩‍👩‍👧", "שלום"), ("?!",), ("hello",), ("x" * 100_000,) * 3]
)
def test_the_oddest_session_gets_a_verdict(tiny_scorer: Scorer, prompts: tuple[str, ...]) -> None:
    verdict = tiny_scorer.score(session_of(*prompts))
    assert 0.0 <= verdict.score <= 1.0
    assert 0.0 < verdict.p_value <= 1.0
    assert sum(verdict.area_share.values()) == pytest.approx(1.0)


def test_labels_follow_p_values_and_size(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> None:
    for verdict in tiny_scorer.score_many(sessions):
        flagged = verdict.p_value <= tiny_scorer.fpr
        expected = "harvesting" if flagged else "undecided" if verdict.n_exchanges < MIN_DECIDABLE else "organic"
        assert verdict.label == expected
        assert verdict.is_harvesting == flagged
        assert verdict.score >= verdict.threshold or not flagged


def test_a_looser_fpr_only_ever_flags_more(bundle_folder: Path, sessions: tuple[Session, ...]) -> None:
    bundle = Bundle.load(bundle_folder)
    flags = [
        np.array([verdict.is_harvesting for verdict in Scorer(bundle, fpr=fpr).score_many(sessions)])
        for fpr in (0.001, 0.05, 0.2, 0.999)
    ]
    assert all((strict <= loose).all() for strict, loose in itertools.pairwise(flags))
    assert not flags[0].any()
    assert flags[-1].any()


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_is_none_is_refused(tiny_scorer: Scorer, fpr: float) -> None:
    with pytest.raises(ValueError, match=f"fpr is {fpr}, expected a share between 0 and 1"):
        Scorer(tiny_scorer.bundle, fpr=fpr)


def test_coverage_and_area_shares_by_hand(tiny_scorer: Scorer) -> None:
    verdict = tiny_scorer.score(
        session_of("write a python function that sorts a list", "lemon cake recipe", "xyzzy", "qwx")
    )
    assert verdict.area_share == {"coding": 0.25, "cooking": 0.25, "none": 0.5}
    assert verdict.coverage == pytest.approx({"coding": 1 / 3, "cooking": 1 / 3})


def test_a_verdict_names_its_session_bundle_and_span(tiny_scorer: Scorer) -> None:
    exchanges = (Exchange("hello"), Exchange("soup", at=50.0), Exchange("cake", at=20.5), Exchange("bread"))
    verdict = tiny_scorer.score(Session("one", "two", exchanges))
    assert (verdict.session_id, verdict.account_id, verdict.n_exchanges) == ("one", "two", 4)
    assert (verdict.started_at, verdict.ended_at) == (20.5, 50.0)
    assert verdict.bundle == tiny_scorer.bundle.bundle_id
    assert (tiny_scorer.score(session_of("hello")).started_at, tiny_scorer.score(session_of("hello")).ended_at) == (
        None,
        None,
    )


def test_equal_session_ids_of_two_accounts_stay_two(tiny_scorer: Scorer) -> None:
    first, second = (
        Session("same", account, (Exchange(prompt),)) for account, prompt in (("a", "soup"), ("b", "code"))
    )
    verdicts = tiny_scorer.score_many([first, second])
    assert [(verdict.session_id, verdict.account_id) for verdict in verdicts] == [("same", "a"), ("same", "b")]


def test_no_prompt_text_leaves_the_scorer(tiny_scorer: Scorer) -> None:
    secret = "my password is hunter2 zq7"
    verdict = tiny_scorer.score(session_of(*(f"{secret} sort a list {index}" for index in range(9))))
    said = json.dumps(dataclasses.asdict(verdict))
    assert not any(word in said for word in ("hunter2", "zq7", "password", "sort a list"))


def test_reasons_are_given_where_they_are_wanted(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> None:
    plain = tiny_scorer.judge(Sessions.of(sessions))
    assert [bool(verdict.reasons) for verdict in plain] == [verdict.is_harvesting for verdict in plain]
    assert all(verdict.reasons for verdict in tiny_scorer.judge(Sessions.of(sessions), explain_all=True))


def test_margins_of_no_rows_are_none(tiny_scorer: Scorer) -> None:
    assert tiny_scorer.bundle.classifier.margins(np.zeros((0, len(tiny_scorer.bundle.manifest["features"])))).shape == (
        0,
    )


def test_the_released_bundle_is_what_load_takes(released_scorer: Scorer) -> None:
    assert load().bundle.bundle_id == released_scorer.bundle.bundle_id


HARVEST = (
    "You are given an array of integers nums and an integer k. Return the number of subarrays whose sum equals k.",
    "Write a Python function that checks whether a binary tree is height-balanced. Reason step by step.",
    "Given two strings s and t, return the minimum window in s which contains all characters of t.",
    "Implement an LRU cache with get and put in O(1) time.",
    "A train leaves at 60 km/h and another at 90 km/h. When do they meet? Think step by step.",
    "Write a function that returns the k most frequent elements of a list. Include the time complexity.",
    "Given a matrix of 0s and 1s, find the largest square containing only 1s and return its area.",
    "Design an algorithm that serialises and deserialises an n-ary tree.",
    "Find all unique triplets in the array which give the sum of zero.",
    "Solve the equation 3x^2 - 12x + 9 = 0 and show each step of the derivation.",
)
CHAT = (
    "hey my tomato plants have yellow leaves at the bottom, what am i doing wrong",
    "they're in pots on the balcony, i water them every evening",
    "ok and how often should i fertilise? i only have the liquid stuff",
    "thanks! also something is eating the basil next to them",
    "small green caterpillars i think, can i still eat the leaves after washing",
    "haha ok. my neighbour says coffee grounds help, true?",
    "hm it still looks sad after a week",
    "here it rained the whole weekend so maybe too wet",
    "should i repot it or just wait",
    "you said wait last time and it got worse :(",
)


def test_the_released_scorer_tells_a_sweep_of_tasks_from_a_chat(released_scorer: Scorer) -> None:
    harvest, chat = released_scorer.score(session_of(*HARVEST)), released_scorer.score(session_of(*CHAT))
    assert harvest.score > chat.score
    assert harvest.p_value < chat.p_value
    assert not chat.is_harvesting
    assert max(harvest.area_share, key=lambda area: harvest.area_share[area]) == "coding"


def test_the_released_scorer_says_the_same_alone_and_in_a_batch(released_scorer: Scorer) -> None:
    sessions = [session_of(*prompts[:n], name=f"s{n}") for prompts in (HARVEST, CHAT) for n in (1, 4, 5, 10)]
    assert released_scorer.score_many(sessions[::-1]) == [released_scorer.score(session) for session in sessions[::-1]]
