"""Tokenization: texts cut at their spaces, each different piece held once; what is costly is then done once a piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Pieces:
    """Text i is `distinct[code]` for each code of `codes[offsets[i]:offsets[i + 1]]`, joined by single spaces."""

    distinct: list[str]
    codes: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """Cut texts at every single space; an empty text is one empty piece.

        Raises:
            UnicodeEncodeError: when a text holds a lone surrogate.
        """
        cut = pc.split_pattern(pa.array(texts, pa.large_string()), " ")
        encoded = cut.flatten().dictionary_encode()
        return cls(encoded.dictionary.to_pylist(), encoded.indices.to_numpy(), cut.offsets.to_numpy().astype(np.int64))

    def expanded(
        self, values: NDArray[np.int32], sizes: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """What each text's pieces hold, one after another, and the bounds of each text in that, shape (n_texts + 1,).

        Distinct piece i holds the next `sizes[i]` of `values`.
        """
        own = sizes[self.codes]
        ends = np.cumsum(own)
        shifts = (np.cumsum(sizes) - sizes)[self.codes] - (ends - own)
        bounds = np.concatenate([[0], ends])[self.offsets]
        return values[np.repeat(shifts, own) + np.arange(bounds[-1])], bounds
