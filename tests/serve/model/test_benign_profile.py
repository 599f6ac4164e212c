"""Benign profiles: a letter says where a value lies among benign sessions of like size."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from serve.capability.breadth import CoverageNull
from serve.capability.coverage import CellCounts
from serve.model.benign_profile import EDGES, LETTERS, P_EDGES, BenignProfile, p_counts
from serve.sessions.size_classes import SIZE_EDGES

N_EACH = 4000


def coverage_null() -> CoverageNull:
    none = CellCounts.of(np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
    return CoverageNull.fit(none, np.zeros(0, np.int16), 0)


def rows(seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Feature 0 grows with size, feature 1 is 0 for most."""
    rng = np.random.default_rng(seed)
    n = np.repeat(np.array(SIZE_EDGES), N_EACH)
    X = np.stack([rng.normal(size=len(n)) + n, np.maximum(rng.normal(size=len(n)) - 1.0, 0.0)], axis=1)
    return X, n


def fitted(X: NDArray[np.float64], n: NDArray[np.int64]) -> BenignProfile:
    """With p-values that are uniform."""
    p_values = (np.arange(len(X)) * 7919 % len(X) + 0.5) / len(X)
    return BenignProfile.fit(X, ("size.log_exchanges", "area.none"), p_values, n, coverage_null())


@pytest.fixture(scope="module")
def benign() -> BenignProfile:
    return fitted(*rows(0))


def test_letters_are_as_frequent_as_their_edges_say_at_every_size(benign: BenignProfile) -> None:
    X, n = rows(1)
    found = Counter(profile[0] for profile in benign.profiles(X, n))
    expected = np.diff([0.0, *EDGES, 1.0])
    assert [found[letter] / len(n) for letter in LETTERS] == pytest.approx(expected.tolist(), abs=0.006)


def test_a_value_that_most_have_is_one_letter_with_their_share(benign: BenignProfile) -> None:
    profiles = benign.profiles(np.zeros((1, 2)), np.array([50]))
    letter = LETTERS.index(profiles[0][1])
    assert benign.shares[:, 1, letter] == pytest.approx(0.84, abs=0.03)
    assert benign.shares.sum(axis=2) == pytest.approx(1.0, abs=1e-5)


def test_what_no_benign_session_had_is_the_last_letter(benign: BenignProfile) -> None:
    assert benign.profiles(np.array([[-99.0, 99.0]]), np.array([13])) == (LETTERS[0] + LETTERS[-1],)
    assert benign.profiles(np.zeros((0, 2)), np.zeros(0, np.int64)) == ()


def test_a_size_without_sessions_borrows_from_all() -> None:
    X, n = rows(2)
    few = fitted(X[n > 1], n[n > 1])
    assert few.n_sessions.tolist() == [0] + [N_EACH] * (len(SIZE_EDGES) - 1)
    assert np.isfinite(few.edges).all()


def test_what_is_stored_is_read_back_and_other_features_are_refused(benign: BenignProfile) -> None:
    again = BenignProfile.of_arrays(benign.arrays(), n_areas=0, n_features=2)
    X, n = rows(3)
    assert again.profiles(X, n) == benign.profiles(X, n)
    with pytest.raises(ValueError, match=r"benign edges have shape \(8, 2, 21\), expected \(8, 3, 21\)"):
        BenignProfile.of_arrays(benign.arrays(), n_areas=0, n_features=3)


def test_p_values_and_areas_are_kept_by_size(benign: BenignProfile) -> None:
    expected = np.diff([0.0, *P_EDGES, 1.0])
    assert benign.p_shares == pytest.approx(np.tile(expected, (len(SIZE_EDGES), 1)), abs=0.02)
    assert benign.area_mix[:, 0] == pytest.approx(0.083, abs=0.02)
    assert p_counts(np.array([0.01, 0.0100001, 1.0])).tolist() == [0, 0, 1, 1, *[0] * 9, 1]
