"""Training the prompt scorer: gradients by differences, toy sets that can be learned, and what a refit may change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from serve.embedding.encoders import Encoded
from serve.features import prompt_training as module
from serve.features.prompt_scorer import HEADS, N_BUCKETS, N_LENGTHS, PromptInputs, PromptScorer
from serve.features.prompt_training import (
    HARVEST,
    ORGANIC,
    PERSON,
    PRODUCT,
    DenseExamples,
    Examples,
    TrainingSettings,
    retrain,
    train,
)

N_DIMS = 12
QUICK = TrainingSettings(n_columns=6, n_hidden=12, n_passes=25, n_batch=64, rate=1e-2)
STILL = replace(QUICK, n_passes=1, rate=0.0, table_rate=0.0)


def prompts(
    kind: int, *, n: int = 200, of_tokens: bool = True, of_vectors: bool = True, leans_to: int | None = None,
    seed: int = 0,
) -> Examples:  # fmt: skip
    """Prompts of one topic: half of their tokens are the topic's own, and their vectors lean its way, if they do, and
    to another's, if there is one."""
    topic = kind if kind >= 0 else len(HEADS)
    rng = np.random.default_rng([seed, topic])
    own, common = 1000 + 100 * topic + rng.integers(0, 20, (n, 4)), rng.integers(0, 50, (n, 4))
    tokens = np.concatenate([own if of_tokens else rng.integers(0, 50, (n, 4)), common], axis=1).astype(np.int32)
    vectors = rng.integers(-40, 41, (n, N_DIMS))
    if of_vectors:
        vectors[:, topic] += 80
    if leans_to is not None:
        vectors[:, leans_to] += 80
    encoded = Encoded(vectors.astype(np.int8), tokens.ravel(), np.arange(n + 1) * 8)
    return Examples(PromptInputs.of(encoded), np.full(n, kind), np.ones(n))


def joined(*parts: Examples) -> Examples:
    return Examples(
        PromptInputs.joined([part.inputs for part in parts]), np.concatenate([part.kind for part in parts]),
        np.concatenate([part.weight for part in parts]),
    )  # fmt: skip


def dense_joined(*parts: DenseExamples) -> DenseExamples:
    names = ("dense", "length", "kind", "weight")
    return DenseExamples(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def three_kinds(**wanted: bool | int) -> Examples:
    return joined(*(prompts(kind, **wanted) for kind in (HARVEST, PERSON, PRODUCT)))  # type: ignore[arg-type]


def hits(scorer: PromptScorer, examples: Examples) -> float:
    """Share of prompts whose highest head is theirs."""
    return float((scorer.of(examples.inputs).argmax(axis=1) == examples.kind).mean())


def same(one: PromptScorer, other: PromptScorer) -> bool:
    arrays = other.arrays()
    return all(np.array_equal(array, arrays[name]) for name, array in one.arrays().items())


@pytest.fixture(scope="module")
def trained() -> PromptScorer:
    return train(three_kinds(), QUICK, seed=0)


@pytest.mark.parametrize("of_tokens", [True, False])
def test_what_tokens_or_vectors_alone_tell_is_learned_and_holds_for_new_prompts(of_tokens: bool) -> None:
    scorer = train(three_kinds(of_tokens=of_tokens, of_vectors=not of_tokens), QUICK, seed=0)
    fresh = three_kinds(of_tokens=of_tokens, of_vectors=not of_tokens, seed=1)
    assert hits(scorer, fresh) > 0.95
    other = three_kinds(of_tokens=not of_tokens, of_vectors=of_tokens, seed=1)
    assert hits(scorer, other) < 0.5


def test_log_odds_are_positive_for_the_own_head_alone(trained: PromptScorer) -> None:
    fresh = three_kinds(seed=1)
    scores = trained.of(fresh.inputs)
    own = np.eye(len(HEADS), dtype=bool)[fresh.kind]
    assert np.median(scores[own]) > 3.0
    assert np.median(scores[~own]) < -3.0


def test_labels_that_mean_nothing_are_not_told_apart() -> None:
    examples = three_kinds(n=400)
    shuffled = replace(examples, kind=np.random.default_rng(0).permutation(examples.kind))
    fresh = three_kinds(seed=1)
    assert hits(train(shuffled, replace(QUICK, n_passes=3), seed=0), fresh) == pytest.approx(1 / 3, abs=0.2)


def test_where_nothing_tells_kinds_apart_scores_are_the_log_odds_of_their_weights() -> None:
    share, kind = np.array([0.6, 0.3, 0.1]), np.arange(300) % 3
    alike = prompts(PERSON).inputs.rows(np.zeros(len(kind), np.int64))
    settings = replace(QUICK, sequence_dropout=0.0, hidden_dropout=0.0)
    scorer = train(Examples(alike, kind, share[kind]), settings, seed=0)
    assert scorer.of(alike.rows(np.array([0])))[0] == pytest.approx(np.log(share / (1.0 - share)), abs=0.1)


def test_the_same_seed_trains_the_same_network_and_another_another(trained: PromptScorer) -> None:
    assert same(train(three_kinds(), QUICK, seed=0), trained)
    assert not same(train(three_kinds(), QUICK, seed=1), trained)


def test_prompts_without_weight_have_no_say() -> None:
    noise = prompts(PERSON, seed=5)
    poisoned = [
        joined(three_kinds(), replace(noise, kind=np.full(len(noise.kind), kind), weight=np.zeros(len(noise.kind))))
        for kind in (HARVEST, PRODUCT)
    ]
    first, second = (train(examples, replace(QUICK, n_passes=3), seed=0) for examples in poisoned)
    assert same(first, second)


def test_dropping_everything_but_a_little_still_learns() -> None:
    settings = replace(QUICK, sequence_dropout=0.6, hidden_dropout=0.5, n_passes=40)
    assert hits(train(three_kinds(), settings, seed=0), three_kinds(seed=1)) > 0.95


@given(
    st.lists(st.tuples(*[st.floats(-6, 6)] * len(HEADS)), min_size=1, max_size=5), st.sampled_from([ORGANIC, *range(3)])
)
def test_the_slope_is_that_of_the_log_loss(rows: list[tuple[float, ...]], kind: int) -> None:
    """A prompt that is only known as organic has the loss of its person's and product's probabilities together."""
    logits = np.array(rows)

    def loss(logits: NDArray[np.float64]) -> float:
        share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        own = share[:, 1:].sum(axis=1) if kind == ORGANIC else share[:, kind]
        return float(-np.log(own).mean())

    slope = module._slope(logits.astype(np.float32), np.full(len(logits), kind))
    for place in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[place] = 1e-4
        assert slope[place] == pytest.approx((loss(logits + step) - loss(logits - step)) / 2e-4, abs=1e-4)


def network(n_inputs: int, seed: int = 0) -> module._Network:
    """A network of random weights in every layer."""
    rng = np.random.default_rng(seed)
    found = module._Network.drawn(n_inputs, replace(QUICK, n_hidden=5), rng)
    found.length[:] = rng.normal(size=found.length.shape)
    found.intercepts[:] = rng.normal(size=len(HEADS))
    return found


def float_logits(
    found: module._Network, dense: NDArray[np.floating], length: NDArray[np.int64]
) -> NDArray[np.floating]:
    hidden = np.maximum(dense @ found.hidden.astype(np.float64) + found.length[length], 0.0)
    return np.asarray(hidden @ found.output.astype(np.float64) + found.intercepts)


def mean_loss(
    found: module._Network, dense: NDArray[np.floating], length: NDArray[np.int64], kind: NDArray[np.int64]
) -> float:
    logits = float_logits(found, dense, length)
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return float(-np.log(share[np.arange(len(kind)), kind]).mean())


def batch(n: int, n_inputs: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(1)
    dense = rng.normal(size=(n, n_inputs)).astype(np.float32)
    return dense, rng.integers(0, N_LENGTHS, n), rng.integers(0, len(HEADS), n)


def test_a_step_gives_the_gradient_of_its_inputs_by_differences() -> None:
    found, (dense, length, kind) = network(7), batch(6, 7)
    still = replace(QUICK, hidden_dropout=0.0, decay=0.0)
    slope = found.step(dense, length, kind, 0.0, still, np.random.default_rng(0))
    for place in np.ndindex(dense.shape):
        step = np.zeros(dense.shape)
        step[place] = 1e-4
        difference = mean_loss(found, dense + step, length, kind) - mean_loss(found, dense - step, length, kind)
        assert slope[place] == pytest.approx(difference / 2e-4, abs=1e-4)


@pytest.mark.parametrize("name", ["hidden", "length", "output", "intercepts"])
def test_a_first_step_moves_each_weight_by_the_rate_against_its_slope(name: str) -> None:
    """Adam's first step is the rate times the slope's sign, so signs are checked against differences."""
    before, found, (dense, length, kind) = network(7), network(7), batch(40, 7)
    plain = replace(QUICK, hidden_dropout=0.0, decay=0.0)
    found.step(dense, length, kind, 1e-3, plain, np.random.default_rng(0))
    moved = getattr(found, name) - getattr(before, name)
    weights = getattr(before, name)
    for place in np.ndindex(weights.shape):
        old = weights[place]
        losses = []
        for step in (1e-2, -1e-2):
            weights[place] = old + step
            losses.append(mean_loss(before, dense, length, kind))
        weights[place] = old
        slope = (losses[0] - losses[1]) / 2e-2
        if abs(slope) > 1e-3:
            assert moved[place] == pytest.approx(-1e-3 * np.sign(slope), rel=0.01)


def test_integers_score_as_the_floats_that_they_stand_for() -> None:
    found, rng = network(7), np.random.default_rng(2)
    dense, length = rng.integers(-127, 128, (500, 7)).astype(np.int8), rng.integers(0, N_LENGTHS, 500)
    scorer = module._with_layers(np.zeros((N_BUCKETS, 2), np.int8), 1.0, found)
    logits = float_logits(found, dense * np.float64(4.0 / 254.0), length)
    others = [np.logaddexp(logits[:, (head + 1) % 3], logits[:, (head + 2) % 3]) for head in range(3)]
    assert scorer.of_dense(dense, length) == pytest.approx(logits - np.stack(others, axis=1), abs=0.1)


def test_a_trained_network_scores_in_integers_as_it_did_in_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[NDArray[np.float32], module._Network]] = []
    quantised = module._quantised

    def spy(table: NDArray[np.float32], found: module._Network, inputs: PromptInputs) -> PromptScorer:
        layers = (found.hidden.copy(), found.length.copy(), found.output.copy(), found.intercepts.copy())
        seen.append((table.copy(), module._Network(*layers)))
        return quantised(table, found, inputs)

    monkeypatch.setattr(module, "_quantised", spy)
    scorer = train(three_kinds(), QUICK, seed=0)
    table, floats = seen[0]
    inputs = three_kinds(seed=1).inputs
    sums = (inputs.sequences @ table) * inputs.shrinkage
    logits = float_logits(floats, np.concatenate([sums, inputs.vectors * (4.0 / 254.0)], axis=1), inputs.length)
    expected = logits[:, 0] - np.logaddexp(logits[:, 1], logits[:, 2])
    found, inside = scorer.of(inputs)[:, 0], np.abs(expected) < 7.5
    assert inside.any()
    assert np.abs(found - expected)[inside].max() < 0.35
    assert np.abs(found - expected)[inside].mean() < 0.1


def test_a_refit_of_no_rate_changes_nothing(trained: PromptScorer) -> None:
    examples = three_kinds()
    again = retrain(trained, DenseExamples.of(examples, trained), STILL, seed=0)
    assert again.of(examples.inputs) == pytest.approx(trained.of(examples.inputs), abs=0.01)


@pytest.mark.parametrize(("kind", "leans_to"), [(ORGANIC, HARVEST), (HARVEST, PERSON)])
def test_a_refit_learns_the_provider_s_prompts_and_keeps_what_it_knew(
    trained: PromptScorer, kind: int, leans_to: int
) -> None:
    own = prompts(ORGANIC, leans_to=leans_to)  # of a topic that the scorer has never seen
    own = replace(own, kind=np.full(len(own.kind), kind))
    sample = DenseExamples.of(three_kinds(), trained)
    examples = dense_joined(sample, DenseExamples.of(own, trained))
    after = retrain(trained, examples, replace(QUICK, n_passes=15, rate=5e-3), seed=0)
    assert after.table is trained.table
    assert hits(after, three_kinds(seed=1)) > 0.95
    fresh = prompts(ORGANIC, leans_to=leans_to, seed=1).inputs
    shares = [((scorer.of(fresh)[:, HARVEST] > 0) == (kind == HARVEST)).mean() for scorer in (trained, after)]
    assert shares[0] < 0.25
    assert shares[1] > 0.95


def test_organic_prompts_lean_to_neither_person_nor_product(trained: PromptScorer) -> None:
    """Learned as organic, a person's prompts remain a person's and a product's a product's."""
    examples = DenseExamples.of(three_kinds(), trained)
    vague = replace(examples, kind=np.where(examples.kind == HARVEST, HARVEST, ORGANIC))
    after = retrain(trained, vague, replace(QUICK, n_passes=10, rate=2e-3), seed=0)
    assert hits(after, three_kinds(seed=1)) > 0.95


def test_the_same_refit_is_the_same_to_the_last_bit(trained: PromptScorer) -> None:
    examples = DenseExamples.of(three_kinds(), trained)
    first, second, other = (retrain(trained, examples, QUICK, seed=seed) for seed in (0, 0, 1))
    assert same(first, second)
    assert not same(first, other)


@given(st.integers(1, 400), st.integers(1, 3), st.integers(1, 90), st.integers(1, 300))
def test_steps_are_as_many_as_draws_need_and_their_rate_rises_and_falls(
    n: int, n_passes: int, n_batch: int, max_draws: int
) -> None:
    settings = replace(QUICK, n_passes=n_passes, n_batch=n_batch, max_draws=max_draws)
    weight = np.arange(n, dtype=np.float64) + (n == 1)
    steps = module._batches(weight, settings, np.random.default_rng(0))
    rows, rates = np.concatenate([rows for rows, _ in steps]), [rate for _, rate in steps]
    n_draws, n_steps = min(n, max_draws) * n_passes, len(steps)
    assert (len(rows), n_steps) == (n_draws, -(-n_draws // n_batch))
    assert (weight[rows] > 0).all()
    for index, rate in enumerate(rates):
        assert rate == pytest.approx(min(1.0, (index + 1) / (n_steps / 10)) * (1 - index / n_steps))


def test_prompts_are_drawn_in_proportion_to_their_weight() -> None:
    weight = np.tile([0.0, 1.0, 3.0], 10_000)
    steps = module._batches(weight, replace(QUICK, n_passes=4), np.random.default_rng(0))
    drawn = np.bincount(np.concatenate([rows for rows, _ in steps]) % 3)
    assert drawn[0] == 0
    assert drawn[2] / drawn[1] == pytest.approx(3.0, abs=0.1)


def test_dense_examples_are_what_the_table_makes(trained: PromptScorer) -> None:
    examples = three_kinds()
    dense = DenseExamples.of(examples, trained)
    assert np.array_equal(trained.of_dense(dense.dense, dense.length), trained.of(examples.inputs))


def arrays_of(n: int = 4) -> dict[str, NDArray[np.generic]]:
    kind = np.arange(n) % 4 - 1
    return DenseExamples(np.ones((n, 5), np.int8), np.arange(n) % N_LENGTHS, kind, np.ones(n) / 4).arrays()


@pytest.mark.parametrize("n", [0, 1, 30])
def test_arrays_make_the_same_examples_again(n: int) -> None:
    arrays = arrays_of(n)
    again = DenseExamples.of_arrays(arrays).arrays()
    assert {name: array.dtype for name, array in again.items()} == {name: array.dtype for name, array in arrays.items()}
    assert all(np.array_equal(again[name], array) for name, array in arrays.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": [0, 1, 2]}, "columns have different lengths"),
        ({"kind": [[0], [1], [2], [0]]}, "columns have different lengths"),
        ({"weight": [1.0]}, "columns have different lengths"),
        ({"length": [0, 1, 2, N_LENGTHS]}, f"a class of length is not within 0-{N_LENGTHS - 1}"),
        ({"length": [0, 1, 2, -1]}, f"a class of length is not within 0-{N_LENGTHS - 1}"),
        ({"kind": [0, 1, 2, 3]}, "a kind is none of the heads"),
        ({"kind": [0, 1, 2, -2]}, "a kind is none of the heads"),
        ({"weight": [1.0, 1.0, 1.0, -0.1]}, "a weight is not a number of 0 or more"),
        ({"weight": [1.0, 1.0, np.nan, 1.0]}, "a weight is not a number of 0 or more"),
        ({"weight": [1.0, 1.0, np.inf, 1.0]}, "a weight is not a number of 0 or more"),
    ],
)
def test_examples_that_are_out_of_range_are_refused(changes: dict[str, list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=f"^prompt sample: {message}"):
        DenseExamples.of_arrays(arrays_of() | {name: np.array(values) for name, values in changes.items()})
