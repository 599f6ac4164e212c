"""Partitions: exchanges of any order and amount, laid down on disk so that each account can be read back as a whole.

Accounts are ranged by hash. A spill file holds runs; a run holds one Arrow record batch for every partition, so that
reading one partition touches nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.io.validation import SCHEMA
from serve.sessions.sampling import account_hashes, in_sample

_RUN_BYTES = 64 << 20


class Spill:
    """A spill file being written; `n_kept` counts its rows by partition, `n_left_out` those outside the sample."""

    def __init__(self, path: Path, *, n_partitions: int, sample: float = 1.0) -> None:
        """Write to `path`, keeping the accounts whose hash falls in a share `sample` of all."""
        self.n_kept = np.zeros(n_partitions, dtype=np.int64)
        self.n_left_out = 0
        self._n_partitions = n_partitions
        self._sample = sample
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        self._writer = pa.ipc.new_file(str(path), SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.flush()
        self._writer.close()

    def add(self, table: pa.Table) -> None:
        """Take these rows in."""
        self._waiting.append(table)
        self._waiting_bytes += table.nbytes
        if self._waiting_bytes > _RUN_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was taken in."""
        if not self._waiting_bytes:
            return
        table = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting, self._waiting_bytes = [], 0
        hashes = account_hashes(table.column("account_id"))
        rows = np.flatnonzero(in_sample(hashes, self._sample))
        self.n_left_out += len(hashes) - len(rows)
        partition = partition_of(hashes[rows], self._n_partitions)
        table = table.take(pa.array(rows[np.argsort(partition, kind="stable")])).combine_chunks()
        counts = np.bincount(partition, minlength=self._n_partitions)
        self.n_kept += counts
        bounds = np.concatenate([[0], np.cumsum(counts)]).tolist()
        for start, stop in itertools.pairwise(bounds):
            self._writer.write_batch(_one_batch(table.slice(start, stop - start)))


def read_partition(paths: Sequence[Path], partition: int, n_partitions: int) -> pa.Table:
    """All rows of a partition in the order they were added, mapped from these spill files."""
    batches = []
    for path in paths:
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        batches += [file.get_batch(index) for index in range(partition, file.num_record_batches, n_partitions)]
    return pa.Table.from_batches(batches, schema=SCHEMA)


def partition_of(hashes: NDArray[np.uint64], n_partitions: int) -> NDArray[np.int64]:
    """Partition of each account hash; partitions are ranges, so going through them in order is in order of hash."""
    return ((hashes >> np.uint64(32)) * np.uint64(n_partitions) >> np.uint64(32)).astype(np.int64)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=SCHEMA)
