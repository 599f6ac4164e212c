"""Refitting the prompt scorer: who is learned from where, and how much everyone counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from serve.adaptation import prompt_refit as module
from serve.adaptation.prompt_refit import CONFIRMED_SHARE, OWN_SHARE, OwnPrompts, own_prompts, refit_scorers
from serve.adaptation.provider_rows import CrossBundles, is_first_part, is_learned
from serve.bundle.bundle import Bundle
from serve.features.prompt_scorer import LENGTH_EDGES, PromptInputs, PromptScorer
from serve.features.prompt_training import HARVEST, ORGANIC, DenseExamples, TrainingSettings
from serve.io.validation import SCHEMA
from serve.scoring.scorer import Scorer
from serve.sessions.sessionizing import Timeline, text_hashes
from tests.conftest import WORDS

TrainedOn = Callable[..., tuple[CrossBundles, list[DenseExamples]]]
NAMES = tuple(f"n{index}" for index in range(40))
HASHES = text_hashes(pa.array(NAMES))


@pytest.fixture(scope="module")
def bundle(tiny_scorer: Scorer) -> Bundle:
    return tiny_scorer.bundle


def timeline_of(prompts: dict[str, list[str]]) -> Timeline:
    own = [(account, text) for account, texts in prompts.items() for text in texts]
    columns = [[name for name, _ in own], ["s"] * len(own), [float("nan")] * len(own), [text for _, text in own]]
    return Timeline.of(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA))


def test_prompts_are_as_the_table_makes_them_with_their_account(bundle: Bundle) -> None:
    own = own_prompts(timeline_of({"a": ["sort a list", "lemon cake recipe"], "b": ["sort a list"]}), bundle)
    inputs = PromptInputs.of(bundle.encoder.read(["sort a list", "lemon cake recipe"]))
    dense = bundle.prompt_scorer.dense(inputs)
    (a,), (b,) = text_hashes(pa.array(["a"])), text_hashes(pa.array(["b"]))
    expected = {(a, dense[0].tobytes()), (a, dense[1].tobytes()), (b, dense[0].tobytes())}
    assert {(int(who), row.tobytes()) for who, row in zip(own.account, own.dense, strict=True)} == expected
    assert len(own.length) == 3


def test_of_an_account_with_many_prompts_some_from_its_whole_life_are_read(bundle: Bundle) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, size=index // 10 + 1)) for index in range(1000)]
    own = own_prompts(timeline_of({"busy": texts, "quiet": texts[:7]}), bundle)
    counts = dict(zip(*np.unique(own.account, return_counts=True), strict=True))
    assert counts == {text_hashes(pa.array(["busy"]))[0]: 200, text_hashes(pa.array(["quiet"]))[0]: 7}
    busy = own.length[own.account == text_hashes(pa.array(["busy"]))[0]]
    assert (np.diff(busy) >= 0).all()
    assert (busy[0], busy[-1]) == (0, sum(edge <= 100 for edge in LENGTH_EDGES))


def test_each_account_counts_with_the_root_of_its_prompts() -> None:
    account = np.repeat(np.array([1, 2, 3], np.uint64), [1, 4, 9])
    own = OwnPrompts(np.zeros((14, 3), np.int8), np.zeros(14, np.int64), account)
    examples = own.examples(account != 3, ORGANIC, 6.0)
    assert examples is not None
    assert examples.weight.tolist() == pytest.approx([2.0, 1.0, 1.0, 1.0, 1.0])
    assert (examples.kind == ORGANIC).all()
    assert own.examples(account == 9, ORGANIC, 6.0) is None
    assert own.examples(account == 1, ORGANIC, 0.0) is None


@pytest.fixture
def trained_on(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> TrainedOn:
    """Refits without training; returns the bundles and what each scorer would have learned from: each account has two
    prompts, told by their class of length being the account's number (plus 100 where it is a campaign's)."""
    width = bundle.prompt_scorer.hidden.shape[1]
    number = np.repeat(np.arange(len(NAMES)), 2)
    own, confirmed = (
        OwnPrompts(np.zeros((len(number), width), np.int8), number + first, HASHES[number]) for first in (0, 100)
    )
    seen: list[tuple[PromptScorer, DenseExamples]] = []

    def learn(scorer: PromptScorer, examples: DenseExamples, settings: TrainingSettings, *, seed: int) -> PromptScorer:
        seen.append((replace(scorer), examples))
        return seen[-1][0]

    def refitted(*, is_confirmed: bool) -> tuple[CrossBundles, list[DenseExamples]]:
        seen.clear()
        given = iter((own, confirmed))
        monkeypatch.setattr(module, "own_prompts", lambda timeline, bundle: next(given))
        monkeypatch.setattr(module, "retrain", learn)
        nobody = timeline_of({"a": ["x"]})
        bundles = refit_scorers(nobody, nobody if is_confirmed else None, bundle)
        by_scorer = {id(scorer): examples for scorer, examples in seen}
        return bundles, [by_scorer[id(own.prompt_scorer)] for own in (bundles.served, *bundles.crossed)]

    return refitted


@pytest.mark.parametrize("is_confirmed", [False, True])
def test_no_scorer_learns_from_accounts_that_it_scores(
    trained_on: TrainedOn, bundle: Bundle, is_confirmed: bool
) -> None:
    learned, first, n_sample = is_learned(HASHES), is_first_part(HASHES), len(bundle.prompt_sample().kind)
    bundles, examples = trained_on(is_confirmed=is_confirmed)
    wanted = (learned, learned & ~first, learned & first)
    confirmed = (np.ones_like(first), ~first, first)
    for found, own, of_campaign in zip(examples, wanted, confirmed, strict=True):
        number, kind = found.length[n_sample:], found.kind[n_sample:]
        assert set(number[number < 100].tolist()) == set(np.flatnonzero(own).tolist())
        assert set(number[number >= 100].tolist()) == (
            set((np.flatnonzero(of_campaign) + 100).tolist()) if is_confirmed else set()
        )
        assert np.array_equal(kind, np.where(number < 100, ORGANIC, HARVEST))
    for chosen, scored_by in bundles.of(HASHES):
        place = [id(own) for own in (bundles.served, *bundles.crossed)].index(id(scored_by))
        number = examples[place].length[n_sample:]
        assert set(number[number < 100].tolist()).isdisjoint(np.flatnonzero(chosen).tolist())


@pytest.mark.parametrize("is_confirmed", [False, True])
def test_the_provider_s_prompts_have_their_share_and_both_sides_weigh_as_before(
    trained_on: TrainedOn, bundle: Bundle, is_confirmed: bool
) -> None:
    sample = bundle.prompt_sample()
    is_harvest = sample.kind == HARVEST
    before = {True: sample.weight[is_harvest].sum(), False: sample.weight[~is_harvest].sum()}
    for found in trained_on(is_confirmed=is_confirmed)[1]:
        own = np.arange(len(found.kind)) >= len(sample.kind)
        for side, share in ((False, OWN_SHARE), (True, CONFIRMED_SHARE * is_confirmed)):
            of_side = (found.kind == HARVEST) == side
            assert found.weight[of_side].sum() == pytest.approx(before[side])
            assert found.weight[of_side & own].sum() == pytest.approx(share * before[side])
    assert np.array_equal(sample.weight, bundle.prompt_sample().weight)


def test_a_refit_changes_the_scorer_alone_and_is_the_same_each_time(bundle: Bundle) -> None:
    benign = timeline_of({name: ["hello my friend", "nice weather today"] for name in NAMES})
    first, second = (refit_scorers(benign, None, bundle) for _ in range(2))
    assert first.served.prompt_scorer.table is bundle.prompt_scorer.table
    assert first.served.encoder is bundle.encoder
    for one, other in zip((first.served, *first.crossed), (second.served, *second.crossed), strict=True):
        arrays = other.prompt_scorer.arrays()
        assert all(np.array_equal(array, arrays[name]) for name, array in one.prompt_scorer.arrays().items())
    assert not np.array_equal(first.served.prompt_scorer.hidden, bundle.prompt_scorer.hidden)
