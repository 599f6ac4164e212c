from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from serve.adaptation import community_threshold
from serve.adaptation.provider_rows import are_learned
from serve.bundle.bundle import Bundle
from serve.campaigns.community_features import Community
from serve.campaigns.detector import Candidates
from serve.campaigns.mixture import Mixture
from serve.campaigns.sketches import Sketches
from serve.io.validation import SCHEMA
from serve.model.community_model import FEATURES, CommunityFeatures, CommunityModel
from serve.sessions.records import Session
from serve.sessions.sessionizing import Timeline
from tests.conftest import draw_sessions

STRICT = CommunityModel(
    *(dict.fromkeys(FEATURES, value) for value in (0.0, 1.0, 1.0, -9.0, 9.0)), intercept=0.0, threshold=2.0
)

NOBODY = Community(0, np.zeros(0, np.int64), np.zeros(0, np.int64))


def timeline(sessions: tuple[Session, ...]) -> Timeline:
    own = [(session, exchange) for session in sessions for exchange in session.exchanges]
    columns = [
        [session.account_id for session, _ in own], [session.session_id for session, _ in own],
        [float("nan")] * len(own), [exchange.prompt for _, exchange in own],
    ]  # fmt: skip
    return Timeline.of(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA))


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path) -> Bundle:
    return dataclasses.replace(Bundle.load(bundle_folder), communities=STRICT)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands for finding communities: `odds` are those of the communities it finds, `sketches` what it was given."""
    seen: dict[str, Any] = {"odds": []}

    def candidates(sketches: Sketches) -> Candidates:
        seen["sketches"] = sketches
        found = tuple((NOBODY, CommunityFeatures(value, *[0.0] * (len(FEATURES) - 1))) for value in seen["odds"])
        return Candidates(sketches, Mixture.empty(), found, ())

    monkeypatch.setattr(community_threshold, "candidates", candidates)
    return seen


def threshold(odds: list[float], asked: dict[str, Any], bundle: Bundle) -> float:
    asked["odds"] = odds
    found = community_threshold.community_threshold(timeline(draw_sessions(24, seed=3)), bundle)
    assert found.n_communities == len(odds)
    assert found.model == dataclasses.replace(STRICT, threshold=found.model.threshold)
    return found.model.threshold


def test_only_accounts_that_nothing_is_learned_from_are_linked(bundle: Bundle, asked: dict[str, Any]) -> None:
    threshold([], asked, bundle)
    names = sorted({session.account_id for session in draw_sessions(24, seed=3)})
    expected = [name for name, learned in zip(names, are_learned(names), strict=True) if not learned]
    assert list(asked["sketches"].account_ids) == expected
    assert np.isnan(asked["sketches"].lowest).all()


def test_a_few_communities_raise_the_threshold_and_never_lower_it(bundle: Bundle, asked: dict[str, Any]) -> None:
    assert threshold([], asked, bundle) == 2.0
    assert threshold([1.5, -3.0], asked, bundle) == 2.0
    assert threshold([1.5, 2.75], asked, bundle) == 2.75


def test_many_communities_set_it_but_never_below_even_odds(bundle: Bundle, asked: dict[str, Any]) -> None:
    assert threshold([1.25] * community_threshold.ENOUGH, asked, bundle) == 1.25
    assert threshold([-1.0] * community_threshold.ENOUGH, asked, bundle) == 0.0


def test_traffic_of_too_few_accounts_leaves_it(bundle: Bundle, asked: dict[str, Any]) -> None:
    found = community_threshold.community_threshold(timeline(draw_sessions(2, seed=3)), bundle)
    assert (found.model, found.n_communities) == (STRICT, 0)
    assert "sketches" not in asked
