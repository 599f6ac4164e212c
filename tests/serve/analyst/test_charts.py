from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serve.analyst.charts import MAX_TIME_BARS, histogram, timeline

T0 = 1_767_225_600.0  # 2026-01-01


def test_every_number_is_in_a_bar_and_one_is_in_the_last() -> None:
    chart = histogram({"a": np.array([0.0, 0.24, 0.25, 1.0]), "none": np.zeros(0)}, 4)
    assert [bar.count for bar in chart.rows[0].bars] == [2, 1, 0, 1]
    assert [bar.height for bar in chart.rows[0].bars] == [100.0, 70.71, 0.0, 70.71]
    assert (chart.rows[0].most, chart.rows[0].total) == (2, 4)
    assert (chart.rows[1].most, chart.rows[1].total) == (0, 0)
    assert (chart.rows[0].bars[3].low, chart.rows[0].bars[3].high) == ("0.750", "1.000")


def test_rows_of_a_chart_have_one_scale_and_a_single_one_is_not_rooted() -> None:
    chart = histogram({"many": np.full(100, 0.1), "few": np.full(4, 0.1)}, 2)
    assert [row.bars[0].height for row in chart.rows] == [100.0, 20.0]
    assert [bar.height for bar in histogram({"one": np.array([0.1, 0.1, 0.9])}, 2).rows[0].bars] == [100.0, 50.0]


def test_a_day_s_bars_are_days() -> None:
    chart = timeline({"a": T0 + 86_400.0 * np.array([0.5, 0.6, 9.5]), "b": np.array([np.nan])})
    assert chart is not None
    assert chart.step in ("6 hours", "day")
    assert chart.rows[0].bars[0].low.startswith("2026-01-01")
    assert chart.rows[1].total == 0


def test_without_any_time_there_is_no_timeline() -> None:
    assert timeline({"a": np.array([np.nan]), "b": np.zeros(0)}) is None


@given(st.lists(st.floats(-62_135_596_800, 253_402_300_799), min_size=1, max_size=8))
def test_any_times_fit_in_a_bounded_number_of_bars(times: list[float]) -> None:
    chart = timeline({"a": np.array(times)})
    assert chart is not None
    assert len(chart.rows[0].bars) <= MAX_TIME_BARS + 1
    assert chart.rows[0].total == len(times)
