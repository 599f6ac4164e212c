"""The exam's numbers on results whose answer is known, and exam sessions that are what they are called."""

from __future__ import annotations

import numpy as np
import pytest

from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.evaluation.exam import (
    Cell,
    ExamSettings,
    FoldScores,
    auroc,
    evaluation_rate,
    exam_composition,
    fpr_by_source,
    tpr,
    tpr_by_campaign,
)
from train.learning.split import SplitSettings, folds
from train.synthesis.arrival_times import Timing

NEGATIVE = np.arange(100) / 100.0


def sitting_of(
    harvest: list[float], *, campaigns: list[str] | None = None, organic: np.ndarray = NEGATIVE,
    sources: list[str] | None = None, runs: tuple[float, ...] = (), length: int = 10, dilution: float = 0.0,
) -> FoldScores:  # fmt: skip
    """Harvesting sessions, then organic ones, then runs of a benchmark."""
    n, m, k = len(harvest), len(organic), len(runs)
    return FoldScores(
        fold="f", setting="known traffic", length=np.full(n + m + k, length),
        kind=np.array(["harvest"] * n + ["person"] * m + ["evaluation"] * k),
        campaign=np.array([*(campaigns or ["c"] * n), *(sources or ["s"] * m), *["bench"] * k]),
        dilution=np.array([dilution] * n + [0.0] * (m + k)),
        scores={"ours": np.array([*harvest, *organic, *runs])},
    )  # fmt: skip


def test_auroc_by_hand() -> None:
    assert auroc([sitting_of([2.0, 2.0])], "ours", 10, 0.0, 0) == Cell(1.0, 1.0, 1.0)
    assert auroc([sitting_of([-1.0])], "ours", 10, 0.0, 0).value == 0.0
    # 0.505 lies above 51 of 100, 0.255 above 26.
    assert auroc([sitting_of([0.505, 0.255])], "ours", 10, 0.0, 0).value == pytest.approx((0.51 + 0.26) / 2)


def test_tpr_by_hand() -> None:
    # At 1 % of 100 organic sessions one may lie above: the threshold is the second highest, 0.98, and must be exceeded.
    result = sitting_of([0.98, 0.985, 0.99, 1.0])
    assert tpr([result], "ours", 10, 0.0, 0.01, 0).value == 0.75
    assert tpr([result], "ours", 10, 0.0, 0.001, 0).value == 0.25
    assert tpr([result], "ours", 10, 0.0, 0.5, 0).value == 1.0


def test_ties_with_organic_sessions_are_not_caught() -> None:
    assert tpr([sitting_of([0.5] * 4, organic=np.full(50, 0.5))], "ours", 10, 0.0, 0.1, 0).value == 0.0


def test_a_flat_score_catches_by_chance() -> None:
    assert auroc([sitting_of([0.5] * 4, organic=np.full(50, 0.5))], "ours", 10, 0.0, 0).value == 0.5


def test_benchmark_runs_other_lengths_and_dilutions_are_no_part_of_a_cell() -> None:
    runs = sitting_of([2.0], runs=(5.0,) * 50)
    assert tpr([runs], "ours", 10, 0.0, 0.01, 0).value == 1.0
    both = sitting_of([2.0])
    other = sitting_of([-1.0], length=25)
    joined = FoldScores(
        "f", "known traffic", np.concatenate([both.length, other.length]), np.concatenate([both.kind, other.kind]),
        np.concatenate([both.campaign, other.campaign]), np.concatenate([both.dilution, other.dilution]),
        {"ours": np.concatenate([both.scores["ours"], other.scores["ours"]])},
    )  # fmt: skip
    assert auroc([joined], "ours", 10, 0.0, 0).value == 1.0
    assert auroc([joined], "ours", 25, 0.0, 0).value == 0.0


def test_folds_count_alike_whatever_their_size() -> None:
    assert auroc([sitting_of([2.0] * 30), sitting_of([-1.0])], "ours", 10, 0.0, 0).value == 0.5


def test_an_interval_is_over_campaigns() -> None:
    one = sitting_of([2.0] * 20 + [-1.0] * 20, campaigns=["a"] * 40)
    two = sitting_of([2.0] * 20 + [-1.0] * 20, campaigns=["a"] * 20 + ["b"] * 20)
    narrow, wide = (auroc([result], "ours", 10, 0.0, 200) for result in (one, two))
    assert [narrow.value, wide.value] == pytest.approx([0.5, 0.5])
    assert [narrow.low, narrow.high] == pytest.approx([0.5, 0.5])
    assert [wide.low, wide.high] == pytest.approx([0.0, 1.0])


def test_an_interval_is_the_same_each_time() -> None:
    result = sitting_of(list(np.linspace(0, 1.5, 40)), campaigns=[f"c{index % 5}" for index in range(40)])
    first, second = (tpr([result], "ours", 10, 0.0, 0.1, 50) for _ in range(2))
    assert first == second
    assert first.low <= first.value <= first.high


def test_tpr_by_campaign_counts_a_mixed_one_for_each_of_its_groups() -> None:
    result = sitting_of([2.0, 2.0, -1.0, 2.0], campaigns=["a", "a+b", "b", "c"])
    assert tpr_by_campaign([result], "ours", 10, 0.0, 0.01) == {"a": (1.0, 2), "b": (0.5, 2), "c": (1.0, 1)}


def test_fpr_by_source_shows_whose_sessions_lie_above_the_threshold() -> None:
    result = sitting_of([2.0], sources=["x"] * 50 + ["y"] * 48 + ["y+z"] * 2)
    found = fpr_by_source([result], "ours", 10, 0.05)
    assert found == {"person several": (1.0, 2), "person x": (0.0, 50), "person y": (pytest.approx(3 / 48), 48)}


def test_the_rate_of_benchmark_runs_is_apart() -> None:
    assert evaluation_rate([sitting_of([2.0], runs=(5.0, 5.0, -1.0, 0.2))], "ours", 10, 0.01) == 0.5
    assert np.isnan(evaluation_rate([sitting_of([2.0])], "ours", 10, 0.01))


@pytest.mark.parametrize("setting", ["known traffic", "new provider"])
def test_exam_sessions_are_made_of_what_was_never_learned_from(pool: Pool, cache: PromptCache, setting: str) -> None:
    settings = ExamSettings(n_harvesting=6, n_organic=9, n_evaluation=3, lengths=(10, 25), dilutions=(0.0, 0.5))
    fold = next(folds(pool, SplitSettings(n_folds=2), setting, seed=0))
    made, lengths = exam_composition(pool, fold, cache, Timing.default(), settings, seed=0)
    assert set(made.rows.tolist()) <= set(fold.test.tolist())
    assert not set(made.rows.tolist()) & set(fold.train.tolist())
    assert len(made) == len(lengths) == 2 * (2 * 6 + 9 + 3)
    for length in (10, 25):
        own = lengths == length
        counts = {
            (kind, dilution): int(((made.kind == kind) & (made.dilution == dilution) & own).sum())
            for kind in ("harvest", "evaluation")
            for dilution in (0.0, 0.5)
        }
        assert counts == {("harvest", 0.0): 6, ("harvest", 0.5): 6, ("evaluation", 0.0): 3, ("evaluation", 0.5): 0}
    assert (np.diff(made.offsets) <= lengths).all()
    held = set(fold.held_campaigns)
    assert {group for name in made.campaign[made.is_harvesting] for group in str(name).split("+")} <= held
