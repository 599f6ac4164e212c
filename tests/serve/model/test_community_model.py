from __future__ import annotations

import json

import pytest

from serve.model.community_model import BUILT_IN, FEATURES, CommunityFeatures, CommunityModel


def model(**changes: float) -> CommunityModel:
    """Each sign counts once a scale of 2 around 1, between -5 and 5."""
    parts = {"mean": 1.0, "scale": 2.0, "weight": 1.0, "low": -5.0, "high": 5.0}
    by_sign = {name: dict.fromkeys(FEATURES, value) for name, value in (parts | changes).items()}
    return CommunityModel(**by_sign, intercept=-1.0, threshold=0.5)


@pytest.mark.parametrize("name", FEATURES)
def test_a_sign_adds_its_weight_for_each_scale_above_the_mean_within_bounds(name: str):
    def added(value: float) -> float:
        signs = CommunityFeatures(**(dict.fromkeys(FEATURES, 1.0) | {name: value}))
        assert model().log_odds(signs) == pytest.approx(-1.0 + model().contributions(signs)[name])
        return model().contributions(signs)[name]

    assert [added(value) for value in (1.0, 3.0, 0.0, 5.0, 9.0, -9.0)] == pytest.approx([0, 1, -0.5, 2, 2, -3])


def test_a_community_is_a_campaign_above_the_threshold():
    assert not model().is_campaign(CommunityFeatures(*[1.0] * len(FEATURES)))
    assert model().is_campaign(CommunityFeatures(*[2.0] * len(FEATURES)))


def test_no_sign_speaks_for_innocence_in_the_built_in_model():
    assert min(BUILT_IN.weight.values()) >= 0.0


def test_a_model_is_read_as_it_was_written():
    assert CommunityModel.of_values(json.loads(json.dumps(BUILT_IN.values()))) == BUILT_IN


def test_signs_that_a_model_of_an_earlier_release_lacks_say_nothing():
    given = model().values()
    for by_sign in (part for part in given.values() if isinstance(part, dict)):
        for name in ("harvest", "rest", "even", "size"):
            del by_sign[name]
    read = CommunityModel.of_values(given)
    signs = CommunityFeatures(**(dict.fromkeys(FEATURES, 3.0)))
    assert [name for name, added in read.contributions(signs).items() if added == 0.0] == [
        "harvest",
        "rest",
        "even",
        "size",
    ]
    del given["weight"]["apart"]
    with pytest.raises(ValueError, match="weight is no object of lean"):
        CommunityModel.of_values(given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": {}}, "weight is no object of lean"),
        ({"mean": 1.0}, "mean is no object"),
        ({"scale": dict.fromkeys(FEATURES, 0.0)}, "a scale that isn't above 0"),
        ({"scale": dict.fromkeys(FEATURES, "1")}, "expected a finite number"),
        ({"intercept": float("inf")}, "intercept inf, expected a finite number"),
        ({"threshold": -1e7}, "threshold -10000000.0, expected a finite number up to 1e\\+06"),
        ({"threshold": True}, "threshold True"),
        ({"low": dict.fromkeys(FEATURES, 9.0)}, "low lies above its high"),
        ({"more": 1.0}, "no object of mean, scale"),
    ],
    ids=["no-weights", "no-object", "zero", "text", "infinite", "huge", "truth", "bounds", "more"],
)
def test_what_is_no_model_is_refused(change: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        CommunityModel.of_values(BUILT_IN.values() | change)
