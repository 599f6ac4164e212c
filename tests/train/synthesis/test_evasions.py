"""Evasions send every harvested prompt once, at the price they say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from serve.bundle.bundle import Bundle
from serve.scoring.scorer import Scorer
from train.synthesis.evasions import (
    EVASIONS,
    FIXED_PREFIX,
    Evasion,
    Scene,
    Sending,
    Sent,
    combined,
    dilute,
    narrow,
    paraphrased,
    split,
    surface,
)

COVER: tuple[Sending, ...] = tuple(
    tuple(Sent(f"benign {row} {place}", float(place)) for place in range(7)) for row in range(5)
)
CAMPAIGN: tuple[Sending, ...] = tuple(
    tuple(Sent(f"Write a function that lists number {row * 20 + place}.", 10.0 * place) for place in range(20))
    for row in range(3)
)


@pytest.fixture
def bundle(tiny_scorer: Scorer) -> Bundle:
    return tiny_scorer.bundle


def scene(bundle: Bundle) -> Scene:
    return Scene(COVER, bundle, np.random.default_rng(0))


def harvested(sessions: tuple[Sending, ...]) -> list[str]:
    return [sent.prompt for session in sessions for sent in session if sent.is_harvested]


@pytest.mark.parametrize("evasion", [*EVASIONS, *combined()], ids=lambda evasion: evasion.name)
def test_each_evasion_sends_every_prompt_once_and_never_a_blank_one(evasion: Evasion, bundle: Bundle) -> None:
    sent = evasion.apply(CAMPAIGN, scene(bundle))
    assert len(harvested(sent)) == 60
    assert all(one.prompt.strip() for session in sent for one in session)
    assert all(session for session in sent)
    assert sent == evasion.apply(CAMPAIGN, scene(bundle))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 0.9, 0.95])
def test_dilution_adds_cover_up_to_its_share_and_keeps_the_order(share: float, bundle: Bundle) -> None:
    for before, after in zip(CAMPAIGN, dilute(share)(CAMPAIGN, scene(bundle)), strict=True):
        assert harvested((after,)) == [sent.prompt for sent in before]
        assert 1 - 20 / len(after) == pytest.approx(share, abs=0.02)
        assert [sent.at for sent in after] == sorted(sent.at for sent in after)


def test_splitting_over_k_accounts_makes_k_sessions_of_each(bundle: Bundle) -> None:
    sent = split(5)(CAMPAIGN, scene(bundle))
    assert [len(session) for session in sent] == [4] * 15
    assert Counter(harvested(sent)) == Counter(harvested(CAMPAIGN))


def test_narrow_accounts_keep_their_sizes_and_ask_about_neighbouring_topics(bundle: Bundle) -> None:
    sent = narrow(CAMPAIGN, scene(bundle))
    assert Counter(harvested(sent)) == Counter(harvested(CAMPAIGN))
    assert [len(session) for session in sent] == [20, 20, 20]


def test_the_surface_attack_is_the_one_described(bundle: Bundle) -> None:
    found = surface(((Sent("Why IS that so?!", 0.0),),), scene(bundle))[0][0].prompt
    assert found == FIXED_PREFIX + "why is that so"


def test_a_paraphrase_has_other_words_but_the_same_rest() -> None:
    rng = np.random.default_rng(0)
    found = [paraphrased("Write 3 sentences, then explain x = 2.", rng) for _ in range(20)]
    assert all("3 sentences, then" in text and text.endswith("x = 2.") for text in found)
    assert len(set(found)) > 3
    assert all(text[0].isupper() for text in found)


def test_evasions_add_up_in_order_with_their_calls(bundle: Bundle) -> None:
    by_name = {evasion.name: evasion for evasion in EVASIONS}
    both = by_name["paraphrase"] + by_name["split over 2"]
    assert (both.name, both.calls) == ("paraphrase, split over 2", 1.0)
    assert len(both.apply(CAMPAIGN, scene(bundle))) == 6
