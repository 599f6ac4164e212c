"""Vector index: nearest neighbours and spherical k-means by faiss, the only file that imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serve.embedding.encoders import SCALE, quantise

if TYPE_CHECKING:
    import faiss  # at run time where it is used: judging by a map of ordinary size needs none

FLAT_LIMIT = 50_000
"""Rows above which an inverted-file index takes over from the exact one (see tests/bench/bench_map.py)."""


def n_threads() -> int:
    """Threads that faiss uses, which OMP_NUM_THREADS caps."""
    import faiss

    return int(faiss.omp_get_max_threads())


def is_exact(n_rows: int) -> bool:
    """Whether an index of as many rows finds the nearest exactly."""
    return n_rows <= FLAT_LIMIT


def build_index(vectors: NDArray[np.float32]) -> faiss.Index:
    """A faiss inner-product index over these rows: exact up to `FLAT_LIMIT`, inverted file above."""
    import faiss

    n_dims = vectors.shape[1]
    index: faiss.Index = faiss.IndexFlatIP(n_dims)
    if not is_exact(len(vectors)):
        index = faiss.IndexIVFFlat(index, n_dims, int(np.sqrt(len(vectors))), faiss.METRIC_INNER_PRODUCT)
        index.train(np.ascontiguousarray(vectors))
        index.nprobe = 16
    index.add(np.ascontiguousarray(vectors))
    return index


def clustered(
    rows: NDArray[np.float32], n_clusters: int, *, n_rounds: int, n_taught: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Spherical k-means of these rows: centroids (n_clusters, n_dims) and the cluster of each row. At most `n_taught`
    rows a cluster are learned from."""
    clustering = _clustering(rows, n_clusters, n_rounds=n_rounds, n_taught=n_taught, seed=0)
    return np.asarray(clustering.centroids), np.asarray(clustering.assign(rows)[1])


def highest_products(
    rows: NDArray[np.float32], others: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k highest inner products of each row with the others and whose they are, (n_rows, k); -1 where too few."""
    import faiss

    products, ids = faiss.knn(rows, others, k, metric=faiss.METRIC_INNER_PRODUCT)
    return np.asarray(products), np.asarray(ids)


def kmeans(vectors: NDArray[np.int8], n_cells: int, *, seed: int) -> NDArray[np.int8]:
    """Spherical k-means centroids of these int8 rows, quantised like them; all distinct rows when there are few."""
    distinct = np.unique(vectors, axis=0)
    if len(distinct) <= n_cells:
        return distinct
    rows = np.ascontiguousarray(vectors.astype(np.float32) / np.float32(SCALE))
    clustering = _clustering(rows, n_cells, n_rounds=20, n_taught=512, seed=seed)
    return np.unique(quantise(np.asarray(clustering.centroids)), axis=0)


def _clustering(rows: NDArray[np.float32], n_clusters: int, *, n_rounds: int, n_taught: int, seed: int) -> faiss.Kmeans:
    import faiss

    clustering = faiss.Kmeans(
        rows.shape[1], n_clusters, niter=n_rounds, seed=seed, spherical=True, min_points_per_centroid=1,
        max_points_per_centroid=n_taught,
    )  # fmt: skip
    clustering.train(rows)
    return clustering
