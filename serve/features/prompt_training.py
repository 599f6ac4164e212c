"""Training the prompt scorer: one hidden layer and a table of hashed token sequences, by gradient steps on log loss.

The whole network is trained with the corpora (`train`); a provider's own prompts train the hidden and the output layer
again (`adapt`), beside a stored sample of what the table and the encoder made of training prompts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serve.features.prompt_scorer import (
    HEADS,
    MAX_LENGTH_WEIGHT,
    N_BUCKETS,
    N_LENGTHS,
    PromptInputs,
    PromptScorer,
)

if TYPE_CHECKING:
    import scipy.sparse  # at run time where it is used: this file is read to judge, too

HARVEST, PERSON, PRODUCT = range(len(HEADS))
ORGANIC = -1
"""A kind that says only that a prompt is not of a campaign: a person's or a product's."""

_UNIT = 4.0 / 254.0  # what one step of an int8 vector is to the network
_FIRST_SQUARE = 1e-3
_MAX_OUTPUT = 32_767


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Size of the network, passes over as many draws as there are prompts (`max_draws` at most), and steps.

    `sequence_dropout` and `hidden_dropout` are shares left out of each step; `rate` is of the layers (Adam; Kingma & Ba
    2015), `table_rate` of the table (Adagrad; Duchi et al. 2011). Both rise for a tenth of the steps, then fall to 0.
    """

    n_columns: int = 32
    n_hidden: int = 128
    n_passes: int = 2
    max_draws: int = 120_000
    n_batch: int = 1024
    rate: float = 2e-3
    table_rate: float = 0.1
    sequence_dropout: float = 0.1
    hidden_dropout: float = 0.2
    decay: float = 1e-5


@dataclass(frozen=True)
class Examples:
    """Prompts to learn from: inputs, `kind` (n,) one of the heads or `ORGANIC`, and `weight` (n,), the chance of each
    to be drawn up to a factor."""

    inputs: PromptInputs
    kind: NDArray[np.int64]
    weight: NDArray[np.float64]


@dataclass(frozen=True)
class DenseExamples:
    """The same after the table: `dense` (n, n_columns + n_dims), `length` (n,) class of length."""

    dense: NDArray[np.int8]
    length: NDArray[np.int64]
    kind: NDArray[np.int64]
    weight: NDArray[np.float64]

    @classmethod
    def of(cls, examples: Examples, scorer: PromptScorer) -> DenseExamples:
        """What a scorer's table makes of these examples."""
        return cls(scorer.dense(examples.inputs), examples.inputs.length, examples.kind, examples.weight)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What `of_arrays` reads."""
        return {
            "dense": self.dense, "length": self.length.astype(np.int8), "kind": self.kind.astype(np.int8),
            "weight": self.weight.astype(np.float32),
        }  # fmt: skip

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> DenseExamples:
        """Read from a bundle's arrays.

        Raises:
            ValueError: when columns have different lengths or values out of range.
        """
        dense, length, kind, weight = (np.asarray(arrays[name]) for name in ("dense", "length", "kind", "weight"))
        found = cls(dense.astype(np.int8), length.astype(np.int64), kind.astype(np.int64), weight.astype(np.float64))
        n = len(found.dense)
        if any(column.shape != (n,) for column in (found.length, found.kind, found.weight)):
            raise ValueError("prompt sample: columns have different lengths")
        if n and not (found.length.min() >= 0 and found.length.max() < N_LENGTHS):
            raise ValueError(f"prompt sample: a class of length is not within 0-{N_LENGTHS - 1}")
        if n and not (found.kind.min() >= ORGANIC and found.kind.max() < len(HEADS)):
            raise ValueError("prompt sample: a kind is none of the heads")
        if not (np.isfinite(found.weight).all() and (found.weight >= 0.0).all()):
            raise ValueError("prompt sample: a weight is not a number of 0 or more")
        return found


@dataclass
class _Network:
    """The network in floats while it learns."""

    hidden: NDArray[np.float32]
    length: NDArray[np.float32]
    output: NDArray[np.float32]
    intercepts: NDArray[np.float32]
    _moments: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = field(default_factory=dict)
    _step: int = 0

    @classmethod
    def drawn(cls, n_inputs: int, settings: TrainingSettings, rng: np.random.Generator) -> _Network:
        hidden = rng.normal(size=(n_inputs, settings.n_hidden)) * np.sqrt(2.0 / n_inputs)
        output = rng.normal(size=(settings.n_hidden, len(HEADS))) * np.sqrt(1.0 / settings.n_hidden)
        length = np.zeros((N_LENGTHS, settings.n_hidden), np.float32)
        return cls(hidden.astype(np.float32), length, output.astype(np.float32), np.zeros(len(HEADS), np.float32))

    def step(
        self, dense: NDArray[np.float32], length: NDArray[np.int64], kind: NDArray[np.int64], rate: float,
        settings: TrainingSettings, rng: np.random.Generator,
    ) -> NDArray[np.float32]:  # fmt: skip
        """One step on a batch; returns the gradient of the loss in `dense`."""
        before = dense @ self.hidden + self.length[length]
        kept = rng.random(before.shape, dtype=np.float32) >= settings.hidden_dropout
        gate = (kept & (before > 0)).astype(np.float32) / np.float32(1.0 - settings.hidden_dropout)
        after = before * gate
        slope = _slope(after @ self.output + self.intercepts, kind)
        of_hidden = (slope @ self.output.T) * gate
        of_length = np.zeros_like(self.length)
        np.add.at(of_length, length, of_hidden)
        gradients = {
            "output": after.T @ slope, "intercepts": slope.sum(axis=0), "hidden": dense.T @ of_hidden,
            "length": of_length,
        }  # fmt: skip
        of_dense = of_hidden @ self.hidden.T
        self._step += 1
        for name, gradient in gradients.items():
            self._adam(name, gradient, rate, settings.decay)
        return of_dense

    def _adam(self, name: str, gradient: NDArray[np.float32], rate: float, decay: float) -> None:
        values: NDArray[np.float32] = getattr(self, name)
        first, second = self._moments.setdefault(name, (np.zeros_like(values), np.zeros_like(values)))
        gradient = gradient + np.float32(decay) * values
        first += np.float32(0.1) * (gradient - first)
        second += np.float32(0.001) * (gradient * gradient - second)
        size = rate / (1.0 - 0.9**self._step) * np.sqrt(1.0 - 0.999**self._step)
        values -= np.float32(size) * first / (np.sqrt(second) + np.float32(1e-8))


def _slope(logits: NDArray[np.float32], kind: NDArray[np.int64]) -> NDArray[np.float32]:
    """Gradient of the mean log loss in the logits; a prompt that is only known as organic may be of either kind."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    share = shifted / shifted.sum(axis=1, keepdims=True)
    goal = np.zeros_like(share)
    known = kind != ORGANIC
    goal[np.flatnonzero(known), kind[known]] = 1.0
    open_rows = share[~known].copy()
    open_rows[:, HARVEST] = 0.0
    goal[~known] = open_rows / np.maximum(open_rows.sum(axis=1, keepdims=True), np.float32(1e-12))
    return np.asarray((share - goal) / np.float32(len(kind)), np.float32)


def train(examples: Examples, settings: TrainingSettings, *, seed: int) -> PromptScorer:
    """Train a whole scorer; the same examples, settings and seed give the same one on one machine."""
    rng = np.random.default_rng(seed)
    n_dims = examples.inputs.vectors.shape[1]
    table = (rng.normal(size=(N_BUCKETS, settings.n_columns)) * 0.05).astype(np.float32)
    squares = np.full_like(table, _FIRST_SQUARE)
    network = _Network.drawn(settings.n_columns + n_dims, settings, rng)
    for rows, rate in _batches(examples.weight, settings, rng):
        batch = examples.inputs.rows(rows)
        used, counts, shrinkage = _sparse_batch(batch, settings.sequence_dropout, rng)
        sums = (counts @ table[used]) * shrinkage
        dense = np.concatenate([sums, batch.vectors * np.float32(_UNIT)], axis=1).astype(np.float32)
        of_dense = network.step(dense, batch.length, examples.kind[rows], rate * settings.rate, settings, rng)
        gradient = np.asarray(counts.T @ (of_dense[:, : settings.n_columns] * shrinkage), np.float32)
        squares[used] += gradient * gradient
        table[used] -= np.float32(rate * settings.table_rate) * gradient / np.sqrt(squares[used])
    return _quantised(table, network, examples.inputs)


def retrain(scorer: PromptScorer, examples: DenseExamples, settings: TrainingSettings, *, seed: int) -> PromptScorer:
    """The same table with the hidden and the output layer trained on from where they are."""
    rng = np.random.default_rng(seed)
    scale = scorer.hidden_scale[:, None]
    network = _Network(
        (scorer.hidden * scale / _UNIT).T.astype(np.float32),
        (scorer.length * scorer.hidden_scale).astype(np.float32),
        (scorer.output * scorer.output_scale).astype(np.float32),
        scorer.intercepts.astype(np.float32),
    )
    for rows, rate in _batches(examples.weight, settings, rng):
        dense = examples.dense[rows] * np.float32(_UNIT)
        network.step(dense, examples.length[rows], examples.kind[rows], rate * settings.rate, settings, rng)
    return _with_layers(scorer.table, scorer.table_scale, network)


def _batches(
    weight: NDArray[np.float64], settings: TrainingSettings, rng: np.random.Generator
) -> list[tuple[NDArray[np.int64], float]]:
    """Rows of each step, drawn with replacement by weight, and the rate as a share of the highest."""
    n_draws = min(len(weight), settings.max_draws) * settings.n_passes
    chance = np.cumsum(weight / weight.sum())
    drawn = np.minimum(np.searchsorted(chance, rng.random(n_draws), side="right"), len(weight) - 1)
    parts = np.split(drawn, np.arange(settings.n_batch, n_draws, settings.n_batch))
    return [
        (rows, min(1.0, 10.0 * (index + 1) / len(parts)) * (1.0 - index / len(parts)))
        for index, rows in enumerate(parts)
    ]


def _sparse_batch(
    batch: PromptInputs, dropout: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], scipy.sparse.csr_array, NDArray[np.float32]]:
    """The table rows that a batch touches, its counts over those alone with some left out, and its shrinkage."""
    from scipy.sparse import csr_array

    sequences = batch.sequences
    used, columns = np.unique(sequences.indices, return_inverse=True)
    kept = rng.random(len(columns), dtype=np.float32) >= dropout
    values = sequences.data.astype(np.float32) * kept / np.float32(1.0 - dropout)
    shape = (len(batch), len(used))
    counts = csr_array((values, columns.astype(np.int32), sequences.indptr), shape=shape)
    return used, counts, batch.shrinkage.astype(np.float32)


def _quantised(table: NDArray[np.float32], network: _Network, inputs: PromptInputs) -> PromptScorer:
    """The network in integers; scales are chosen so that hardly anything is clipped on its own training prompts."""
    step = float(np.quantile(np.abs(table), 0.9999)) / 127.0
    rounded = np.clip(np.rint(table / step), -127, 127).astype(np.int8)
    sample = inputs.rows(np.linspace(0, len(inputs) - 1, min(len(inputs), 4000)).astype(np.int64))
    sums = (sample.sequences @ rounded.astype(np.int32)) * sample.shrinkage
    table_scale = 127.0 / max(float(np.quantile(np.abs(sums), 0.999)), 1e-9)
    # From here on the hidden layer reads every column in the unit of vectors.
    network.hidden[: table.shape[1]] *= np.float32(step / table_scale / _UNIT)
    return _with_layers(rounded, table_scale, network)


def _with_layers(table: NDArray[np.int8], table_scale: float, network: _Network) -> PromptScorer:
    """A scorer of this table and the network's layers, each hidden unit with a scale of its own."""
    weights = network.hidden.T.astype(np.float64) * _UNIT
    scale = np.maximum(np.abs(weights).max(axis=1), 1e-9) / 127.0
    output_scale = max(float(np.abs(network.output).max()), 1e-9) / _MAX_OUTPUT
    return PromptScorer(
        table, table_scale, np.rint(weights / scale[:, None]).astype(np.int8),
        np.clip(np.rint(network.length / scale), -MAX_LENGTH_WEIGHT, MAX_LENGTH_WEIGHT).astype(np.int32), scale,
        np.rint(network.output / output_scale).astype(np.int32), output_scale, network.intercepts.astype(np.float64),
    )  # fmt: skip
