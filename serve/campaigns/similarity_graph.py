"""Similarity graph: which accounts, and which prompts of different accounts, are alike; never compares all pairs.

Candidates come from faiss over account sketches and over prompts, and from hash buckets of rare skeletons; communities
from Leiden (Traag, Waltman & van Eck 2019).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.sparse
from graspologic_native import leiden_csr
from numpy.typing import NDArray

from serve.campaigns.sketches import Items
from serve.capability.vector_index import FLAT_LIMIT, build_index, clustered, highest_products, n_threads
from serve.embedding.int8_products import Products

WIDTH = 0.1
"""Width of the kernel between prompts, exp((cosine - 1) / WIDTH)."""

N_PROMPTS = 48
"""Nearest prompts that are compared with each."""

N_ACCOUNTS = 15
"""Nearest accounts among which two must be of each other to be a candidate pair."""

_RIDGE = 0.1
_KEY_KERNEL = 0.3
_MAX_BUCKET = 4_000
_N_BUCKET = 6
_MIN_GROUP = 3
_N_PROBED = 16
_N_ROUNDS = 10
_N_TAUGHT = 64
_N_LEIDEN = 2
_UNITS = 10_000


def unit_rows(vectors: NDArray[np.int8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1; a zero row stays zero."""
    return _scaled(vectors.astype(np.float32))


def _scaled(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same array, its rows scaled in place: of a large population no second one fits beside it."""
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    np.divide(rows, norms[:, None], out=rows, where=norms[:, None] > 0)
    return rows


def account_vectors(items: Items, weight: NDArray[np.float64], n_accounts: int) -> NDArray[np.float32]:
    """Unit vector of each account, the weighted mean of its prompts' whitened vectors, shape (n_accounts, n_dims).

    Whitening with the covariance of all prompts leaves what is unusual about an account rather than what all ask.
    """
    rows = unit_rows(items.vector)
    rows -= rows.mean(axis=0)
    values, axes = np.linalg.eigh((rows.T @ rows / max(len(rows), 1)).astype(np.float64))
    scale = 1.0 / np.sqrt(np.maximum(values, 0.0) + _RIDGE * max(float(values.mean()), 1e-9))
    rows = _scaled(rows @ (axes * scale).astype(np.float32))
    places = (weight.astype(np.float32), (items.owner, np.arange(len(items))))
    return unit_rows(scipy.sparse.csr_array(places, shape=(n_accounts, len(items))) @ rows)


def communities(vectors: NDArray[np.float32], *, resolution: float) -> NDArray[np.int64]:
    """Community of each account, largest first, -1 for those in none of at least 3, from mutual nearest neighbours.

    `resolution` is for 2,000 accounts, and grows with their number so that communities stay as small.
    """
    links = _account_links(vectors)
    if not links.nnz:
        return np.full(len(vectors), -1, dtype=np.int64)
    _, found = leiden_csr(
        links.indptr.astype(np.int64), links.indices.astype(np.int32), links.data, len(vectors),
        resolution=resolution * max(1.0, len(vectors) / 2_000), iterations=_N_LEIDEN, seed=0,
    )  # fmt: skip
    label = np.array([found[account] for account in range(len(vectors))], dtype=np.int64)
    size = np.bincount(label, minlength=1)
    rank = np.full(len(size), -1)
    large = np.flatnonzero(size >= _MIN_GROUP)
    rank[large[np.argsort(-size[large], kind="stable")]] = np.arange(len(large))
    return rank[label]


def _account_links(vectors: NDArray[np.float32]) -> scipy.sparse.csr_array:
    """Squared cosines of mutual nearest neighbours, symmetric (n, n), columns sorted.

    They are whole multiples of one unit, so that sums of them are exact in any order and the last bits of a product,
    which differ between machines, seldom matter.
    """
    n = len(vectors)
    cosines, nearest = build_index(vectors).search(vectors, min(N_ACCOUNTS + 1, n))
    source = np.repeat(np.arange(n), nearest.shape[1])
    found = (nearest.ravel() >= 0) & (nearest.ravel() != source)
    strength = np.rint(_UNITS * np.maximum(cosines.ravel()[found], 0.0).astype(np.float64) ** 2)
    links = scipy.sparse.csr_array((strength, (source[found], nearest.ravel()[found])), shape=(n, n))
    mutual = scipy.sparse.csr_array(links.minimum(links.T))
    mutual.eliminate_zeros()
    mutual.sort_indices()
    return mutual


def nearest_rows(
    vectors: NDArray[np.int8], n_nearest: int, *, limit: int = FLAT_LIMIT
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cosines and indices (n_rows, n_nearest) of the rows with the highest inner products with each, itself among them;
    exact up to `limit` rows. Rows are an encoder's, all of about the same length.

    Above it rows are clustered, and those of a cluster are compared with it and the clusters around it as one matrix
    product, several times faster than asking for each row. A cluster is compared in parts where it is large, so
    that work grows as the number of rows to 1.5 however they lie. Where fewer are compared the index is -1.
    """
    n = len(vectors)
    lengths = np.sqrt(np.maximum(np.einsum("ij,ij->i", vectors, vectors, dtype=np.int32), 1)).astype(np.float32)
    cosines, nearest = np.zeros((n, n_nearest), np.float32), np.full((n, n_nearest), -1, np.int64)
    clusters = _Clusters.of(vectors) if n > limit else _Clusters.whole(n)

    def compare(cluster: int) -> None:
        for part, compared in clusters.comparisons(cluster):
            found = Products(vectors[compared]).nearest(vectors[part], n_nearest)
            ids = compared[found.ids]
            nearest[part, : ids.shape[1]] = ids
            cosines[part, : ids.shape[1]] = found.products / (lengths[part, None] * lengths[ids])

    with ThreadPoolExecutor(n_threads()) as threads:
        for _ in threads.map(compare, range(len(clusters.members))):
            pass
    return cosines, nearest


@dataclass(frozen=True, slots=True)
class _Clusters:
    """Rows by cluster, the clusters around each, nearest first, and how many rows are compared with one at most."""

    members: list[NDArray[np.int64]]
    around: NDArray[np.int64]
    budget: int

    @classmethod
    def whole(cls, n: int) -> Self:
        """All rows in one."""
        return cls([np.arange(n)], np.zeros((1, 1), np.int64), max(n, 1))

    @classmethod
    def of(cls, vectors: NDArray[np.int8]) -> Self:
        """About as many clusters as each has rows, by k-means."""
        n, n_clusters = len(vectors), int(np.sqrt(len(vectors)))
        centroids, cluster = clustered(unit_rows(vectors), n_clusters, n_rounds=_N_ROUNDS, n_taught=_N_TAUGHT)
        bounds = np.cumsum(np.bincount(cluster, minlength=n_clusters))[:-1]
        around = highest_products(centroids, centroids, min(_N_PROBED, n_clusters))[1]
        return cls(np.split(np.argsort(cluster, kind="stable"), bounds), around, _N_PROBED * n // n_clusters)

    def comparisons(self, cluster: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows of a cluster, all of them once, each with the rows that they are compared with."""
        own = self.members[cluster]
        others = [self.members[other] for other in self.around[cluster].tolist() if other != cluster]
        n_parts = -(-len(own) // self.budget)
        for part in (own[first::n_parts] for first in range(n_parts)):
            yield part, np.concatenate([part, *others])[: self.budget]


def prompt_kernel(items: Items) -> scipy.sparse.csr_array:
    """Closeness of each prompt to the nearest ones of other accounts, sparse (n_items, n_items), values up to 1.

    It is a kernel of the cosine, raised where prompts share a skeleton that isn't everybody's.
    """
    n = len(items)
    cosines, nearest = nearest_rows(items.vector, min(N_PROMPTS, n))
    source = np.repeat(np.arange(n, dtype=np.int32), nearest.shape[1])
    target = nearest.ravel().astype(np.int32)
    apart = (target >= 0) & (items.owner[target] != items.owner[source])
    values = np.exp((np.minimum(cosines.ravel()[apart], 1.0) - 1.0) / WIDTH).astype(np.float32)
    close = scipy.sparse.csr_array((values, (source[apart], target[apart])), shape=(n, n))
    return close.maximum(_skeleton_kernel(items))


def _skeleton_kernel(items: Items) -> scipy.sparse.csr_array:
    """`_KEY_KERNEL` for each key that a prompt shares with some prompts of other accounts in its bucket."""
    n, n_keys = items.keys.shape
    key, row = items.keys.ravel(), np.repeat(np.arange(n), n_keys)
    row, key = row[key > 0], key[key > 0]
    order = np.lexsort((items.text[row], key))
    row, key = row[order], key[order]
    begins = np.searchsorted(key, key, side="left")
    size = np.searchsorted(key, key, side="right") - begins
    position = np.arange(len(key)) - begins
    pairs = []
    for step in range(1, _N_BUCKET + 1):
        usable = np.flatnonzero((size > step) & (size <= _MAX_BUCKET))
        pairs.append((row[usable], row[begins[usable] + (position[usable] + step) % size[usable]]))
    source, target = (np.concatenate(side) for side in zip(*pairs, strict=True))
    apart = items.owner[source] != items.owner[target]
    source, target = source[apart], target[apart]
    shared = scipy.sparse.csr_array((np.full(len(source), _KEY_KERNEL, np.float32), (source, target)), shape=(n, n))
    shared.sum_duplicates()
    shared.data = np.minimum(shared.data, 1.0)
    return shared
