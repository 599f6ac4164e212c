"""Surface channels: what they do to a text, that they never empty it, and that they fall alike on all sessions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from serve.sessions.canonical_text import canonical
from serve.sessions.records import text_fault
from train.corpora.pool import Pool
from train.synthesis.arrival_times import Timing
from train.synthesis.channel import BREAKS, CASINGS, FINALS, PREFIXES, Channel, draw_channel
from train.synthesis.compose import Composer, ComposeSettings

CHANNELS = st.builds(
    Channel, st.sampled_from(CASINGS), st.sampled_from(FINALS), st.sampled_from(BREAKS), st.sampled_from(PREFIXES)
)


@pytest.mark.parametrize(
    ("channel", "sent"),
    [
        (Channel(), "Why?\n\nTell me."),
        (Channel(casing="lower"), "why?\n\ntell me."),
        (Channel(final="dropped"), "Why?\n\nTell me"),
        (Channel(final="full stop"), "Why?\n\nTell me."),
        (Channel(breaks="spaces"), "Why? Tell me."),
        (Channel(breaks="doubled"), "Why?\n\nTell me."),
        (Channel(prefix="Q: "), "Q: Why?\n\nTell me."),
        (Channel("lower", "dropped", "spaces", "> "), "> why? tell me"),
    ],
)
def test_each_part_does_what_it_says(channel: Channel, sent: str) -> None:
    assert channel.apply("Why?\n\nTell me.") == sent


def test_capitalising_touches_the_first_letter_only() -> None:
    assert Channel(casing="capitalised").apply("why NASA") == "Why NASA"


@given(CHANNELS, st.text(min_size=1, max_size=30))
def test_a_usable_text_stays_usable(channel: Channel, text: str) -> None:
    if text_fault(text) is None:
        assert text_fault(channel.apply(text)) is None


@given(CHANNELS, st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=20))
def test_serving_sees_through_all_but_the_prefix(channel: Channel, word: str) -> None:
    bare = Channel(channel.casing, channel.final, channel.breaks)
    text = f"{word}\n{word} {word}."
    assert canonical(bare.apply(text)) == canonical(text)


def test_only_the_empty_channel_is_plain() -> None:
    assert Channel().is_plain
    assert not any(Channel(**{part: value}).is_plain for part, value in (("casing", "lower"), ("prefix", "> ")))


def test_every_choice_is_drawn_and_each_part_is_left_alone_half_the_time() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_channel(rng) for _ in range(4000)]
    for part, choices in (("casing", CASINGS), ("final", FINALS), ("breaks", BREAKS), ("prefix", PREFIXES)):
        values = [getattr(channel, part) for channel in drawn]
        assert set(values) == set(choices)
        assert values.count(choices[0]) / len(values) == pytest.approx(0.5, abs=0.03)


@pytest.fixture(scope="module")
def drawn_sessions(pool: Pool, topic: np.ndarray) -> tuple[np.ndarray, tuple[Channel, ...]]:
    """Kind and channel of 6,000 composed sessions."""
    composer = Composer(pool, np.arange(len(pool)), topic, Timing.default(), seed=11)
    composition = composer.mixed(6000, ComposeSettings(min_exchanges=4, max_exchanges=8))
    assert len(composition) == 6000
    return composition.kind, composition.channel


@pytest.mark.parametrize("part", ["casing", "final", "breaks", "prefix"])
def test_the_channel_is_independent_of_label_and_kind(
    drawn_sessions: tuple[np.ndarray, tuple[Channel, ...]], part: str
) -> None:
    kinds, channels = drawn_sessions
    _, values = np.unique([getattr(channel, part) for channel in channels], return_inverse=True)
    for sides in (kinds == "harvest", kinds):
        _, codes = np.unique(sides, return_inverse=True)
        counts = np.zeros((codes.max() + 1, values.max() + 1))
        np.add.at(counts, (codes, values), 1)
        assert chi2_contingency(counts).pvalue > 0.001


def test_the_parts_of_a_channel_are_independent_of_each_other(
    drawn_sessions: tuple[np.ndarray, tuple[Channel, ...]],
) -> None:
    _, channels = drawn_sessions
    counts = np.zeros((len(CASINGS), len(FINALS)))
    for channel in channels:
        counts[CASINGS.index(channel.casing), FINALS.index(channel.final)] += 1
    assert chi2_contingency(counts).pvalue > 0.001
