"""Rows of a provider's sessions: no account decides alone, and no session is scored by who learned from its account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.adaptation.benign_rows import MAX_OF_ACCOUNT, UPPER, benign_rows
from serve.adaptation.provider_rows import (
    DILUTIONS,
    CrossBundles,
    Rows,
    account_hashes,
    are_learned,
    diluted,
    harvesting_rows,
    is_first_part,
    is_learned,
    rows_of,
)
from serve.bundle.bundle import Bundle
from serve.features.session_features import feature_rows, observe
from serve.io.validation import SCHEMA
from serve.scoring.scorer import Scorer
from serve.sessions.records import Exchange, Session, Sessions
from serve.sessions.sessionizing import Timeline
from serve.sessions.size_classes import SIZE_EDGES, size_class


@pytest.fixture(scope="module")
def bundle(tiny_scorer: Scorer) -> Bundle:
    return tiny_scorer.bundle


@pytest.fixture(scope="module")
def bundles(bundle: Bundle) -> CrossBundles:
    return CrossBundles(bundle, (bundle, bundle))


def sessions_of(account: str, sizes: list[int], *, word: str = "hello") -> tuple[Session, ...]:
    return tuple(
        Session(f"{account}-{index}", account, tuple(Exchange(f"{word} {index} {turn}") for turn in range(n)))
        for index, n in enumerate(sizes)
    )


def timeline_of(sessions: tuple[Session, ...]) -> Timeline:
    own = [(session, exchange) for session in sessions for exchange in session.exchanges]
    columns = [
        [session.account_id for session, _ in own], [session.session_id for session, _ in own],
        [float("nan")] * len(own), [exchange.prompt for _, exchange in own],
    ]  # fmt: skip
    return Timeline.of(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA))


def hashes(*names: str) -> np.ndarray:
    return account_hashes(Sessions.of([Session("s", name, (Exchange("x"),)) for name in names]))


def test_no_account_gives_more_than_its_share_of_a_size_class(bundles: CrossBundles) -> None:
    busy = sessions_of("busy", [5] * 70 + [20] * 3)
    rows = benign_rows(timeline_of((*busy, *sessions_of("quiet", [5] * 4))), bundles).sessions
    whole = rows.where(rows.is_whole)
    (one,), (other,) = hashes("busy"), hashes("quiet")
    counts = Counter(zip(whole.account.tolist(), whole.n_exchanges.tolist(), strict=True))
    assert counts == {(one, 5): MAX_OF_ACCOUNT, (one, 20): 3, (other, 5): 4}


def test_beginnings_of_longer_sessions_are_rows_too_each_within_its_class(bundles: CrossBundles) -> None:
    rows = benign_rows(timeline_of(sessions_of("a", [60, 2])), bundles).sessions
    cuts = rows.where(~rows.is_whole)
    smaller = [high for high in UPPER if high < 60]
    assert len(cuts) == len(smaller)
    assert sorted(size_class(cuts.n_exchanges).tolist()) == list(range(len(smaller)))
    assert sorted(rows.n_exchanges[rows.is_whole].tolist()) == [2, 60]


def test_rows_of_a_timeline_are_those_of_its_sessions(bundle: Bundle, bundles: CrossBundles) -> None:
    own = tuple(session for name in ("a", "b", "c", "d", "e") for session in sessions_of(name, [4, 9], word=name))
    rows = benign_rows(timeline_of(own), bundles).sessions
    whole, expected = rows.where(rows.is_whole), rows_of(Sessions.of(own), bundle)
    assert sorted(map(bytes, whole.X)) == sorted(map(bytes, expected.X))
    assert (whole.dilution == 0.0).all()


@given(st.sets(st.integers(), min_size=1, max_size=40))
def test_every_account_is_scored_by_one_bundle(bundles: CrossBundles, numbers: set[int]) -> None:
    names = [f"account {number}" for number in sorted(numbers)]
    account = hashes(*names)
    masks = np.array([chosen for chosen, _ in bundles.of(account)])
    assert (masks.sum(axis=0) == 1).all()
    assert np.array_equal(masks[0], ~are_learned(names))
    assert np.array_equal(masks[1] | masks[2], is_learned(account))
    assert np.array_equal(masks[1], is_learned(account) & is_first_part(account))


@given(st.integers(2, 40), st.sampled_from(DILUTIONS), st.integers(1, 30))
def test_a_hidden_session_keeps_its_size_and_the_order_of_its_own_prompts(n: int, share: float, n_cover: int) -> None:
    own = Sessions.of([*sessions_of("h", [n, n], word="own")])
    cover = Sessions.of([*sessions_of("b", [n_cover], word="cover")])
    hidden = diluted(own, cover, share)
    n_own = max(1, round(n * (1 - share)))
    assert hidden.offsets.tolist() == own.offsets.tolist()
    assert (hidden.session_ids, hidden.account_ids) == (own.session_ids, own.account_ids)
    for index in range(2):
        start = n * index
        kept = [prompt for prompt in hidden.prompts[start : start + n] if prompt.startswith("own")]
        assert kept == list(own.prompts[start : start + n_own])
    others = [prompt for prompt in hidden.prompts if prompt.startswith("cover")]
    assert others == [cover.prompts[index % n_cover] for index in range(2 * (n - n_own))]


@pytest.fixture(scope="module")
def of_sides() -> Callable[[bool, bool], str]:
    """An account's name that is (not) learned from, and (not) of the first part."""

    def name(learned: bool, first: bool) -> str:
        names = (f"n{index}" for index in range(1000))
        return next(
            own for own in names if is_learned(hashes(own))[0] == learned and is_first_part(hashes(own))[0] == first
        )

    return name


def test_campaigns_are_hidden_in_traffic_that_no_scorer_of_theirs_saw(
    bundle: Bundle, bundles: CrossBundles, of_sides: Callable[[bool, bool], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only accounts that are learned from give cover, and of them those of the campaign account's own part."""
    seen: list[Sessions] = []

    def spy(sessions: Sessions, bundle: Bundle, **wanted: float) -> Rows:
        seen.append(sessions)
        return rows_of(sessions, bundle, **wanted)  # type: ignore[arg-type]

    monkeypatch.setattr("serve.adaptation.provider_rows.rows_of", spy)
    confirmed = [*sessions_of(of_sides(True, True), [10], word="first"), *sessions_of(of_sides(False, False), [10])]
    benign = [
        session
        for learned, first in ((True, True), (True, False), (False, True), (False, False))
        for session in sessions_of(of_sides(learned, first), [8], word=f"cover{learned:d}{first:d}")
    ]
    rows = harvesting_rows(Sessions.of(confirmed), Sessions.of(benign), bundles)
    assert rows.dilution.tolist() == [0.0, *DILUTIONS] * 2
    assert rows.n_exchanges.tolist() == [10] * 8
    for part, (own, cover) in enumerate((("first", "cover11"), ("hello", "cover10"))):
        words = {prompt.split()[0] for sessions in seen[4 * part : 4 * part + 4] for prompt in sessions.prompts}
        assert words == {own, cover}


def test_whole_accounts_are_of_all_prompts_of_those_kept_aside(bundle: Bundle, bundles: CrossBundles) -> None:
    sessions = [own for name in "abcdefgh" for own in sessions_of(name, [3, 7], word=name)]
    timeline = timeline_of(sessions)
    found = benign_rows(timeline, bundles).accounts
    aside = ~are_learned(list("abcdefgh"))
    assert found.n_exchanges.tolist() == [10] * int(aside.sum())
    own = [session for session, is_aside in zip(sessions, np.repeat(aside, 2), strict=True) if is_aside]
    prompts = observe(Sessions.of(own), bundle.encoder, bundle.capabilities, bundle.prompt_scorer)
    together = prompts.taken(np.arange(10 * aside.sum()), 10 * np.arange(aside.sum() + 1))
    expected = feature_rows(together, bundle.capabilities)
    assert sorted(map(tuple, found.X.tolist())) == sorted(map(tuple, expected.tolist()))


def test_chosen_and_joined_rows_stay_together(bundle: Bundle) -> None:
    own = Sessions.of([session for name in "abcd" for session in sessions_of(name, [3, 7], word=name)])
    rows = rows_of(own, bundle)
    chosen = np.arange(len(rows)) % 3 == 1
    again = Rows.joined([rows.where(chosen), rows.where(~chosen)])
    order = np.concatenate([np.flatnonzero(chosen), np.flatnonzero(~chosen)])
    for name in ("X", "n_exchanges", "account", "dilution", "is_whole"):
        assert np.array_equal(getattr(again, name), getattr(rows, name)[order])
    assert np.bincount(again.cells.unit, weights=again.cells.count, minlength=len(rows)).tolist() == (
        np.bincount(rows.cells.unit, weights=rows.cells.count, minlength=len(rows))[order].tolist()
    )
    assert len(UPPER) == len(SIZE_EDGES)
