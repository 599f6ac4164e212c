"""Gates: each falls for its own reason, and noise alone brings down none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from serve.sessions.records import Exchange, Session, Sessions
from train.evaluation import promotion_gates as module
from train.evaluation.promotion_gates import ExamScores, ExamTraffic, PromotionGate, gates

N = 600
RNG = np.random.default_rng(0)
KIND = np.repeat(["harvest", "person", "product", "evaluation"], [200, 200, 160, 40])


@pytest.fixture(scope="module")
def exam() -> ExamTraffic:
    """200 harvesting sessions of 10 campaigns, half of them diluted, beside organic ones and benchmark runs."""
    sessions = Sessions.of([Session(f"s{i}", f"a{i}", (Exchange("hello"),)) for i in range(N)])
    campaign = np.where(KIND == "harvest", np.char.add("c", (np.arange(N) % 10).astype(str)), "none")
    dilution = np.where((KIND == "harvest") & (np.arange(N) % 2 == 1), 0.5, 0.0)
    return ExamTraffic(sessions, KIND, campaign, dilution)


@pytest.fixture(scope="module")
def champion() -> ExamScores:
    """Well separated, well calibrated, one benign session in a hundred flagged."""
    harvest = KIND == "harvest"
    score = np.where(harvest, RNG.beta(12, 2, N), RNG.beta(1, 14, N))
    return ExamScores(score, score > np.quantile(score[~harvest], 0.99), 3.0, 10_000_000)


def fallen(found: tuple[PromotionGate, ...]) -> set[str]:
    return {gate.name for gate in found if not gate.holds}


def test_no_gate_falls_against_oneself(exam: ExamTraffic, champion: ExamScores) -> None:
    found = gates(exam, champion, champion)
    assert fallen(found) == set()
    assert {(gate.low, gate.high) for gate in found} == {(0.0, 0.0)}
    assert [gate.name for gate in found] == [
        "TPR at 1 % FPR, 0% cover", "TPR at 1 % FPR, 50% cover", "FPR of person", "FPR of product",
        "calibration error", "milliseconds a session", "bytes",
    ]  # fmt: skip


def test_missing_the_diluted_ones_brings_down_that_gate_alone(exam: ExamTraffic, champion: ExamScores) -> None:
    diluted = (KIND == "harvest") & (exam.dilution == 0.5)
    score = np.where(diluted & (np.arange(N) % 4 == 1), 0.01, champion.score)
    found = gates(exam, champion, replace(champion, score=score))
    assert "TPR at 1 % FPR, 50% cover" in fallen(found)
    assert "TPR at 1 % FPR, 0% cover" not in fallen(found)


def test_flagging_more_products_brings_down_that_gate_alone(exam: ExamTraffic, champion: ExamScores) -> None:
    more = champion.is_flagged | ((KIND == "product") & (np.arange(N) % 10 == 0))
    assert fallen(gates(exam, champion, replace(champion, is_flagged=more))) == {"FPR of product"}


def test_flagging_fewer_benign_sessions_is_no_loss(exam: ExamTraffic, champion: ExamScores) -> None:
    fewer = champion.is_flagged & (KIND == "harvest")
    assert fallen(gates(exam, champion, replace(champion, is_flagged=fewer))) == set()


def test_a_score_that_means_nothing_brings_down_calibration_alone(exam: ExamTraffic, champion: ExamScores) -> None:
    assert fallen(gates(exam, champion, replace(champion, score=champion.score**8))) == {"calibration error"}


def test_slow_and_large_bring_down_their_gates(exam: ExamTraffic, champion: ExamScores) -> None:
    slow = replace(champion, milliseconds=9.0, n_bytes=module.MAX_BYTES)
    assert fallen(gates(exam, champion, slow)) == {"milliseconds a session", "bytes"}
    assert fallen(gates(exam, champion, replace(champion, milliseconds=3.7))) == set()


def test_a_better_one_passes(exam: ExamTraffic, champion: ExamScores) -> None:
    better = np.where(KIND == "harvest", np.sqrt(champion.score), champion.score)
    found = gates(exam, champion, replace(champion, score=better))
    assert {gate.name for gate in found if gate.high < 0} <= {"calibration error"}
    assert not {name for name in fallen(found) if name.startswith(("TPR", "FPR"))}


def test_the_interval_covers_the_measured_difference(exam: ExamTraffic, champion: ExamScores) -> None:
    score = np.where(np.arange(N) % 7 == 0, 0.3, champion.score)
    for gate in gates(exam, champion, replace(champion, score=score)):
        assert gate.low <= gate.challenger - gate.champion <= gate.high


def test_the_same_seed_gives_the_same_gates(exam: ExamTraffic, champion: ExamScores) -> None:
    other = replace(champion, score=champion.score[::-1].copy())
    assert gates(exam, champion, other, seed=5) == gates(exam, champion, other, seed=5)
