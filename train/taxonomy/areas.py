"""Areas: capability areas, skills and example prompts as data in conf/areas, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from serve.capability.area_classifier import AreaClassifier
from serve.capability.capability_map import CapabilityMap, Skill
from serve.embedding.encoders import Encoder, encode_unique
from serve.sessions.canonical_text import canonical
from serve.sessions.records import text_fault

_N_CALIBRATED = 20_000  # reference vectors that are enough to calibrate *none of these* with
_EXAMPLE_WEIGHT = 3  # prompts of hints that one example counts as
_N_ROUNDS = 2
DEFAULT = Path(__file__).parents[2] / "conf" / "areas" / "default.yaml"


@dataclass(frozen=True, slots=True)
class AreaSettings:
    """Which file of areas, how many cells each area is cut into, and how votes are counted.

    `none_share` of the reference vectors are *none of these*; `floor` is used where there are none.
    """

    file: str = str(DEFAULT)
    n_cells: int = 32
    temperature: float = 0.05
    floor: float = 0.2
    none_share: float = 0.02
    sharpness: float = 0.65


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """Areas by id with their titles, skills in order, and the example prompts of each skill."""

    areas: Mapping[str, str]
    skills: tuple[Skill, ...]
    examples: tuple[tuple[str, ...], ...]


def read_taxonomy(path: Path) -> Taxonomy:
    """Read area → skills → examples.

    Raises:
        ValueError: naming file, area and skill, when something is missing, empty or named twice.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not there, expected a YAML file of areas")
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError) as fault:
        raise ValueError(f"{path}: {' '.join(str(fault).split())}") from fault
    if not isinstance(raw, dict) or not raw:
        raise ValueError(f"{path} holds no areas, expected area: {{title, skills}}")
    areas: dict[str, str] = {}
    skills: list[Skill] = []
    examples: list[tuple[str, ...]] = []
    for area, body in raw.items():
        _check_entry(path, area, body, "skills", dict)
        areas[area] = body["title"]
        for name, skill in body["skills"].items():
            _check_entry(path, f"{area}/{name}", skill, "examples", list)
            _check_examples(path, f"{area}/{name}", skill["examples"])
            skills.append(Skill(name, skill["title"], len(areas) - 1))
            examples.append(tuple(str(text) for text in skill["examples"]))
    return Taxonomy(areas, tuple(skills), tuple(examples))


@dataclass(frozen=True, slots=True)
class Hints:
    """Prompts that are known to be of one of some areas: `vectors` (n, n_dims), `allowed` (n, n_areas)."""

    vectors: NDArray[np.int8]
    allowed: NDArray[np.bool_]


def build_map(
    taxonomy: Taxonomy, encoder: Encoder, reference: NDArray[np.int8], settings: AreaSettings, *, seed: int,
    hints: Hints | None = None,
) -> CapabilityMap:  # fmt: skip
    """Encode the examples and cut areas into cells, with `reference` vectors showing where traffic lies, and `hints`
    teaching the discriminant beside the examples."""
    texts = [canonical(text) for own in taxonomy.examples for text in own]
    owners = np.repeat(np.arange(len(taxonomy.skills), dtype=np.int16), [len(own) for own in taxonomy.examples])
    built = CapabilityMap.build(
        taxonomy.areas, taxonomy.skills, encode_unique(encoder, texts), owners, n_cells=settings.n_cells,
        temperature=settings.temperature, floor=settings.floor, sharpness=settings.sharpness, reference=reference,
        seed=seed,
    )  # fmt: skip
    if hints is not None and len(hints.vectors):
        built = replace(built, discriminant=_taught(built, hints))
    if not len(reference):
        return built
    nearness = built.nearness(reference[:: max(1, len(reference) // _N_CALIBRATED)])
    return replace(built, floor=float(np.quantile(nearness, settings.none_share)))


def _taught(built: CapabilityMap, hints: Hints) -> AreaClassifier:
    """A discriminant of the examples and the hints, each hint taken to be of the likeliest area that it may be of."""
    n_areas, examples = len(built.areas), np.repeat(built.anchors, _EXAMPLE_WEIGHT, axis=0)
    owners = np.repeat(built.anchor_areas, _EXAMPLE_WEIGHT)
    found = AreaClassifier.fit(built.anchors, built.anchor_areas, n_areas)
    for _ in range(_N_ROUNDS):
        odds = np.where(hints.allowed, found.log_odds(hints.vectors.astype(np.float32)), -np.inf)
        likeliest = odds.argmax(axis=1).astype(np.int16)
        found = AreaClassifier.fit(
            np.concatenate([examples, hints.vectors]), np.concatenate([owners, likeliest]), n_areas
        )
    return found


def example_texts(taxonomy: Taxonomy) -> Sequence[str]:
    """All example prompts, skill by skill."""
    return [text for own in taxonomy.examples for text in own]


def _check_entry(path: Path, place: object, body: object, part: str, kind: type) -> None:
    if not isinstance(place, str):
        raise ValueError(f"{path}: {place!r} is a {type(place).__name__}, expected the name of an area")
    if not isinstance(body, dict) or not isinstance(body.get("title"), str):
        raise ValueError(f"{path}: {place} has no title, expected {{title, {part}}}")
    if not body.get(part):
        raise ValueError(f"{path}: {place} has 0 {part}, expected at least 1")
    if not isinstance(body[part], kind):
        raise ValueError(f"{path}: {place}: {part} is a {type(body[part]).__name__}, expected a {kind.__name__}")


def _check_examples(path: Path, place: str, examples: Sequence[object]) -> None:
    for number, text in enumerate(examples, 1):
        if not isinstance(text, str | int | float):  # an unquoted text with a colon in it is a mapping in YAML
            raise ValueError(f"{path}: {place}: example {number} is a {type(text).__name__}, expected a text in quotes")
        if fault := text_fault(str(text)):
            raise ValueError(f"{path}: {place}: example {number}: {fault}")


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a key named twice, which YAML would silently let win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise ValueError(f"{key!r} is named twice, at line {key_node.start_mark.line + 1}")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)
