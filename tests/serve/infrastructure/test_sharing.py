from __future__ import annotations

import numpy as np
import pytest

from serve.infrastructure.account_metadata import KINDS, AccountMetadata
from serve.infrastructure.sharing import MAX_LOG_ODDS, MAX_TIE, Sharing

N = 400
NAMES = tuple(f"a{index:03}" for index in range(N))
OWN = np.arange(20)


def sharing(kind: str, values: dict[int, int]) -> Sharing:
    """Accounts by index with one value each, everybody else with one of their own."""
    place = KINDS.index(kind)
    pairs = {name: {(place, values.get(index, 1000 + index))} for index, name in enumerate(NAMES)}
    return Sharing(AccountMetadata.of_pairs(pairs), NAMES)


def test_accounts_behind_three_addresses_are_tied_and_say_by_what():
    found = sharing("ip", {index: index % 3 for index in range(20)})
    evidence = found.evidence(OWN)
    assert evidence.ties.min() > 3.0
    assert evidence.log_odds == pytest.approx(MAX_LOG_ODDS, rel=0.2)
    assert evidence.p_value == 0.01
    assert [(value.kind, value.n_accounts, value.n_outside) for value in evidence.values] == [
        ("ip", 7, 0), ("ip", 7, 0), ("ip", 6, 0),
    ]  # fmt: skip


def test_accounts_that_share_nothing_are_as_without_metadata():
    found = sharing("ip", {})
    assert found.is_empty
    evidence = found.evidence(OWN)
    assert (evidence.log_odds, evidence.p_value, evidence.values) == (0.0, 1.0, ())
    assert not evidence.ties.any()


def test_an_office_whose_people_ask_about_everything_ties_nobody():
    office = sharing("ip", dict.fromkeys(range(18, 80), 0))
    assert office.evidence(OWN).log_odds == 0.0
    assert office.ties(OWN)[:18].max() == 0.0
    assert office.ties(OWN)[18:].max() < 1.0


def test_what_everybody_has_says_nothing_and_a_user_agent_little():
    assert sharing("user_agent", dict.fromkeys(range(N), 0)).evidence(OWN).log_odds == 0.0
    alone = sharing("user_agent", dict.fromkeys(range(20), 0)).evidence(OWN)
    assert 0.0 < alone.log_odds <= MAX_LOG_ODDS / MAX_TIE


def test_one_who_shares_with_a_community_is_tied_to_it():
    found = sharing("payment", dict.fromkeys([0, 1, 2, 3, 30], 0))
    ties = found.ties(OWN)
    assert ties[30] > 2.0
    assert ties[31] == 0.0
    assert ties.max() <= MAX_TIE


def test_names_that_are_not_in_the_population_change_nothing():
    pairs = {"stranger": {(0, 0)}, "a000": {(0, 0)}}
    assert Sharing(AccountMetadata.of_pairs(pairs), NAMES).is_empty
    assert Sharing(AccountMetadata.nothing(), NAMES).is_empty
