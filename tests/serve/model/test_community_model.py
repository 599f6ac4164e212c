from __future__ import annotations

import json

import pytest

from serve.model.community_model import BUILT_IN, FEATURES, CommunityFeatures, CommunityModel


def test_each_sign_speaks_for_a_campaign_where_it_is_high():
    plain = CommunityFeatures(**dict.fromkeys(FEATURES, 0.5))
    for name in FEATURES:
        raised = CommunityFeatures(**(dict.fromkeys(FEATURES, 0.5) | {name: 0.7}))
        assert BUILT_IN.log_odds(raised) > BUILT_IN.log_odds(plain)
    assert BUILT_IN.log_odds(plain) == pytest.approx(BUILT_IN.intercept + sum(BUILT_IN.contributions(plain).values()))


def test_a_model_is_read_as_it_was_written():
    assert CommunityModel.of_values(json.loads(json.dumps(BUILT_IN.values()))) == BUILT_IN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": {}}, "weight is no object of lean"),
        ({"mean": 1.0}, "mean is no object"),
        ({"scale": dict.fromkeys(FEATURES, 0.0)}, "a scale that isn't above 0"),
        ({"scale": dict.fromkeys(FEATURES, "1")}, "expected a finite number"),
        ({"intercept": float("inf")}, "intercept inf, expected a finite number"),
        ({"threshold": True}, "threshold True"),
        ({"more": 1.0}, "no object of mean, scale"),
    ],
    ids=["no-weights", "no-object", "zero", "text", "infinite", "truth", "more"],
)
def test_what_is_no_model_is_refused(change: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        CommunityModel.of_values(BUILT_IN.values() | change)
