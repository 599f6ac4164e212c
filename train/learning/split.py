"""Split: which prompts of a pool may be learned from, calibrated on and examined with, in each fold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.sessions.canonical_text import canonical
from train.corpora.pool import Pool

KNOWN, NEW, LABELLED = SETTINGS = ("known traffic", "new provider", "labelled campaign")
UNUSED, TRAIN, CALIBRATE, TEST = range(4)
_CONFIRMED_SHARE = 0.5  # of a labelled campaign's prompts, by conversation


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """Folds over campaign groups and over organic sources (as many as there are or more: leave one out; fewer keep a
    new provider's traffic mixed), and shares of people."""

    n_folds: int = 8
    n_source_folds: int = 4
    calibrate_share: float = 0.2
    test_share: float = 0.35


@dataclass(frozen=True)
class Fold:
    """Rows of the pool by side: no group of a campaign, no person and no text is on two of them.

    In the setting *known traffic* other people of the examined organic sources were learned from; for a *new provider*
    neither the campaigns nor the organic sources were; of a *labelled campaign* other conversations were learned from,
    too.
    """

    name: str
    setting: str
    held_campaigns: tuple[str, ...]
    held_sources: tuple[str, ...]
    train: NDArray[np.int64]
    calibrate: NDArray[np.int64]
    test: NDArray[np.int64]


def folds(pool: Pool, settings: SplitSettings, setting: str, *, seed: int) -> Iterator[Fold]:
    """Leave groups out in turn; starter groups are learned from in every fold and never examined.

    Raises:
        ValueError: when there are fewer than two campaign groups, or two organic ones, to leave out.
    """
    campaigns = _dealt(_groups(pool, "harvesting"), settings.n_folds, seed)
    sources = _dealt(_groups(pool, "organic"), settings.n_source_folds, seed)
    for index, held in enumerate(campaigns):
        # There may be more folds of campaigns than organic sources: those are then left out by several folds.
        held_sources = sources[index % len(sources)]
        sides = _sides(pool, held, held_sources, settings, setting, seed)
        train, calibrate, test = (np.flatnonzero(sides == side) for side in (TRAIN, CALIBRATE, TEST))
        yield Fold(f"{setting} {index}", setting, held, held_sources, train, calibrate, test)


def release_split(pool: Pool, settings: SplitSettings, *, seed: int) -> Fold:
    """Everything to learn from, but the people to calibrate on: the split behind a bundle."""
    sides = _sides(pool, (), (), settings, "release", seed)
    return Fold(
        "release", "release", (), (), np.flatnonzero(sides == TRAIN), np.flatnonzero(sides == CALIBRATE),
        np.flatnonzero(sides == TEST),
    )  # fmt: skip


def _groups(pool: Pool, label: str) -> list[str]:
    names = {s.group for s in pool.sources if s.label == label and not s.name.startswith("starter/")}
    if len(names) < 2:
        raise ValueError(f"the corpora hold {len(names)} {label} groups, expected at least 2 to leave one out")
    return sorted(names)


def _dealt(names: list[str], n_hands: int, seed: int) -> list[tuple[str, ...]]:
    shuffled = np.random.default_rng(seed).permutation(names).tolist()
    n_hands = min(n_hands, len(names))
    return [tuple(sorted(shuffled[hand::n_hands])) for hand in range(n_hands)]


def _sides(
    pool: Pool, campaigns: tuple[str, ...], sources: tuple[str, ...], settings: SplitSettings, setting: str, seed: int
) -> NDArray[np.int64]:
    labels, groups = pool.labels, pool.groups
    starter = pool.is_starter
    chance = _person_chance(pool, seed)
    sides = np.full(len(pool), TRAIN)
    organic = (labels == "organic") & ~starter if setting != "release" else labels == "organic"
    if setting == NEW:
        held = np.isin(groups, sources)
        sides[organic & ~held & (chance < settings.calibrate_share)] = CALIBRATE
        sides[organic & held] = TEST
    else:
        sides[organic & (chance < settings.calibrate_share)] = CALIBRATE
        if setting in (KNOWN, LABELLED):
            sides[organic & (chance >= 1.0 - settings.test_share)] = TEST
    sides[(labels == "evaluation") | np.isin(groups, campaigns) & np.isin(sides, (TRAIN, CALIBRATE))] = UNUSED
    learned = np.unique(groups[np.isin(sides, (TRAIN, CALIBRATE))])
    sides[(labels == "harvesting") & np.isin(groups, campaigns)] = TEST
    if setting == LABELLED:
        sides[(labels == "harvesting") & np.isin(groups, campaigns) & (chance < _CONFIRMED_SHARE)] = TRAIN
    sides[(labels == "evaluation") & ~starter & ~np.isin(groups, learned)] = TEST
    return _without_straddlers(pool, sides)


def _person_chance(pool: Pool, seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) a person, the same for all their prompts."""
    return np.random.default_rng(seed).random(int(pool.person.max(initial=0)) + 1)[pool.person]


def _without_straddlers(pool: Pool, sides: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave a text that is on several sides on one of them, chosen by its hash; elsewhere it is unused."""
    own_sides: dict[str, set[int]] = {}
    texts = [canonical(text) for text in pool.texts]
    for text, side in zip(texts, sides.tolist(), strict=True):
        if side != UNUSED:
            own_sides.setdefault(text, set()).add(side)
    keeper = {text: _choice(text, sorted(own)) for text, own in own_sides.items() if len(own) > 1}
    kept = np.array([keeper.get(text, side) == side for text, side in zip(texts, sides.tolist(), strict=True)])
    return np.where(kept, sides, UNUSED)


def _choice(text: str, sides: list[int]) -> int:
    return sides[hashlib.blake2b(text.encode(), digest_size=2).digest()[0] % len(sides)]
