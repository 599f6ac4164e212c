from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serve.analyst.map_counts import MapCounts
from serve.analyst.map_drawing import MapDrawing, spread
from serve.capability.capability_map import CapabilityMap


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=16))
def test_numbers_of_areas_can_be_read(places: list[tuple[float, float]]) -> None:
    moved = spread(np.array(places))
    distance = np.linalg.norm(moved[:, None] - moved[None], axis=2) + 1e9 * np.eye(len(moved))
    assert distance.min() > 5.0
    assert (moved >= 0).all()
    assert (moved <= 100.001).all()


def test_places_that_are_apart_stay() -> None:
    places = np.array([[10.0, 10.0], [50.0, 50.0], [90.0, 10.0]])
    assert np.abs(spread(places) - places).max() < 0.01


def test_a_dot_is_as_large_as_its_count(capabilities: CapabilityMap) -> None:
    counts = np.zeros(len(capabilities.cells), np.int64)
    counts[:2] = (100, 25)
    plane = MapDrawing.of(
        MapCounts(capabilities, counts, counts * 0, np.zeros(len(capabilities.skills), np.int64), {}, 1.0)
    )
    assert [dot.count for dot in plane.flagged] == [100, 25]
    assert plane.flagged[0].radius == 2 * plane.flagged[1].radius
    assert plane.others == ()
    assert [tag.number for tag in plane.tags] == [1, 2, 3]
