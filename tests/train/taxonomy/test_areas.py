"""Areas as data: what is wrong is named with file, area and skill; what ships is rich enough."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serve.embedding.encoders import Encoder
from serve.sessions.canonical_text import canonical
from train.taxonomy.areas import DEFAULT, AreaSettings, Hints, Taxonomy, build_map, example_texts, read_taxonomy

GOOD = """
coding:
  title: Coding
  skills:
    bugs: {title: Bugs, examples: ["fix the bug", "python loop never ends"]}
    katas: {title: Katas, examples: ["sort a list"]}
cooking:
  title: Cooking
  skills:
    cakes: {title: Cakes, examples: ["lemon cake recipe", "bake bread", 42]}
"""


def read(tmp_path: Path, text: str) -> Taxonomy:
    path = tmp_path / "areas.yaml"
    path.write_text(text, encoding="utf-8")
    return read_taxonomy(path)


def test_areas_skills_and_examples_keep_their_order(tmp_path: Path) -> None:
    taxonomy = read(tmp_path, GOOD)
    assert dict(taxonomy.areas) == {"coding": "Coding", "cooking": "Cooking"}
    assert [(skill.name, skill.title, skill.area) for skill in taxonomy.skills] == [
        ("bugs", "Bugs", 0), ("katas", "Katas", 0), ("cakes", "Cakes", 1),
    ]  # fmt: skip
    assert taxonomy.examples[2] == ("lemon cake recipe", "bake bread", "42")
    assert len(example_texts(taxonomy)) == 6


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Coding", "name: Coding", r"areas\.yaml: coding has no title, expected {title, skills}"),
        ("title: Katas, ", "", r"areas\.yaml: coding/katas has no title, expected {title, examples}"),
        ('["sort a list"]', "[]", r"areas\.yaml: coding/katas has 0 examples, expected at least 1"),
        ('["sort a list"]', '"sort a list"', r"areas\.yaml: coding/katas: examples is a str, expected a list"),
        (
            '"bake bread"',
            "bake bread: how",
            r"areas\.yaml: cooking/cakes: example 2 is a dict, expected a text in quotes",
        ),
        ('"bake bread"', "null", r"areas\.yaml: cooking/cakes: example 2 is a NoneType, expected a text in quotes"),
        ('"bake bread"', '"  "', r"areas\.yaml: cooking/cakes: example 2: prompt is blank"),
        ("cooking:", "coding:", r"areas\.yaml: 'coding' is named twice, at line 7"),
        ("katas:", "bugs:", r"areas\.yaml: 'bugs' is named twice, at line 6"),
        ("cooking:", "no:", r"areas\.yaml: False is a bool, expected the name of an area"),
        ("title: Coding", "title: [Coding", r"areas\.yaml: while parsing"),
        (GOOD, "", r"areas\.yaml holds no areas, expected area: {title, skills}"),
        (GOOD, "[coding]", r"areas\.yaml holds no areas"),
        (GOOD, "coding: {title: C, skills: [a, b]}", r"areas\.yaml: coding: skills is a list, expected a dict"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ValueError, match=message):
        read(tmp_path, GOOD.replace(old, new, 1))


def test_a_missing_file_and_one_that_is_not_utf8_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml is not there, expected a YAML file of areas"):
        read_taxonomy(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("é: 1".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.yaml: "):
        read_taxonomy(tmp_path / "latin.yaml")


def test_the_map_places_each_example_in_its_own_skill(tmp_path: Path, encoder: Encoder) -> None:
    taxonomy = read(tmp_path, GOOD)
    settings = AreaSettings(n_cells=2, temperature=0.1, floor=0.3)
    built = build_map(taxonomy, encoder, np.zeros((0, encoder.n_dims), np.int8), settings, seed=0)
    found = built.assign(encoder.encode([canonical(text) for text in example_texts(taxonomy)]))
    assert found.skill.tolist() == [0, 0, 1, 2, 2, 2]
    assert (built.n_cells.tolist(), built.temperature, built.floor) == ([2, 2], 0.1, 0.3)
    assert dict(built.titles) == dict(taxonomy.areas)


@pytest.fixture(scope="module")
def shipped() -> Taxonomy:
    return read_taxonomy(DEFAULT)


def test_the_shipped_areas_are_those_of_the_design(shipped: Taxonomy) -> None:
    assert set(shipped.areas) >= {
        "coding", "mathematics", "logical_reasoning", "tool_use", "data_analysis", "writing", "language_tasks",
        "knowledge", "role_play", "grading", "instruction_generation", "safety_policy", "customer_support",
        "device_assistant", "document_processing", "small_talk",
    }  # fmt: skip


def test_the_shipped_skills_are_many_and_have_enough_examples(shipped: Taxonomy) -> None:
    assert len(shipped.skills) >= 120
    assert min(Counter(skill.area for skill in shipped.skills).values()) >= 8
    thin = [skill.name for skill, own in zip(shipped.skills, shipped.examples, strict=True) if len(own) < 12]
    assert thin == []


def test_no_shipped_example_is_there_twice(shipped: Taxonomy) -> None:
    counts = Counter(canonical(text) for text in example_texts(shipped))
    assert [text for text, count in counts.items() if count > 1] == []


def test_the_share_of_reference_traffic_that_is_none_of_these_is_as_set(tmp_path: Path, encoder: Encoder) -> None:
    taxonomy, rng = read(tmp_path, GOOD), np.random.default_rng(0)
    words = [*"abcdefgh", "fix", "bug", "python", "loop", "sort", "list", "lemon", "cake", "recipe", "bake", "bread"]
    reference = encoder.encode([" ".join(rng.choice(words, size=4)) for _ in range(1000)])
    for share in (0.02, 0.3):
        built = build_map(taxonomy, encoder, reference, AreaSettings(n_cells=2, none_share=share), seed=0)
        assert (built.assign(reference).area < 0).mean() == pytest.approx(share, abs=0.03)


def test_hints_teach_what_the_examples_leave_open(tmp_path: Path, encoder: Encoder) -> None:
    taxonomy, settings = read(tmp_path, GOOD), AreaSettings(n_cells=2, temperature=0.5)
    nothing = np.zeros((0, encoder.n_dims), np.int8)
    words = [f"stew {word}" for word in "abcdefghijklmnopqrst"]
    hints = Hints(encoder.encode(words), np.tile([False, True], (len(words), 1)))
    plain = build_map(taxonomy, encoder, nothing, settings, seed=0).discriminant
    taught = build_map(taxonomy, encoder, nothing, settings, seed=0, hints=hints).discriminant
    assert plain is not None
    assert taught is not None
    asked = encoder.encode(["stew z"]).astype(np.float32)

    def lead(odds: NDArray[np.float64]) -> float:
        return float(odds[0, 1] - odds[0, 0])

    assert lead(taught.log_odds(asked)) > max(0.0, lead(plain.log_odds(asked)))
