"""The prompt scorer: how much each single prompt looks like harvest, a person or a product.

A small neural network reads a prompt's static vector, the hashed one- and two-token sequences of the tokens that the
encoder has made already, and its length. Every layer multiplies small integers, so a prompt's scores are the same to
the last bit in any batch, in any order and on any number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from serve.embedding.encoders import Encoded
from serve.embedding.int8_products import Products
from serve.embedding.row_sums import row_sums

if TYPE_CHECKING:
    import scipy.sparse  # at run time where it is used: judging needs none

HEADS = ("harvest", "person", "product")
"""What is scored; each head is high where a prompt looks like that kind."""

N_BUCKETS = 1 << 16
"""Rows of the table that hashed token sequences are looked up in."""

LENGTH_EDGES = (2, 4, 6, 9, 13, 18, 25, 35, 50, 70, 100, 128)
"""Number of tokens at which each further class of length begins."""

N_LENGTHS = len(LENGTH_EDGES) + 1
HEAD_TOKENS, TAIL_TOKENS = 96, 32
"""Tokens of a prompt that are hashed: of a longer one the first and the last."""

MOST_SEQUENCES = 2 * (HEAD_TOKENS + TAIL_TOKENS) - 1
"""Sequences that a prompt has at most: its tokens, and pairs of neighbours."""

LIMIT = 8.0
"""Scores are log-odds between minus and plus this."""

MAX_LENGTH_WEIGHT = 1 << 22
"""Largest weight of a class of length, either way: sums of the hidden layer stay exact in 32 bits."""

_GRID = 1024.0  # scores are rounded to this grid, so that no last bit of exp or log can differ
_HIDDEN_GRID = 64.0  # steps of the hidden layer's output, in units of its scale
_MULTIPLIERS = (np.int64(2_654_435_761), np.int64(1_000_003), np.int64(8_191))


@dataclass(frozen=True)
class PromptInputs:
    """What some prompts are scored from: `vectors` (n, n_dims), the hashed token sequences of each, of which prompt i
    owns `buckets[bounds[i]:bounds[i + 1]]`, and `length` (n,) the class of length."""

    vectors: NDArray[np.int8]
    buckets: NDArray[np.int32]
    bounds: NDArray[np.int64]
    length: NDArray[np.int64]

    @classmethod
    def of(cls, encoded: Encoded) -> Self:
        """Inputs from what an encoder made of the canonical texts."""
        tokens, bounds = _clipped(encoded.tokens, encoded.bounds)
        buckets, ends = _sequences(tokens, bounds)
        length = np.searchsorted(LENGTH_EDGES, np.diff(bounds), side="right")
        return cls(encoded.vectors, buckets, ends, np.asarray(length, np.int64))

    def __len__(self) -> int:
        return len(self.vectors)

    def rows(self, chosen: NDArray[Any]) -> Self:
        """The inputs of the prompts that are chosen, by mask or index."""
        index = np.arange(len(self))[chosen]
        sizes = np.diff(self.bounds)[index]
        ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        places = np.arange(ends[-1]) + np.repeat(self.bounds[:-1][index] - ends[:-1], sizes)
        return type(self)(self.vectors[index], self.buckets[places], ends, self.length[index])

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """The inputs of all parts, in order."""
        return cls(
            np.concatenate([part.vectors for part in parts]),
            np.concatenate([part.buckets for part in parts]),
            np.concatenate([[0], np.cumsum(np.concatenate([np.diff(part.bounds) for part in parts]))]).astype(np.int64),
            np.concatenate([part.length for part in parts]),
        )

    @property
    def sequences(self) -> scipy.sparse.csr_array:
        """How often each token sequence occurs in each prompt, shape (n, N_BUCKETS)."""
        from scipy.sparse import csr_array

        return csr_array(
            (np.ones(len(self.buckets), np.int32), self.buckets, self.bounds), shape=(len(self), N_BUCKETS)
        )

    @property
    def shrinkage(self) -> NDArray[np.float64]:
        """What a prompt's sum over sequences is multiplied by, (n, 1): one over the root of their number."""
        n_sequences = np.diff(self.bounds)
        return np.asarray(1.0 / np.sqrt(np.maximum(n_sequences, 1.0)))[:, None]


def _clipped(tokens: NDArray[np.int32], bounds: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The first and last tokens of each prompt, and their bounds."""
    sizes = np.diff(bounds)
    if sizes.max(initial=0) <= HEAD_TOKENS + TAIL_TOKENS:
        return tokens, bounds
    place = np.arange(len(tokens)) - np.repeat(bounds[:-1], sizes)
    kept = (place < HEAD_TOKENS) | (place >= np.repeat(sizes, sizes) - TAIL_TOKENS)
    return tokens[kept], np.concatenate([[0], np.cumsum(kept)])[bounds]


def _sequences(tokens: NDArray[np.int32], bounds: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Buckets of each prompt's tokens and pairs of neighbouring tokens, and the bounds of each prompt in them."""
    sizes = np.diff(bounds)
    pairs = np.maximum(sizes - 1, 0)
    ends = np.concatenate([[0], np.cumsum(sizes + pairs)]).astype(np.int64)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(tokens)) - bounds[owner]
    found = np.empty(int(ends[-1]), np.int32)
    wide = tokens.astype(np.int64)
    found[ends[owner] + place] = (wide * _MULTIPLIERS[0] >> 7) % N_BUCKETS
    within = owner[1:] == owner[:-1]
    mixed = wide[:-1] * _MULTIPLIERS[1] + wide[1:] * _MULTIPLIERS[2]
    mixed ^= mixed >> 15
    mixed = (mixed * _MULTIPLIERS[0] & 0x7FFF_FFFF_FFFF) >> 11
    first, place = owner[:-1][within], place[:-1][within]
    found[ends[first] + sizes[first] + place] = (mixed % N_BUCKETS)[within]
    return found, ends


@dataclass(frozen=True)
class PromptScorer:
    """A network with one hidden layer, in integers.

    `table` (N_BUCKETS, n_columns) is summed over a prompt's sequences; `table_scale` turns the sum, divided by the root
    of their number, into int8. `hidden` (n_hidden, n_columns + n_dims) and `length` (N_LENGTHS, n_hidden) make the
    hidden layer, each unit times its `hidden_scale` (n_hidden,); `output` (n_hidden, n_heads) with `output_scale` and
    `intercepts` (n_heads,) the class log-probabilities up to a constant.

    Raises:
        ValueError: when shapes don't fit each other.
    """

    table: NDArray[np.int8]
    table_scale: float
    hidden: NDArray[np.int8]
    length: NDArray[np.int32]
    hidden_scale: NDArray[np.float64]
    output: NDArray[np.int32]
    output_scale: float
    intercepts: NDArray[np.float64]
    _wide: NDArray[np.int16] = field(init=False, repr=False, compare=False)
    _products: Products = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        n_hidden, n_heads = len(self.hidden), len(HEADS)
        expected = {
            "table": (N_BUCKETS, self.table.shape[-1]), "hidden": (n_hidden, self.hidden.shape[-1]),
            "length": (N_LENGTHS, n_hidden), "hidden_scale": (n_hidden,), "output": (n_hidden, n_heads),
            "intercepts": (n_heads,),
        }  # fmt: skip
        for name, shape in expected.items():
            if (found := getattr(self, name).shape) != shape:
                raise ValueError(f"prompt scorer: {name} has shape {found}, expected {shape}")
        if np.abs(self.length.astype(np.int64)).max(initial=0) > MAX_LENGTH_WEIGHT:
            raise ValueError(f"prompt scorer: a weight of length is beyond {MAX_LENGTH_WEIGHT}, where sums overflow")
        if self.table.dtype != np.int8 or self.hidden.dtype != np.int8:
            raise ValueError(f"prompt scorer: table {self.table.dtype}, hidden {self.hidden.dtype}, expected int8")
        object.__setattr__(self, "_wide", self.table.astype(np.int16))  # holds the sum of `MOST_SEQUENCES` rows
        object.__setattr__(self, "_products", Products(self.hidden))

    @property
    def n_columns(self) -> int:
        """Columns of the table."""
        return int(self.table.shape[1])

    @property
    def n_dims(self) -> int:
        """Dimensions of the vectors that are read beside the table."""
        return int(self.hidden.shape[1]) - self.n_columns

    def dense(self, inputs: PromptInputs) -> NDArray[np.int8]:
        """The table's sums beside the vectors: what the hidden layer reads, shape (n_prompts, n_columns + n_dims).

        Raises:
            ValueError: when the vectors have another number of dimensions.
        """
        if inputs.vectors.shape[1] != self.n_dims:
            raise ValueError(f"vectors have {inputs.vectors.shape[1]} dimensions, prompt scorer reads {self.n_dims}")
        sums = row_sums(self._wide, inputs.buckets, inputs.bounds).astype(np.float64)
        scaled = np.clip(np.rint(sums * inputs.shrinkage * self.table_scale), -127, 127).astype(np.int8)
        return np.concatenate([scaled, inputs.vectors], axis=1)

    def of(self, inputs: PromptInputs) -> NDArray[np.float64]:
        """Log-odds of each head, shape (n_prompts, n_heads), within plus and minus `LIMIT`; positive speaks for it."""
        return self.of_dense(self.dense(inputs), inputs.length)

    def of_dense(self, dense: NDArray[np.int8], length: NDArray[np.int64]) -> NDArray[np.float64]:
        """`of` from what `dense` gave, and classes of length (n_prompts,)."""
        sums = self._products.of(dense) + self.length[length]
        hidden = np.rint(np.maximum(sums, 0) * (self.hidden_scale * _HIDDEN_GRID))
        logits = (hidden @ self.output.astype(np.float64)) * (self.output_scale / _HIDDEN_GRID) + self.intercepts
        return _log_odds(logits)

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read from a bundle's arrays.

        Raises:
            ValueError: when shapes don't fit.
            KeyError: when one is missing.
        """
        table_scale, output_scale = arrays["scales"].tolist()
        return cls(
            arrays["table"], table_scale, arrays["hidden"], arrays["length"], arrays["hidden_scale"], arrays["output"],
            output_scale, arrays["intercepts"],
        )  # fmt: skip

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `of_arrays` reads."""
        return {
            "table": self.table, "hidden": self.hidden, "length": self.length, "hidden_scale": self.hidden_scale,
            "output": self.output, "intercepts": self.intercepts,
            "scales": np.array([self.table_scale, self.output_scale]),
        }  # fmt: skip


def _log_odds(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds of each class against all others together, rounded to a grid."""
    first, second, third = (logits[:, head] for head in range(len(HEADS)))
    others = (np.logaddexp(second, third), np.logaddexp(first, third), np.logaddexp(first, second))
    odds = np.stack([own - rest for own, rest in zip((first, second, third), others, strict=True)], axis=1)
    return np.clip(np.rint(odds * _GRID) / _GRID, -LIMIT, LIMIT)
