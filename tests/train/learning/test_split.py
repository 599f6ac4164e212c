"""No group of a campaign, no person and no text is on two sides, in either setting, for any seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from serve.sessions.canonical_text import canonical
from train.corpora.loading import CorporaSettings, load_pool
from train.corpora.pool import Pool, PromptRow, Source
from train.learning.split import KNOWN, LABELLED, NEW, SETTINGS, Fold, SplitSettings, folds, release_split

SEEDS = (0, 1, 2)
CAMPAIGNS = {"katas", "maths", "seeds", "traces"}
CROWDS = {"forum", "chats", "helpdesk", "shop", "bot"}


def all_folds(pool: Pool, setting: str, n_folds: int = 8) -> Iterator[Fold]:
    for seed in SEEDS:
        yield from folds(pool, SplitSettings(n_folds=n_folds), setting, seed=seed)


def sides(fold: Fold) -> dict[str, np.ndarray]:
    return {"train": fold.train, "calibrate": fold.calibrate, "test": fold.test}


def shared(pool: Pool, fold: Fold, values: np.ndarray) -> set[object]:
    """Values that occur on more than one side."""
    own = [set(values[rows].tolist()) for rows in sides(fold).values()]
    return (own[0] & own[1]) | (own[0] & own[2]) | (own[1] & own[2])


def texts_of(pool: Pool) -> np.ndarray:
    return np.array([canonical(text) for text in pool.texts], dtype=object)


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_person_and_no_text_straddles(pool: Pool, setting: str) -> None:
    texts = texts_of(pool)
    assert len(set(texts.tolist())) < len(texts), "the small world should hold texts that could straddle"
    for fold in all_folds(pool, setting):
        assert shared(pool, fold, pool.person) == set()
        assert shared(pool, fold, texts) == set()
        assert sum(map(len, sides(fold).values())) == len(set(np.concatenate(list(sides(fold).values())).tolist()))


@pytest.mark.parametrize("setting", [KNOWN, NEW])
def test_a_campaign_left_out_is_learned_from_nowhere(pool: Pool, setting: str) -> None:
    for fold in all_folds(pool, setting):
        learned = set(pool.groups[np.concatenate([fold.train, fold.calibrate])].tolist())
        assert not learned & set(fold.held_campaigns)
        examined = fold.test[pool.labels[fold.test] == "harvesting"]
        assert set(pool.groups[examined].tolist()) == set(fold.held_campaigns)


def test_a_new_provider_s_traffic_was_never_seen(pool: Pool) -> None:
    for fold in all_folds(pool, "new provider"):
        learned = set(pool.groups[np.concatenate([fold.train, fold.calibrate])].tolist())
        examined = fold.test[pool.labels[fold.test] == "organic"]
        assert fold.held_sources
        assert not learned & set(fold.held_sources)
        assert set(pool.groups[examined].tolist()) == set(fold.held_sources)


def test_of_known_traffic_other_people_were_seen(pool: Pool) -> None:
    for fold in all_folds(pool, "known traffic"):
        examined = fold.test[pool.labels[fold.test] == "organic"]
        assert set(pool.groups[examined].tolist()) <= set(pool.groups[fold.train].tolist())
        assert len(set(pool.groups[examined].tolist())) >= 4


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("n_folds", [2, 3, 8])
def test_every_campaign_and_source_is_left_out_once(pool: Pool, setting: str, n_folds: int) -> None:
    made = list(folds(pool, SplitSettings(n_folds=n_folds), setting, seed=4))
    held = [name for fold in made for name in fold.held_campaigns]
    assert sorted(held) == sorted(CAMPAIGNS)
    assert {name for fold in made for name in fold.held_sources} <= CROWDS
    assert len(made) == min(n_folds, len(CAMPAIGNS))


@pytest.mark.parametrize("setting", SETTINGS)
def test_calibration_people_are_organic_and_the_starter_is_never_examined(pool: Pool, setting: str) -> None:
    starter = pool.is_starter
    for fold in all_folds(pool, setting):
        assert set(pool.labels[fold.calibrate].tolist()) == {"organic"}
        assert not starter[fold.test].any()
        assert starter[fold.train].any()
        assert not (pool.labels[np.concatenate([fold.train, fold.calibrate])] == "evaluation").any()


def test_shares_of_people_are_about_those_of_the_settings() -> None:
    rows = [PromptRow(f"text {index}", f"c{index}", 0) for index in range(4000)]
    campaigns = [(Source(name, "harvesting", "harvest", name), [PromptRow(name, "c", 0)]) for name in ("h1", "h2")]
    crowds = [
        (
            Source(name, "organic", "person", name),
            [PromptRow(f"{name} {row.text}", row.conversation, 0) for row in rows],
        )
        for name in ("a", "b")
    ]
    pool = Pool.of([*campaigns, *crowds])
    fold = next(folds(pool, SplitSettings(calibrate_share=0.2, test_share=0.35), "known traffic", seed=0))
    organic = pool.labels == "organic"
    assert organic[fold.calibrate].sum() / organic.sum() == pytest.approx(0.2, abs=0.02)
    assert organic[fold.test].sum() / organic.sum() == pytest.approx(0.35, abs=0.02)


def test_a_group_of_two_labels_never_straddles() -> None:
    def source(name: str, kind: str, group: str, label: str) -> tuple[Source, list[PromptRow]]:
        return Source(name, label, kind, group), [PromptRow(f"{name} {index}", f"c{index}", 0) for index in range(30)]

    pool = Pool.of([
        source("h1", "harvest", "g1", "harvesting"), source("h2", "harvest", "g2", "harvesting"),
        source("e1", "evaluation", "g1", "evaluation"), source("e3", "evaluation", "g3", "evaluation"),
        source("p1", "person", "g2", "organic"), source("p4", "person", "g4", "organic"),
    ])  # fmt: skip
    for setting in (KNOWN, NEW):
        for fold in folds(pool, SplitSettings(), setting, seed=0):
            learned = set(pool.groups[np.concatenate([fold.train, fold.calibrate])].tolist())
            assert not learned & set(fold.held_campaigns)
            assert not learned & set(pool.groups[fold.test[pool.labels[fold.test] == "evaluation"]].tolist())
            assert "g3" in pool.groups[fold.test]


def test_the_release_learns_from_everything_but_the_people_it_calibrates_on(pool: Pool) -> None:
    fold = release_split(pool, SplitSettings(), seed=0)
    assert shared(pool, fold, pool.person) == set()
    assert shared(pool, fold, texts_of(pool)) == set()
    assert set(pool.groups[fold.train].tolist()) >= CAMPAIGNS | CROWDS
    assert set(pool.labels[fold.calibrate].tolist()) == {"organic"}


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_same_seed_splits_alike(pool: Pool, setting: str) -> None:
    first, second = (list(folds(pool, SplitSettings(), setting, seed=9)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert all(np.array_equal(rows, sides(other)[side]) for side, rows in sides(one).items())


@pytest.mark.parametrize(("label", "kind"), [("harvesting", "harvest"), ("organic", "person")])
def test_too_few_groups_to_leave_one_out_are_refused(pool: Pool, label: str, kind: str) -> None:
    other = "person" if kind == "harvest" else "harvest"
    lone = [(Source("lone", label, kind, "lone"), [PromptRow("x", "c", 0)])]
    many = [
        (Source(name, "organic" if other == "person" else "harvesting", other, name), [PromptRow(name, "c", 0)])
        for name in "abc"
    ]
    with pytest.raises(ValueError, match=f"the corpora hold 1 {label} groups, expected at least 2 to leave one out"):
        list(folds(Pool.of(lone + many), SplitSettings(), "known traffic", seed=0))


def test_nothing_of_the_starter_corpus_straddles_in_the_released_split() -> None:
    pool = load_pool(CorporaSettings(starter_prompts=4000), seed=0)
    fold = release_split(pool, SplitSettings(), seed=0)
    assert shared(pool, fold, texts_of(pool)) == set()
    assert shared(pool, fold, pool.person) == set()
    assert len(fold.calibrate) > 100


def test_of_a_labelled_campaign_other_conversations_are_learned_from(pool: Pool) -> None:
    for fold in folds(pool, SplitSettings(), LABELLED, seed=0):
        campaign = np.isin(pool.groups, fold.held_campaigns) & (pool.labels == "harvesting")
        learned, examined = (rows[campaign[rows]] for rows in (fold.train, fold.test))
        assert len(learned) > 0 < len(examined)
        assert not set(pool.conversation[learned].tolist()) & set(pool.conversation[examined].tolist())
        assert not {pool.texts[row] for row in learned} & {pool.texts[row] for row in examined}
