"""Heads solve the ridge regression that a dense one solves, and moments survive being stored and added to."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from serve.features.prompt_scorer import HEADS
from serve.model.ridge import Moments, solve

N, N_INPUTS = 400, 6
VOCABULARY = ("a", "b")


def drawn(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, N_INPUTS)) @ rng.normal(size=(N_INPUTS, N_INPUTS))


def moments_of(X: np.ndarray, y: np.ndarray, strength: float = 0.05) -> Moments:
    extended = np.hstack([X, np.ones((len(X), 1))])
    second = extended.T @ extended / len(X)
    goals = np.repeat((extended.T @ y / len(X))[:, None], len(HEADS), axis=1)
    return Moments(VOCABULARY, np.full(N_INPUTS, 0.25), second, goals, strength)


def coefficients(moments: Moments) -> np.ndarray:
    heads = solve(moments)
    return np.append(heads.weights[:, 0] * heads.scales[0] / moments.scales, heads.intercepts[0])


def dense(X: np.ndarray, y: np.ndarray, weight: np.ndarray, strength: float) -> np.ndarray:
    """Scikit-learn's, with the penalty as a share of the mean eigenvalue."""
    penalty = strength * (weight @ (X**2)).sum() / weight.sum() / N_INPUTS
    fitted = Ridge(alpha=penalty * weight.sum()).fit(np.vstack([X]), y, weight)
    return np.append(fitted.coef_, fitted.intercept_)


def test_heads_are_those_of_a_dense_ridge() -> None:
    X = drawn(0)
    y = np.sign(X[:, 0] + np.random.default_rng(1).normal(size=N))
    assert coefficients(moments_of(X, y)) == pytest.approx(dense(X, y, np.ones(N), 0.05), abs=1e-4)


def test_benign_prompts_mixed_in_are_further_rows_of_the_dense_ridge() -> None:
    X, own = drawn(0), drawn(2)
    y = np.sign(X[:, 0])
    share = 0.25
    extended = np.hstack([own, np.ones((N, 1))])
    mixed = moments_of(X, y).with_benign(extended.T @ extended / N, share)
    weight = np.repeat([1.0 - share, share], N)
    expected = dense(np.vstack([X, own]), np.append(y, np.full(N, -1.0)), weight, 0.05)
    assert coefficients(mixed) == pytest.approx(expected, abs=1e-4)


def test_what_is_stored_solves_to_nearly_the_same_heads() -> None:
    X = drawn(0)
    moments = moments_of(X, np.sign(X[:, 0]))
    again = Moments.of_arrays(moments.arrays(), VOCABULARY)
    assert coefficients(again) == pytest.approx(coefficients(moments), rel=0.02, abs=2e-3)


def test_an_input_that_never_occurs_has_no_weight() -> None:
    X = drawn(0)
    X[:, 3] = 0.0
    moments = moments_of(X, np.sign(X[:, 0]))
    assert coefficients(Moments.of_arrays(moments.arrays(), VOCABULARY))[3] == 0.0


def test_arrays_that_do_not_fit_are_refused() -> None:
    arrays = moments_of(drawn(0), np.ones(N)).arrays()
    with pytest.raises(ValueError, match="of 7 inputs have 27 correlations"):
        Moments.of_arrays({**arrays, "correlation": arrays["correlation"][:-1]}, VOCABULARY)
    with pytest.raises(ValueError, match="7 inputs and 5 scales"):
        Moments.of_arrays({**arrays, "scales": arrays["scales"][:-1]}, VOCABULARY)
