"""Experts: known odds, contributions that add up, and rows that don't depend on each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.model.logistic_ensemble import LogisticEnsemble

KNOTS = np.array([[0.0, 1.0, 2.0], [10.0, 20.0, 30.0]])
SCORES = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0]])
WEIGHTS = np.array([[1.0, 0.0], [0.0, -0.5], [2.0, 1.0]])


def experts(**given: object) -> LogisticEnsemble:
    return LogisticEnsemble(
        **{"knots": KNOTS, "scores": SCORES, "weights": WEIGHTS, "intercepts": np.zeros(3), "share": 0.5} | given
    )


def test_scores_are_linear_between_knots_and_flat_beyond() -> None:
    found = experts().normal_scores(np.array([[0.5, 25.0], [-9.0, 99.0]]))
    assert found.tolist() == [[-0.5, 1.0], [-1.0, 2.0]]


def test_the_margin_is_the_log_of_the_mean_odds() -> None:
    X = np.array([[2.0, 30.0]])
    assert experts().margins(X)[0] == pytest.approx(np.log((np.exp(1.0) + np.exp(-1.0) + np.exp(4.0)) / 3.0))
    assert experts().margins(np.array([[1.0, 20.0]]))[0] == pytest.approx(0.0)


def test_contributions_of_one_expert_are_its_terms() -> None:
    one = experts(weights=WEIGHTS[2:], intercepts=np.array([0.3]))
    X, usual = np.array([[0.0, 10.0], [2.0, 30.0]]), np.array([[1.0, 20.0], [1.0, 10.0]])
    assert one.contributions(X, usual) == pytest.approx(np.array([[-2.0, -2.0], [2.0, 4.0]]))


@given(st.tuples(st.floats(-5, 5), st.floats(0, 50)), st.tuples(st.floats(-5, 5), st.floats(0, 50)))
def test_contributions_of_many_experts_add_up_from_the_usual_to_the_row(
    row: tuple[float, float], usual: tuple[float, float]
) -> None:
    X, origin = np.array([row]), np.array([usual])
    many = experts(weights=4.0 * WEIGHTS)
    assert many.contributions(X, origin).sum() == pytest.approx((many.margins(X) - many.margins(origin))[0], abs=1e-5)
    assert experts().contributions(X, X).tolist() == [[0.0, 0.0]]


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 50)), min_size=1, max_size=40))
def test_a_row_alone_has_the_same_bits_as_in_any_batch(rows: list[tuple[float, float]]) -> None:
    X = np.array(rows)
    together = experts().margins(X)
    assert [experts().margins(X[i : i + 1])[0] for i in range(len(X))] == together.tolist()
    assert LogisticEnsemble.of_arrays(experts().arrays()).margins(X).tolist() == together.tolist()


CROSSED = {
    "knots": np.array([[0.0, 1.0, 2.0], [0.0, 0.5, 1.0], [0.0, 1.0, 2.0]]),
    "scores": np.array([[-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0]]),
    "weights": np.array([[1.0, 0.5, 3.0]]), "intercepts": np.zeros(1), "interactions": np.array([[0, 1]]),
}  # fmt: skip


def test_an_interaction_is_a_feature_that_fades_as_another_rises() -> None:
    crossed = experts(**CROSSED)
    assert crossed.n_features == 2
    X = np.array([[2.0, 0.0], [2.0, 0.5], [2.0, 1.0], [2.0, 7.0]])
    assert crossed.normal_scores(X)[:, 2].tolist() == [2.0, 0.0, -2.0, -2.0]
    assert crossed.margins(X).tolist() == pytest.approx([1.0 - 0.5 + 6.0, 1.0, 1.0 + 0.5 - 6.0, 1.0 + 0.5 - 6.0])
    read = LogisticEnsemble.of_arrays(crossed.arrays())
    assert read.margins(X).tolist() == crossed.margins(X).tolist()


@given(st.tuples(st.floats(-1, 3), st.floats(-1, 2)), st.tuples(st.floats(-1, 3), st.floats(-1, 2)))
def test_what_interactions_add_is_told_of_their_first_feature(
    row: tuple[float, float], usual: tuple[float, float]
) -> None:
    crossed, X, origin = experts(**CROSSED), np.array([row]), np.array([usual])
    found = crossed.contributions(X, origin)
    moved = crossed.normal_scores(X) - crossed.normal_scores(origin)
    assert found[0] == pytest.approx([moved[0, 0] + 3.0 * moved[0, 2], 0.5 * moved[0, 1]], abs=1e-5)


@pytest.mark.parametrize("pairs", [[[0, 2]], [[-1, 0]], [[0, 1, 1]]])
def test_interactions_of_no_feature_are_refused(pairs: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="interaction"):
        experts(**CROSSED | {"interactions": np.array(pairs)})


@pytest.mark.parametrize("change", [{"intercepts": np.zeros(2)}, {"scores": SCORES[:1]}, {"weights": WEIGHTS[:, :1]}])
def test_shapes_that_do_not_fit_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="don't fit"):
        experts(**change)


def test_falling_knots_are_refused() -> None:
    with pytest.raises(ValueError, match="knots that fall"):
        experts(knots=KNOTS[:, ::-1])


def test_a_share_is_between_none_and_all() -> None:
    with pytest.raises(ValueError, match=r"share of 1\.5"):
        experts(share=1.5)
