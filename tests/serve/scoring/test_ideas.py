"""Every feature has an idea, and every sentence says what its number is, and nothing that no session can have."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.capability.capability_map import CapabilityMap
from serve.features.session_features import feature_names, judged_names
from serve.scoring.ideas import IDEAS, idea_of
from serve.scoring.scorer import Scorer
from serve.scoring.statements import ALIKE, AMOUNT, COUNT, GAIN, NUMBER, PERCENT, POINTS, Measure, Size, statement
from serve.sessions.records import Sessions
from tests.conftest import draw_sessions

MEASURES = [measure for idea in IDEAS for measure in idea.measures]
RANGE = r"; 90 % of benign sessions of this size have (\S+)(?: %)?(?: to (\S+)(?: %)?)?\.$"
WORDS = {"two": 2, "half": 2, "five": 5, "eight": 8, "quarter": 4, "tenth": 10, "next": 2}
SIZES = st.integers(1, 300).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda placed: st.integers(0, placed).map(lambda main: Size(n, placed, main)))
)


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_every_feature_that_is_judged_by_has_one_idea(capabilities: CapabilityMap) -> None:
    for name in judged_names(feature_names(capabilities.areas)):
        owners = [idea.name for idea in IDEAS if name.startswith(idea.prefixes)]
        assert len(owners) == 1, (name, owners)


def test_every_idea_but_length_has_a_sentence_on_a_feature_of_its_own(capabilities: CapabilityMap) -> None:
    names = feature_names(capabilities.areas)
    for index, idea in enumerate(IDEAS):
        assert bool(idea.measures) == (idea.name != "length")
        for measure in idea.measures:
            assert measure.name in names
            assert idea_of(measure.name) == index


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
@given(size=SIZES, data=st.data())
def test_a_sentence_says_its_number_and_its_range(measure: Measure, size: Size, data: st.DataObject) -> None:
    base = getattr(size, measure.base)
    low, value, high = sorted(data.draw(st.floats(0, 1)) for _ in range(3))
    low, value, high = data.draw(st.permutations([low, value, high]))
    low, high = min(low, high), max(low, high)
    said = statement(measure, value, (low, high), size)
    scale = {COUNT: base, AMOUNT: base, PERCENT: 100, POINTS: 1, ALIKE: 1, GAIN: 1, NUMBER: 1}[measure.unit]
    step = {COUNT: 1.0, PERCENT: 1.0, AMOUNT: 0.1, POINTS: 0.1, NUMBER: 0.1, ALIKE: 0.01, GAIN: 0.01}[measure.unit]
    found = re.search(RANGE, said.sentence)
    assert found is not None, said.sentence
    shown_low, shown_high = number(found[1]), number(found[2] or found[1])
    template = re.escape(measure.sentence).replace(r"\{value\}", r"(?P<value>[-+\d.,]+)(?: %)?")
    match = re.match(template.replace(r"\{base\}", r"(?P<base>[\d,]+)"), said.sentence)
    assert match is not None, said.sentence
    shown = number(match["value"])
    for given_number, written in ((value, shown), (low, shown_low), (high, shown_high)):
        assert written == pytest.approx(given_number * scale, abs=step / 2 + 1e-9)
    assert shown_low <= shown_high
    assert (said.outlying > 0) == (not shown_low <= shown <= shown_high)
    if said.outlying > 0:
        assert not low <= value <= high
    if "base" in match.groupdict():
        assert number(match["base"]) == base
        assert shown <= base


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_no_sentence_names_more_prompts_than_there_are(measure: Measure) -> None:
    for word, count in WORDS.items():
        if re.search(rf"\b{word}\b", measure.sentence.lower()):
            assert measure.least >= count, measure.sentence
    few = Size(n=measure.least - 1, n_placed=measure.least - 1, n_main=measure.least - 1)
    assert not measure.fits(few)
    assert measure.fits(Size(measure.least, measure.least, measure.least))


def test_a_session_of_four_is_never_described_by_eight(tiny_scorer: Scorer) -> None:
    columns = Sessions.of(draw_sessions(80, seed=5, sizes=(1, 2, 3, 4, 5, 6, 7)))
    for verdict in tiny_scorer.judge(columns, explain_all=True):
        for reason in verdict.reasons:
            assert "ight" not in reason.sentence.split(";")[0].replace("weight", "")
            assert not re.search(r"[{}_]|nan|inf\b|–", reason.sentence)
