from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from serve.campaigns.similarity_graph import account_vectors, communities, nearest_rows, prompt_kernel, unit_rows
from serve.campaigns.sketches import Items
from serve.embedding.encoders import quantise


def items_of(vectors: NDArray[np.float64], owner: NDArray[np.int64], keys: NDArray[np.uint64] | None = None) -> Items:
    n = len(owner)
    zeros = np.zeros(n, np.int16)
    return Items(
        owner=owner, text=np.arange(n, dtype=np.uint64), count=np.ones(n, np.int64), priority=np.ones(n),
        evidence=np.zeros((n, 3), np.float32), vector=quantise(vectors), area=zeros, skill=zeros, cell=zeros,
        keys=np.zeros((n, 4), np.uint64) if keys is None else keys, at=np.full(n, np.nan),
    )  # fmt: skip


def topics(n_accounts: int, n_topics: int, *, seed: int, spread: float = 0.3) -> tuple[Items, NDArray[np.int64]]:
    """Accounts of 10 prompts each, around the topic of each account."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_topics, 32))
    topic = np.arange(n_accounts) % n_topics
    owner = np.repeat(np.arange(n_accounts), 10)
    return items_of(centres[topic[owner]] + spread * rng.normal(size=(len(owner), 32)), owner), topic


def test_unit_rows_have_length_one_and_zero_stays_zero():
    rows = unit_rows(np.array([[3, 4], [0, 0]], np.int8))
    assert np.linalg.norm(rows, axis=1).tolist() == pytest.approx([1.0, 0.0])


def test_accounts_of_one_topic_are_one_community():
    items, topic = topics(60, 4, seed=0)
    label = communities(account_vectors(items, np.ones(len(items)), 60), resolution=1.0)
    for own in range(4):
        assert len(set(label[topic == own].tolist())) == 1
    assert len(set(label.tolist())) == 4


def test_accounts_alike_to_nobody_are_in_no_community():
    rng = np.random.default_rng(1)
    items = items_of(np.eye(32)[rng.permutation(8)], np.arange(8))
    assert (communities(account_vectors(items, np.ones(8), 8), resolution=1.0) == -1).all()


def test_weight_zero_hides_a_prompt():
    items, _ = topics(4, 2, seed=2)
    weight = np.ones(len(items))
    weight[items.owner == 0] = 0.0
    vectors = account_vectors(items, weight, 4)
    assert np.linalg.norm(vectors, axis=1).tolist() == pytest.approx([0.0, 1.0, 1.0, 1.0], abs=1e-5)


def test_clusters_find_nearly_what_comparing_all_finds():
    items, _ = topics(300, 40, seed=5)
    rows = unit_rows(items.vector)
    exact, near = nearest_rows(items.vector, 10), nearest_rows(items.vector, 10, limit=100)
    same = np.mean([len(np.intersect1d(one, other)) for one, other in zip(exact[1], near[1], strict=True)]) / 10
    assert same > 0.95
    assert np.einsum("ij,ikj->ik", rows, rows[near[1]]) == pytest.approx(near[0], abs=1e-5)


def test_the_nearest_are_those_of_the_highest_products():
    rng = np.random.default_rng(6)
    vectors = np.append(quantise(rng.normal(size=(400, 32))), np.zeros((1, 32), np.int8), axis=0)
    cosines, near = nearest_rows(vectors, 7)
    products = vectors.astype(np.int64) @ vectors.astype(np.int64).T
    assert (np.take_along_axis(products, near, axis=1) == -np.sort(-products, axis=1)[:, :7]).all()
    assert (near[:400, 0] == np.arange(400)).all()
    assert cosines[:400, 0] == pytest.approx(1.0, abs=1e-6)
    assert (cosines[400] == 0.0).all()


def test_rows_that_are_all_the_same_are_compared_in_parts():
    cosines, near = nearest_rows(np.full((2_000, 1), 127, np.int8), 5, limit=100)
    assert (near >= 0).all()
    assert cosines == pytest.approx(1.0)


def test_no_prompt_is_a_neighbour_of_its_own_account():
    items, _ = topics(12, 2, seed=3)
    kernel = prompt_kernel(items).tocoo()
    assert (items.owner[kernel.row] != items.owner[kernel.col]).all()
    assert kernel.data.max() <= 1.0


def test_the_same_prompt_of_another_account_is_as_near_as_can_be():
    items = items_of(np.array([[1.0, 2.0], [1.0, 2.0], [-2.0, 1.0]]), np.array([0, 1, 2]))
    assert prompt_kernel(items)[0, 1] == pytest.approx(1.0, abs=1e-3)


def test_a_shared_skeleton_brings_far_prompts_near():
    keys = np.zeros((3, 4), np.uint64)
    keys[:2, 0] = 7
    kernel = prompt_kernel(items_of(np.eye(3), np.arange(3), keys))
    assert kernel[0, 1] == pytest.approx(0.3)
    assert kernel[0, 2] < 0.001


def test_a_skeleton_within_one_account_brings_nothing_near():
    keys = np.full((2, 4), 7, np.uint64)
    kernel = prompt_kernel(items_of(np.eye(2), np.zeros(2, np.int64), keys))
    assert kernel.nnz == 0
