"""The layout: like skills lie near each other, areas hold together, and the same map always lies the same way."""

from __future__ import annotations

import numpy as np

from serve.analyst.map_projection import MapProjection
from serve.capability.capability_map import CapabilityMap, Skill
from serve.embedding.encoders import quantise


def map_of(n_areas: int, n_skills: int, seed: int = 0) -> CapabilityMap:
    """Areas around points of their own, with skills of two examples each."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_areas, 32)) * 2
    skills = tuple(Skill(f"s{i}", f"S{i}", i // n_skills) for i in range(n_areas * n_skills))
    means = np.repeat(centres, n_skills, axis=0) + rng.normal(size=(len(skills), 32)) * 0.8
    anchors = quantise(np.repeat(means, 2, axis=0) + rng.normal(size=(2 * len(skills), 32)) * 0.1)
    owners = np.repeat(np.arange(len(skills), dtype=np.int16), 2)
    return CapabilityMap.build({f"a{i}": f"A{i}" for i in range(n_areas)}, skills, anchors, owners, n_cells=4)


def test_every_place_is_on_the_page_and_spans_it() -> None:
    laid = MapProjection.of(map_of(4, 6))
    assert laid.skills.shape == (24, 2)
    assert laid.skills.min(axis=0).tolist() == [0.0, 0.0]
    assert laid.skills.max(axis=0).tolist() == [1.0, 1.0]
    for places in (laid.cells, laid.areas, *laid.outlines):
        assert ((places >= -1e-9) & (places <= 1 + 1e-9)).all()


def test_a_skill_lies_nearest_to_one_of_its_own_area() -> None:
    laid = MapProjection.of(map_of(4, 6))
    distances = np.linalg.norm(laid.skills[:, None] - laid.skills[None], axis=2) + np.eye(24) * 9
    assert (distances.argmin(axis=1) // 6 == np.arange(24) // 6).mean() > 0.9


def test_cells_lie_within_their_areas_outline() -> None:
    capabilities = map_of(3, 5)
    laid = MapProjection.of(capabilities)
    for area, outline in enumerate(laid.outlines):
        own = laid.cells[capabilities.cell_areas == area]
        assert ((own >= outline.min(axis=0) - 1e-9) & (own <= outline.max(axis=0) + 1e-9)).all()


def test_the_same_map_lies_the_same_way() -> None:
    first, second = MapProjection.of(map_of(3, 4)), MapProjection.of(map_of(3, 4))
    assert (first.skills == second.skills).all()


def test_areas_of_one_and_two_skills_have_no_outline() -> None:
    assert [len(outline) for outline in MapProjection.of(map_of(3, 2)).outlines] == [0, 0, 0]
    assert np.isfinite(MapProjection.of(map_of(2, 1)).skills).all()
