"""The classifier: seeded, never asked about a campaign it saw, and blind when labels mean nothing."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from serve.features.session_features import feature_names
from serve.model.refitting import ClassifierSettings
from train.corpora.pool import Pool
from train.encoders.prompt_cache import PromptCache
from train.evaluation.leakage import shuffled
from train.learning.classifier import campaign_parts, fit, margins_left_out
from train.learning.evidence import EvidenceSettings, cross_evidence, lessons
from train.learning.table import Table, table
from train.synthesis.arrival_times import Timing
from train.synthesis.compose import Composer, ComposeSettings

QUICK = ClassifierSettings(n_rounds=40, min_data_in_leaf=20, n_threads=1)


@pytest.fixture(scope="module")
def learned(pool: Pool, cache: PromptCache, topic: np.ndarray) -> Table:
    """Feature rows of 2,400 composed sessions, as a training run makes them."""
    rows = np.arange(len(pool))
    settings = EvidenceSettings(n_parts=3, n_columns=8, n_hidden=16, n_passes=20, rate=0.02)
    evidence = cross_evidence(pool, lessons(pool, rows, cache, settings), settings, seed=0)
    composer = Composer(pool, rows, topic, Timing.default(), seed=5)
    return table(composer.mixed(2400, ComposeSettings(min_exchanges=5, max_exchanges=12)), pool, cache, evidence)


@pytest.fixture(scope="module")
def names(cache: PromptCache) -> tuple[str, ...]:
    return feature_names(cache.capabilities.areas)


def auroc(learned: Table, names: tuple[str, ...]) -> float:
    left_out = margins_left_out(learned, names, QUICK, n_folds=3, seed=0)
    return float(roc_auc_score(learned.y, left_out))


def test_shuffled_labels_are_learned_by_nobody(learned: Table, names: tuple[str, ...]) -> None:
    """The label-shuffle test: with labels dealt at random, campaigns left out must come out at AUROC 0.5 ± 0.03."""
    found = [auroc(shuffled(learned, seed=seed), names) for seed in range(3)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


def test_true_labels_are_learned_even_of_campaigns_left_out(learned: Table, names: tuple[str, ...]) -> None:
    assert auroc(learned, names) > 0.9


def test_the_same_seed_grows_the_same_trees(learned: Table, names: tuple[str, ...]) -> None:
    first, second = (fit(learned, names, QUICK, seed=3) for _ in range(2))
    assert first.trees.booster.model_to_string() == second.trees.booster.model_to_string()
    assert np.array_equal(first.experts.weights, second.experts.weights)
    assert fit(learned, names, QUICK, seed=4).trees.booster.model_to_string() != first.trees.booster.model_to_string()


def test_more_evidence_of_harvest_never_lowers_a_margin(learned: Table, names: tuple[str, ...]) -> None:
    judge = fit(learned, names, QUICK, seed=0)
    raised = learned.X[:300].copy()
    columns = [index for index, name in enumerate(names) if name.startswith("evidence.harvest_")]
    assert columns
    for column in columns:
        raised[:, column] += 1.0
    gain = judge.margins(raised) - judge.margins(learned.X[:300])
    assert (gain >= -1e-9).all()
    assert (gain > 0.1).any()


def test_a_margin_left_out_is_of_a_classifier_that_never_saw_the_campaign(
    learned: Table, names: tuple[str, ...]
) -> None:
    left_out = margins_left_out(learned, names, QUICK, n_folds=3, seed=1)
    part = campaign_parts(learned.campaign, 3, 1)
    for fold in range(3):
        held = part == fold
        alone = fit(learned.where(~held), names, QUICK, seed=1)
        assert np.array_equal(left_out[held], alone.margins(learned.X[held]))


@pytest.mark.parametrize("seed", range(4))
def test_campaigns_are_dealt_whole_and_evenly(seed: int) -> None:
    campaign = np.array(["a+b", "a", "b", "c+d", "c", "e", "d+a", "b", "f", "a+c"])
    part = campaign_parts(campaign, 3, seed)
    first = [name.split("+")[0] for name in campaign]
    assert all(len(set(part[np.array(first) == name].tolist())) == 1 for name in set(first))
    assert sorted(np.bincount([part[first.index(name)] for name in "abcdef"], minlength=3).tolist()) == [2, 2, 2]


def test_weights_give_both_labels_the_same_say(learned: Table) -> None:
    assert learned.weight[learned.y == 0].sum() == pytest.approx(learned.weight[learned.y == 1].sum())
    assert learned.weight.sum() == pytest.approx(len(learned))


def test_rows_chosen_stay_together(learned: Table) -> None:
    chosen = np.arange(len(learned)) % 7 == 3
    part = learned.where(chosen)
    assert len(part) == chosen.sum()
    for name in ("X", "y", "weight", "n_exchanges", "kind", "campaign", "dilution"):
        assert np.array_equal(getattr(part, name), getattr(learned, name)[chosen])
