"""Settings: everything that a training run can be set to, as frozen records that are checked before any work starts.

A field is a group of `conf/` and, but for `capabilities` (whose data is `conf/areas`), a module of `train/`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from serve.model.refitting import ClassifierSettings
from train.config.ranges import out_of_range
from train.config.search import SearchSettings
from train.corpora.loading import CorporaSettings
from train.corpora.suggestions import suggestion
from train.encoders.settings import EncoderSettings
from train.evaluation.exam import ExamSettings
from train.learning.bundling import BundlingSettings
from train.learning.evidence import EvidenceSettings
from train.learning.model import ModelSettings, Recipe
from train.learning.split import SplitSettings
from train.synthesis.compose import ComposeSettings
from train.taxonomy.areas import AreaSettings


class Goal(StrEnum):
    """What a run is for: a bundle, or the exam over the folds of both settings."""

    bundle = "bundle"
    exam = "exam"


class HoldOut(StrEnum):
    """What a bundle doesn't learn from, so that it can be measured on it: nothing, or one fold of an exam setting."""

    nothing = "nothing"
    known_traffic = "known_traffic"
    new_provider = "new_provider"


@dataclass(frozen=True, slots=True)
class TrackingSettings:
    """Whether a run is tracked, in which MLflow experiment, whether its bundle is kept there too, and whether that
    becomes a version of the registered model `stillwatch`.

    It lies here and not in tracking.py, since importing MLflow takes longer than telling that a key is misspelt.
    """

    enabled: bool = True
    experiment: str = "stillwatch"
    keep_bundle: bool = True
    register: bool = False


@dataclass(frozen=True, slots=True)
class InputSettings:
    """What prompts, split, encoder and capability map depend on; runs for which it is equal share them."""

    goal: Goal
    hold_out: HoldOut
    seed: int
    corpora: CorporaSettings
    encoder: EncoderSettings
    capabilities: AreaSettings
    split: SplitSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a run; `name` is the experiment's, `seed` the only source of chance."""

    name: str = "default"
    goal: Goal = Goal.bundle
    hold_out: HoldOut = HoldOut.nothing
    seed: int = 0
    corpora: CorporaSettings = field(default_factory=CorporaSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    capabilities: AreaSettings = field(default_factory=AreaSettings)
    compose: ComposeSettings = field(default_factory=ComposeSettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    exam: ExamSettings = field(default_factory=ExamSettings)
    bundling: BundlingSettings = field(default_factory=BundlingSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    search: SearchSettings = field(default_factory=SearchSettings)

    @property
    def inputs(self) -> InputSettings:
        """The part that prepared inputs depend on."""
        return InputSettings(
            self.goal, self.hold_out, self.seed, self.corpora, self.encoder, self.capabilities, self.split
        )  # fmt: skip

    @property
    def recipe(self) -> Recipe:
        """The part that a model is learned with."""
        return Recipe(self.model, self.compose, self.evidence, self.classifier, self.seed)


class SettingsError(ValueError):
    """Settings that no run can start with: names the key, what was found, and the nearest valid name."""


def schema() -> DictConfig:
    """The settings as a typed config that values can be merged into."""
    return _thawed(OmegaConf.structured(Settings))


def settings_of(values: Mapping[str, Any]) -> Settings:
    """Settings from plain nested values, the defaults where a value is missing.

    Raises:
        SettingsError: when a key is misspelt, or a value has the wrong type or is out of its range.
    """
    try:
        merged = OmegaConf.merge(schema(), dict(values))
        found = OmegaConf.to_object(merged)
    except OmegaConfBaseException as fault:
        raise SettingsError(complaint(str(fault))) from fault
    settings = _frozen(found)
    if not isinstance(settings, Settings):
        raise SettingsError(f"settings are of type {type(settings).__name__}, expected a mapping")
    wrong = out_of_range(flat(settings))
    if wrong is not None:
        raise SettingsError(wrong)
    return settings


def plain(settings: Settings) -> dict[str, Any]:
    """Nested plain values that `settings_of` turns back into the same settings."""
    return {key: _plain(value) for key, value in dataclasses.asdict(settings).items()}


def flat(settings: Settings) -> dict[str, Any]:
    """The plain values by dotted key."""
    return dict(_leaves(plain(settings), ""))


def keys() -> tuple[str, ...]:
    """Every valid dotted key, groups included."""
    groups = [entry.name for entry in dataclasses.fields(Settings)]
    return tuple(dict.fromkeys((*flat(Settings()), *groups, "experiment")))


def complaint(said: str) -> str:
    """One line on what an error of OmegaConf or Hydra says is wrong, with the nearest valid name of an unknown key."""
    found = re.search(r"full_key: (\S+)", said)
    key = found.group(1) if found else ""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if re.search(r"Key '.*' (is )?not in", said):
        return f"there is no setting {key!r}{suggestion(key, keys())}"
    said = next((line for line in lines if "raised while composing" not in line), said)
    return f"{key}: {said}" if key else said


def _thawed(config: DictConfig) -> DictConfig:
    """The config with nested read-only flags (which frozen dataclasses set) taken off."""
    OmegaConf.set_readonly(config, None)
    for key in config:
        node = config._get_node(key)
        if isinstance(node, DictConfig):
            _thawed(node)
    return config


def _frozen(value: Any) -> Any:
    """The value with lists, which OmegaConf makes of tuples, made tuples again."""
    if isinstance(value, list):
        return tuple(_frozen(part) for part in value)
    if isinstance(value, dict):
        return {key: _frozen(part) for key, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {entry.name: _frozen(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
        return dataclasses.replace(value, **parts)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, StrEnum) else value


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
