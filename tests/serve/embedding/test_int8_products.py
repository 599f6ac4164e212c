"""Products: what int64 arithmetic gives, and of equals the first, whatever the batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serve.embedding.int8_products import Products


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 1024), st.sampled_from([1, 2, 127]), st.booleans()
)
def test_products_and_the_nearest_are_those_of_plain_arithmetic(
    seed: int, n: int, n_dims: int, high: int, uses_floats: bool
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-high, high, (n, n_dims), np.int8, endpoint=True)
    vectors = rng.integers(-high, high, (int(rng.integers(150)), n_dims), np.int8, endpoint=True)
    plain, k = vectors.astype(np.int64) @ rows.T.astype(np.int64), int(rng.integers(1, 30))
    order = np.argsort(-plain, axis=1, kind="stable")[:, :k]
    products = Products(rows, uses_floats)
    found = products.nearest(vectors, k)
    assert (products.of(vectors) == plain).all()
    assert (found.ids == order).all()
    assert (found.products == np.take_along_axis(plain, order, axis=1)).all()


def test_the_largest_sums_that_there_can_be_are_exact_in_floats() -> None:
    lowest = np.full((40, 1024), -128, np.int8)
    almost = lowest.copy()
    almost[:, 0] = 127
    for rows in (lowest, almost, -almost):
        plain = lowest.astype(np.int64) @ rows.T.astype(np.int64)
        assert (Products(rows, uses_floats=True).of(lowest) == plain).all()


def test_all_rows_alike_are_found_in_their_order() -> None:
    found = Products(np.ones((700, 8), np.int8)).nearest(np.ones((2, 8), np.int8), 16)
    assert found.ids.tolist() == [list(range(16))] * 2
    assert (found.products == 8).all()


def test_vectors_that_lie_apart_in_memory_are_read_right() -> None:
    wide = np.random.default_rng(0).integers(-127, 128, (300, 64), np.int8)
    assert (Products(wide[::3, ::2]).of(wide[1::2, 1::2]) == wide[1::2, 1::2].astype(int) @ wide[::3, ::2].T).all()


def test_many_threads_find_what_one_finds() -> None:
    rng = np.random.default_rng(1)
    products, vectors = (
        Products(rng.integers(-127, 128, (2000, 64), np.int8)),
        rng.integers(-127, 128, (300, 64), np.int8),
    )
    alone = products.nearest(vectors, 16).ids
    with ThreadPoolExecutor(4) as pool:
        assert all((found.ids == alone).all() for found in pool.map(lambda _: products.nearest(vectors, 16), range(12)))
