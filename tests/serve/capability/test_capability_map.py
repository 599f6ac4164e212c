"""The map: whoever is nearest decides, nothing near is *none of these*, and a wrong map is refused by name."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.capability import vector_index
from serve.capability.area_classifier import AreaClassifier
from serve.capability.capability_map import NONE, CapabilityMap, Skill
from serve.capability.vector_index import build_index, kmeans
from serve.embedding.encoders import SCALE, Encoder, quantise


def axis(index: int, n_dims: int = 8, *, lean: int | None = None) -> list[int]:
    """A vector along one axis, or between two of them."""
    vector = [0] * n_dims
    vector[index] = 100
    if lean is not None:
        vector[lean] = 75
    return vector


def map_by_hand(**changes: Any) -> CapabilityMap:
    """Two areas, three skills: a/one on axis 0, a/two on axis 1, b/one on axes 2 and 3."""
    parts: dict[str, Any] = {
        "areas": ("a", "b"),
        "titles": {"a": "A", "b": "B"},
        "skills": (Skill("one", "One", 0), Skill("two", "Two", 0), Skill("one", "One", 1)),
        "anchors": np.array([axis(0), axis(1), axis(2), axis(3)], np.int8),
        "anchor_skills": np.array([0, 1, 2, 2], np.int16),
        "cells": np.array([axis(0), axis(1), axis(2)], np.int8),
        "cell_areas": np.array([0, 0, 1], np.int16),
        "temperature": 0.05,
        "floor": 0.1,
    }
    return CapabilityMap(**{**parts, **changes})


def test_an_example_is_most_similar_to_itself_with_similarity_1(
    capabilities: CapabilityMap, encoder: Encoder, example_texts: tuple[tuple[int, str], ...]
) -> None:
    found = capabilities.assign(encoder.encode([text for _, text in example_texts]))
    assert found.cosine == pytest.approx(1.0, abs=0.01)
    assert found.area.tolist() == [area for area, _ in example_texts]
    assert found.skill.tolist() == capabilities.anchor_skills.tolist()


def test_places_by_hand() -> None:
    vectors = np.array([axis(0, lean=2), axis(1), axis(2, lean=0), axis(3)], np.int8)
    found = map_by_hand().assign(vectors)
    assert found.area.tolist() == [0, 0, 1, 1]
    assert found.skill.tolist() == [0, 1, 2, 2]
    assert found.cell.tolist() == [0, 1, 2, 2]


def test_confidence_by_hand() -> None:
    found = map_by_hand(temperature=0.2).assign(np.array([axis(0, lean=2)], np.int8))
    cosines = np.array([100 * 100, 0, 75 * 100, 0]) / SCALE**2
    weights = np.exp((cosines - 1) / 0.2)
    none = np.exp((0.1 - 1) / 0.2)
    assert found.confidence[0] == pytest.approx((weights[0] + weights[1]) / (weights.sum() + none))
    assert found.cosine[0] == pytest.approx(cosines[0])


def leaning(to: int, by: float) -> AreaClassifier:
    """For every vector, area `to` has log-odds of `by`."""
    offsets = np.zeros(2)
    offsets[to] = by
    return AreaClassifier(np.zeros((2, 8), np.int8), offsets, 1.0)


def test_the_discriminant_decides_between_areas_that_have_votes_and_never_for_another() -> None:
    vectors = np.array([axis(0, lean=2), axis(0)], np.int8)
    assert map_by_hand(temperature=0.2).assign(vectors).area.tolist() == [0, 0]
    swayed = map_by_hand(temperature=0.2, discriminant=leaning(1, 9.0)).assign(vectors[:1])
    assert (swayed.area.tolist(), swayed.skill.tolist(), swayed.cell.tolist()) == ([1], [2], [2])


def test_confidence_with_a_discriminant_by_hand() -> None:
    found = map_by_hand(temperature=0.2, discriminant=leaning(1, 1.0), sharpness=0.5).assign(
        np.array([axis(0, lean=2)], np.int8)
    )
    weights = np.exp((np.array([100 * 100, 0, 75 * 100, 0]) / SCALE**2 - 1) / 0.2)
    votes = np.array([weights[:2].sum(), weights[2:].sum()]) / weights.sum()
    odds = 0.5 * (np.log(votes + 0.03) + 0.5 * np.array([0.0, 1.0]))
    assert found.confidence[0] == pytest.approx(np.exp(odds[found.area[0]]) / np.exp(odds).sum())


@pytest.mark.parametrize("vector", [[0] * 8, [-100, -100, -100, -100, 0, 0, 0, 0], axis(7)])
def test_what_is_near_nothing_is_none_of_these_without_confidence(vector: list[int]) -> None:
    found = map_by_hand().assign(np.array([vector], np.int8))
    assert (found.area[0], found.skill[0], found.cell[0], found.confidence[0]) == (NONE, NONE, NONE, 0.0)


def test_a_higher_floor_only_ever_loses_prompts(capabilities: CapabilityMap, encoder: Encoder) -> None:
    vectors = encoder.encode(["sort a cake", "fix rain", "python soup list", "unheard of words", "hello my bug"])
    placed = [(replace(capabilities, floor=floor).assign(vectors).area != NONE) for floor in (-0.5, 0.1, 0.3, 0.6, 1.1)]
    assert placed[0].all()
    assert not placed[-1].any()
    assert all((strict <= lax).all() for lax, strict in itertools.pairwise(placed))


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_a_place_depends_neither_on_the_batch_nor_on_its_order(capabilities: CapabilityMap, seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = quantise(
        rng.normal(size=(n, 64)) + capabilities.anchors[rng.integers(len(capabilities.anchors), size=n)] / 90
    )
    whole, order = capabilities.assign(vectors), rng.permutation(n)
    shuffled, alone = capabilities.assign(vectors[order]), [capabilities.assign(vectors[[row]]) for row in range(n)]
    for name in ("area", "skill", "cell", "confidence", "cosine"):
        column = getattr(whole, name)
        assert (getattr(shuffled, name) == column[order]).all()
        assert (np.concatenate([getattr(one, name) for one in alone]) == column).all()


def test_cells_lie_in_their_area_and_confidence_between_0_and_1(capabilities: CapabilityMap) -> None:
    vectors = quantise(np.random.default_rng(0).normal(size=(300, 64)))
    found = replace(capabilities, floor=-1.0).assign(vectors)
    placed = found.area != NONE
    assert placed.any()
    assert (capabilities.cell_areas[found.cell[placed]] == found.area[placed]).all()
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()


def test_ties_at_the_edge_of_the_search_are_settled_by_index() -> None:
    many = np.repeat(np.array([axis(0)], np.int8), 40, axis=0)
    skills = np.repeat(np.array([0, 1], np.int16), 20)
    found = map_by_hand(
        anchors=np.concatenate([many, [axis(2)]]).astype(np.int8), anchor_skills=np.append(skills, 2).astype(np.int16)
    ).assign(np.array([axis(0)] * 3, np.int8))
    assert found.skill.tolist() == [0, 0, 0]


def test_no_vectors_give_no_places(capabilities: CapabilityMap) -> None:
    found = capabilities.assign(np.zeros((0, 64), np.int8))
    columns = (found.area, found.skill, found.cell, found.confidence, found.cosine)
    assert [column.shape for column in columns] == [(0,)] * 5


def test_many_threads_find_what_one_finds(capabilities: CapabilityMap) -> None:
    vectors = quantise(np.random.default_rng(5).normal(size=(400, 64)))
    alone = capabilities.assign(vectors)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(capabilities.assign, [vectors] * 12):
            assert (found.cell == alone.cell).all()
            assert (found.confidence == alone.confidence).all()


def test_building_twice_gives_the_same_map_and_reference_vectors_move_its_cells(
    capabilities: CapabilityMap, encoder: Encoder
) -> None:
    reference = encoder.encode([f"python list {word}" for word in ("bug", "loop", "code", "cake", "bread", "soup")])

    def built(reference: object = None) -> CapabilityMap:
        return CapabilityMap.build(
            {"coding": "Coding", "cooking": "Cooking", "small_talk": "Small talk"}, capabilities.skills,
            capabilities.anchors, capabilities.anchor_skills, n_cells=3, reference=reference,
        )  # fmt: skip

    assert (built().cells == capabilities.cells).all()
    assert built().n_cells.tolist() == [3, 3, 3]
    assert built(reference).cells.tolist() != capabilities.cells.tolist()


def test_kmeans_keeps_few_distinct_rows_and_splits_two_clouds() -> None:
    few = np.array([axis(1), axis(0), axis(1)], np.int8)
    assert kmeans(few, 2, seed=0).tolist() == sorted([axis(0), axis(1)])
    rng = np.random.default_rng(0)
    clouds = quantise(
        np.concatenate([np.eye(16)[[0] * 30], np.eye(16)[[1] * 30]]) + rng.normal(scale=0.02, size=(60, 16))
    )
    centres = kmeans(clouds, 2, seed=0).astype(np.float64)
    assert sorted(centres.argmax(axis=1).tolist()) == [0, 1]


def test_a_large_index_is_an_inverted_file_that_finds_a_vector_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_index, "FLAT_LIMIT", 500)
    vectors = quantise(np.random.default_rng(0).normal(size=(900, 32))).astype(np.float32)
    index = build_index(vectors)
    assert isinstance(index, faiss.IndexIVFFlat)
    products, ids = index.search(vectors, 1)
    assert (ids[:, 0] == np.arange(900)).all()
    assert (products[:, 0] == (vectors**2).sum(axis=1)).all()


def test_a_large_map_is_searched_with_faiss_and_places_as_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 16))
    anchors = quantise(np.repeat(centres, 60, axis=0) + rng.normal(scale=0.1, size=(180, 16)))
    changes = {"anchors": anchors, "anchor_skills": np.repeat([0, 1, 2], 60).astype(np.int16)}
    changes["cells"] = quantise(centres)
    vectors = quantise(np.repeat(centres, 20, axis=0) + rng.normal(scale=0.1, size=(60, 16)))
    small = map_by_hand(**changes).assign(vectors)
    monkeypatch.setattr(vector_index, "FLAT_LIMIT", 100)
    large = map_by_hand(**changes)
    assert isinstance(large._anchors, faiss.IndexIVFFlat)
    assert large.assign(vectors).skill.tolist() == small.skill.tolist() == np.repeat([0, 1, 2], 20).tolist()


def test_an_index_at_the_limit_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_index, "FLAT_LIMIT", 500)
    assert isinstance(build_index(np.ones((500, 4), np.float32)), faiss.IndexFlatIP)


BAD_MAPS: dict[str, tuple[dict[str, Any], str]] = {
    "area twice": ({"areas": ("a", "a")}, "area 'a' is named twice"),
    "skill twice": (
        {"skills": (Skill("one", "", 0), Skill("one", "", 0), Skill("one", "", 1))},
        "skill 'a/one' is named twice",
    ),
    "no example": (
        {"anchor_skills": np.array([0, 0, 2, 2], np.int16)},
        "skill a/two has 0 examples, expected at least 1",
    ),
    "no cell": (
        {"cells": np.array([axis(0)], np.int8), "cell_areas": np.array([0], np.int16)},
        "area b has 0 cells, expected at least 1",
    ),
    "dimensions": ({"cells": np.ones((3, 5), np.int8)}, "cells have 5 dimensions, expected 8"),
    "order": ({"cell_areas": np.array([1, 0, 0], np.int16)}, "cells are not sorted by area"),
    "anchors left over": ({"anchors": np.ones((5, 8), np.int8)}, "5 anchors have 4 skills"),
    "cells left over": ({"cells": np.ones((4, 8), np.int8)}, "4 cells have 3 areas"),
    "unknown skill": ({"anchor_skills": np.array([0, 1, 2, 3], np.int16)}, "anchor 3 has skill 3, expected 0 to 2"),
    "negative skill": ({"anchor_skills": np.array([0, -1, 2, 1], np.int16)}, "anchor 1 has skill -1, expected 0 to 2"),
    "unknown area": (
        {"skills": (Skill("one", "", 0), Skill("two", "", 2), Skill("one", "", 1))},
        "skill 1 has area 2, expected 0 to 1",
    ),
    "NaN anchor": ({"anchors": np.array([axis(0), axis(1), [np.nan] * 8, axis(3)])}, "anchor 2 holds NaN"),
    "NaN cell": ({"cells": np.array([axis(0), [np.nan] * 8, axis(2)])}, "cell 1 holds NaN"),
    "floats": ({"anchors": np.ones((4, 8), np.float32)}, "anchors are float32, expected int8"),
    "flat": ({"anchors": np.ones(8, np.int8)}, r"anchors have shape \(8,\)"),
    "NaN floor": ({"floor": np.nan}, "floor nan"),
    "no temperature": ({"temperature": 0.0}, "temperature 0.0"),
    "blunt beyond measure": ({"sharpness": -1e6}, "sharpness -1000000.0: expected .* and 0 to 1000"),
    "discriminant": (
        {"discriminant": AreaClassifier(np.zeros((2, 5), np.int8), np.zeros(2), 1.0)},
        r"area weights are int8 \(2, 5\), expected int8 \(2, 8\)",
    ),
    "cell of no area": ({"cell_areas": np.array([0, 1, 2], np.int16)}, "cell 2 has area 2, expected 0 to 1"),
}


@pytest.mark.parametrize("case", BAD_MAPS)
def test_a_wrong_map_is_refused_with_the_place_named(case: str) -> None:
    changes, message = BAD_MAPS[case]
    with pytest.raises(ValueError, match=message):
        map_by_hand(**changes)


@pytest.mark.parametrize("shape", [(3, 7), (8,)])
def test_vectors_of_another_dimension_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"vectors have shape \(.*\), expected \(n, 8\)"):
        map_by_hand().assign(np.zeros(shape, np.int8))
