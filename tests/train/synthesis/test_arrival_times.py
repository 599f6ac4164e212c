"""Arrival times: increasing, of one pace for all, read from traces where there are some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp

from serve.sessions.sessionizing import GAP_SECONDS
from train.corpora.pool import Pool
from train.synthesis.arrival_times import Timing
from train.synthesis.compose import Composer, ComposeSettings

START, MONTH = 1_767_225_600.0, 31 * 86_400.0


def gaps(at: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Seconds between consecutive exchanges of a session."""
    return np.delete(np.diff(at), offsets[1:-1] - 1)


def test_times_increase_within_sessions_and_no_pause_would_cut_one() -> None:
    offsets = np.array([0, 1, 40, 41, 300])
    at = Timing.default().arrivals(offsets, np.random.default_rng(0))
    within = gaps(at, offsets)
    assert (within > 0).all()
    assert (within < GAP_SECONDS).all()


def test_sessions_start_within_the_month() -> None:
    offsets = np.arange(0, 5001, 5)
    starts = Timing.default().arrivals(offsets, np.random.default_rng(0))[::5]
    assert (starts >= START).all()
    assert (starts < START + MONTH).all()
    assert np.ptp(starts) > 0.9 * MONTH


def test_the_same_generator_gives_the_same_times() -> None:
    offsets = np.array([0, 3, 9])
    first, second = (Timing.default().arrivals(offsets, np.random.default_rng(5)) for _ in range(2))
    assert (first == second).all()


def test_gaps_follow_the_quantiles_they_are_drawn_from() -> None:
    timing = Timing(np.log([1.0, 10.0, 100.0]))
    offsets = np.array([0, 20_000])
    logs = np.log(gaps(timing.arrivals(offsets, np.random.default_rng(0)), offsets))
    assert np.quantile(logs, [0.25, 0.5, 0.75]) == pytest.approx(np.log([10**0.5, 10, 10**1.5]), abs=0.05)


def test_without_traces_the_default_pace_is_kept(tmp_path: Path) -> None:
    assert (Timing.of_traces(tmp_path).log_gaps == Timing.default().log_gaps).all()


def test_a_trace_sets_the_pace_in_any_order_of_its_lines(tmp_path: Path) -> None:
    seconds = np.cumsum(np.tile([0.1, 0.2], 60))
    stamps = [f"2026-01-01 00:00:{second:09.6f}" for second in seconds if second < 60]
    for name, lines in (("sorted", stamps), ("shuffled", stamps[::-1])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trace.csv").write_text(
            "TIMESTAMP,tokens\n" + "\n".join(f"{line},1" for line in lines) + "\n"
        )
    timings = [Timing.of_traces(tmp_path / name) for name in ("sorted", "shuffled")]
    assert (timings[0].log_gaps == timings[1].log_gaps).all()
    assert np.exp(timings[0].log_gaps[[1, -2]]) == pytest.approx([40.0, 80.0])


def test_the_clock_gives_no_label_away(pool: Pool, topic: np.ndarray) -> None:
    composer = Composer(pool, np.arange(len(pool)), topic, Timing.default(), seed=3)
    made = composer.mixed(2000, ComposeSettings(min_exchanges=4, max_exchanges=8))
    owner = np.repeat(np.arange(len(made)), np.diff(made.offsets))
    harvesting = made.is_harvesting[np.delete(owner[1:], made.offsets[1:-1] - 1)]
    within = gaps(made.at, made.offsets)
    assert ks_2samp(within[harvesting], within[~harvesting]).pvalue > 0.001
    starts = made.at[made.offsets[:-1]]
    assert ks_2samp(starts[made.is_harvesting], starts[~made.is_harvesting]).pvalue > 0.001
