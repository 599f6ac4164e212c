"""Settings: typed, checked before any work, and told apart from what is merely similar."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

from train.config.settings import Goal, HoldOut, Settings, SettingsError, flat, keys, plain, settings_of
from train.corpora.suggestions import suggestion
from train.encoders.settings import EncoderSource


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sed": 1}, r"there is no setting 'sed', did you mean 'seed'\?"),
        ({"corpora": {"dirr": "x"}}, r"there is no setting 'corpora.dirr', did you mean 'corpora.dir'\?"),
        ({"classifier": {"num_leafs": 3}}, r"did you mean 'classifier.num_leaves'\?"),
        ({"encoder": {"distill": {"n_text": 3}}}, r"did you mean 'encoder.distill.n_texts'\?"),
        ({"zzzzzzzz": 1}, "there is no setting 'zzzzzzzz', expected one of name, goal"),
        ({"seed": "many"}, "seed: Value 'many' of type 'str' could not be converted to Integer"),
        ({"goal": "bundel"}, r"goal: Invalid value 'bundel', expected one of \[bundle, exam\]"),
        ({"exam": {"lengths": 50}}, "exam.lengths: Invalid value"),
        ({"exam": {"lengths": ["ten"]}}, r"exam.lengths\[0\]: Value 'ten'"),
        ({"model": {"n_sessions": None}}, "model.n_sessions: .*None"),
        ({"corpora": {"starter": "perhaps"}}, "corpora.starter: Value 'perhaps' is not a valid bool"),
        ({"evidence": {"max_prompts": -1}}, "evidence.max_prompts is -1, expected at least 1"),
        ({"split": {"n_folds": 0}}, "split.n_folds is 0, expected at least 2"),
        ({"classifier": {"learning_rate": -0.5}}, "classifier.learning_rate is -0.5, expected at least 0"),
        ({"bundling": {"fpr": 1.5}}, "bundling.fpr is 1.5, expected 0 to 1"),
        ({"exam": {"dilutions": [0, 2]}}, "exam.dilutions is 2.0, expected 0 to 1"),
        ({"exam": {"lengths": [10, 0]}}, "exam.lengths is 0, expected at least 1"),
        ({"model": {"n_sessions": float("inf")}}, "model.n_sessions"),
        ({"evidence": {"rate": float("nan")}}, "evidence.rate is nan, expected at least 0"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        settings_of(values)
    assert "\n" not in str(caught.value)


def test_nothing_given_is_the_defaults() -> None:
    assert settings_of({}) == Settings()


def test_plain_values_come_back_as_the_same_settings() -> None:
    settings = settings_of(
        {"goal": "exam", "hold_out": "new_provider", "encoder": {"source": "released"}, "exam": {"lengths": [5, 7]}}
    )
    assert settings.goal is Goal.exam
    assert settings.hold_out is HoldOut.new_provider
    assert settings.encoder.source is EncoderSource.released
    assert settings.exam.lengths == (5, 7)
    assert settings_of(plain(settings)) == settings


def test_the_inputs_can_be_a_key_and_knows_nothing_of_the_booster() -> None:
    settings = Settings()
    other = dataclasses.replace(settings, classifier=dataclasses.replace(settings.classifier, n_rounds=7))
    assert hash(settings.inputs) == hash(other.inputs)
    assert settings.inputs == other.inputs
    assert settings.inputs != dataclasses.replace(settings, seed=1).inputs
    assert settings.recipe != other.recipe


def test_settings_travel_between_processes() -> None:
    assert pickle.loads(pickle.dumps(Settings())) == Settings()


def test_flat_names_every_leaf_once() -> None:
    found = flat(Settings())
    assert found["encoder.distill.n_dims"] == Settings().encoder.distill.n_dims
    assert found["goal"] == "bundle"
    assert not any(isinstance(value, dict) for value in found.values())
    assert set(found) < set(keys())


@pytest.mark.parametrize(
    ("name", "found"),
    [("demoo", "demo"), ("DEMO", None), ("exprot", "export"), ("", None)],
)
def test_nearest_suggests_only_what_is_near(name: str, found: str | None) -> None:
    said = suggestion(name, ["demo", "export"])
    assert said == (f", did you mean {found!r}?" if found else ", expected one of demo, export")
