"""Mixture: every account as a mixture of what communities ask, which finds a harvest hidden in cover traffic.

A probabilistic topic model (Hofmann 1999) whose topics are kernel densities over prompts: a prompt belongs to the
community whose prompts, those of other accounts only, lie densest around it. Since no account's own prompts count for
it, only what several accounts have in common is ever attributed to a community.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from serve.capability.vector_index import n_threads

MAX_COMMUNITIES = 192
_ROUNDS = (3, 3, 2)
_SMOOTHING = 0.02
_PRIOR = 0.05
_FLOOR = 5e-5
_MERGE = 0.35
_MIN_MASS = 3.0
_BLOCK = 20_000

_T = TypeVar("_T")


@dataclass(frozen=True)
class Mixture:
    """`part` (n_items, n_communities) is how much each prompt belongs to each community, `share` (n_accounts,
    n_communities) how much of all that each account sent does; rows sum to 1 and the last community is everything else.

    `gain` (n_accounts, n_communities - 1) is the log-likelihood ratio (nats) of an account's prompts with the community
    in its mixture against without it: what ties the account to the community.
    """

    part: NDArray[np.float32]
    share: NDArray[np.float32]
    gain: NDArray[np.float64]

    @classmethod
    def empty(cls) -> Self:
        """Of no accounts."""
        return cls(np.ones((0, 1), np.float32), np.ones((0, 1), np.float32), np.zeros((0, 0)))


def fit_mixture(
    kernel: scipy.sparse.csr_array, owner: NDArray[np.int64], weight: NDArray[np.float64], seeds: Seeds
) -> Mixture:
    """Fit by expectation maximisation from `seeds`, merging communities that turn out to ask the same.

    `weight` (n_items,) is how many exchanges of its account each prompt stands for, so that shares are of all that an
    account sent: by what is kept of it, which looks most like tasks, its cover traffic would be taken for tasks, too.
    """
    part = seeds.parts(owner)
    model = _Model(kernel, owner, weight)
    share = model.shares(part)
    for index, n_steps in enumerate(_ROUNDS):
        for _ in range(n_steps):
            part, share = model.step(part, share)
        if index < len(_ROUNDS) - 1:
            part = merged(part, model.affinity(part))
            share = model.shares(part)
    return Mixture(part, share, model.gain(part, share))


@dataclass(frozen=True)
class Seeds:
    """Where to begin: labellings of accounts (-1 for none), each with how much of each prompt it claims, 0-1."""

    labels: Sequence[NDArray[np.int64]]
    claims: Sequence[NDArray[np.float64]]

    def parts(self, owner: NDArray[np.int64]) -> NDArray[np.float32]:
        """A part for every prompt and community; what nobody claims is everything else's."""
        sizes = [int(label.max(initial=-1)) + 1 for label in self.labels]
        parts = np.zeros((len(owner), sum(sizes) + 1), dtype=np.float32)
        before = 0
        for label, claim, size in zip(self.labels, self.claims, sizes, strict=True):
            community = label[owner]
            rows = np.flatnonzero(community >= 0)
            parts[rows, before + community[rows]] = claim[rows]
            before += size
        parts[:, -1] = np.maximum(1.0 - parts.sum(axis=1), 1e-3)
        return parts


class _Model:
    """Kernel, owners and weights of the prompts, and the steps that need them."""

    def __init__(self, kernel: scipy.sparse.csr_array, owner: NDArray[np.int64], weight: NDArray[np.float64]) -> None:
        self._kernel, self._owner = kernel, owner
        self._reach = np.asarray(kernel.sum(axis=1), dtype=np.float32) + np.float32(1e-6)
        places = owner, np.arange(len(owner))
        self._sum = scipy.sparse.csr_array((np.ones(len(owner), np.float32), places))
        self._weighted_sum = scipy.sparse.csr_array((weight.astype(np.float32), places))

    def shares(self, part: NDArray[np.float32]) -> NDArray[np.float32]:
        counts = self._weighted_sum @ part + np.float32(_PRIOR)
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))

    def step(
        self, part: NDArray[np.float32], share: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        new = np.empty_like(part)

        def fill(rows: slice) -> None:
            joint = share[self._owner[rows]] * self.density(part, rows)
            np.divide(joint, joint.sum(axis=1, keepdims=True), out=new[rows])

        for _ in _mapped(fill, len(part)):
            pass
        return new, self.shares(new)

    def density(self, part: NDArray[np.float32], rows: slice) -> NDArray[np.float32]:
        """Density of each community at some prompts over that of all prompts, smoothed."""
        local = (self._kernel[rows] @ part) / self._reach[rows, None]
        base = part.sum(axis=0) / np.float32(len(part))
        return np.asarray(((1 - _SMOOTHING) * local + _SMOOTHING * base) / (base + np.float32(_FLOOR)), np.float32)

    def affinity(self, part: NDArray[np.float32]) -> NDArray[np.float64]:
        """How close the prompts of each two communities lie, per unit of both; a kernel two-sample statistic."""
        total = np.zeros((part.shape[1], part.shape[1]))
        for of_block in _mapped(
            lambda rows: part[rows].T @ ((self._kernel[rows] @ part) / self._reach[rows, None]), len(part)
        ):
            total += of_block
        mass = part.sum(axis=0).astype(np.float64) + 1e-6
        total /= mass[:, None] * mass[None]
        return np.asarray((total + total.T) / 2)

    def gain(self, part: NDArray[np.float32], share: NDArray[np.float32]) -> NDArray[np.float64]:
        total = np.zeros((share.shape[0], part.shape[1] - 1))

        def of_block(rows: slice) -> NDArray[np.float64]:
            own = share[self._owner[rows]]
            joint = own * self.density(part, rows)
            whole = joint.sum(axis=1, keepdims=True)
            without = np.maximum(whole - joint, 1e-9) / np.maximum(1 - own, 1e-3)
            logs = np.log(np.maximum(whole, 1e-9) / without)[:, :-1]
            return np.asarray(self._sum[:, rows] @ logs)

        for block in _mapped(of_block, len(part)):
            total += block
        return total


def merged(part: NDArray[np.float32], affinity: NDArray[np.float64]) -> NDArray[np.float32]:
    """Parts with communities joined, nearest first, while they are nearly as close to each other as to themselves.

    The last community stays alone, and takes what is left of those that have hardly any prompt.
    """
    mass = part.sum(axis=0).astype(np.float64)
    label = _joined_labels(affinity.copy(), np.append(mass[:-1], 0.0))
    names, column = np.unique(label, return_inverse=True)
    joined = np.zeros((len(part), len(names)), dtype=np.float32)
    for old, new in enumerate(column.tolist()):
        joined[:, new] += part[:, old]
    small = joined.sum(axis=0) < _MIN_MASS
    small[-1] = False
    joined[:, -1] += joined[:, small].sum(axis=1)
    return joined[:, ~small]


def _joined_labels(closeness: NDArray[np.float64], mass: NDArray[np.float64]) -> NDArray[np.int64]:
    """Average-link joining; a label is the smallest of those joined, and mass 0 is never joined."""
    label = np.arange(len(mass))
    while True:
        own = np.diag(closeness)
        ratio = closeness / np.maximum(np.sqrt(own[:, None] * own[None]), 1e-30)
        ratio[mass <= 0] = 0.0
        ratio[:, mass <= 0] = 0.0
        np.fill_diagonal(ratio, 0.0)
        first, second = sorted(divmod(int(ratio.argmax()), len(mass)))
        if ratio[first, second] < _MERGE:
            return label
        _join(closeness, mass, first, second)
        label[label == second] = first


def _join(closeness: NDArray[np.float64], mass: NDArray[np.float64], first: int, second: int) -> None:
    """Put `second` into `first`, in place."""
    one, other = mass[first], mass[second]
    whole = one + other
    row = (closeness[first] * one + closeness[second] * other) / whole
    own = closeness[first, first] * one**2 + closeness[second, second] * other**2
    own = (own + 2 * closeness[first, second] * one * other) / whole**2
    closeness[first], closeness[:, first] = row, row
    closeness[first, first] = own
    mass[first], mass[second] = whole, 0.0


def _mapped(of_block: Callable[[slice], _T], n: int) -> Iterator[_T]:
    """Results for blocks of rows in order, on as many threads as faiss uses; the sum of them is the same on any."""
    blocks = [slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
    with ThreadPoolExecutor(n_threads()) as threads:
        yield from threads.map(of_block, blocks)
