"""Ridge: evidence heads from second moments of prompts' inputs, which add up, so that a provider's own prompts can be
learned from beside those of training without having those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serve.features.prompt_scorer import HEADS, N_LENGTHS, Evidence, EvidenceInputs

_MAX_WEIGHT = 2**20


@dataclass(frozen=True)
class Moments:
    """What heads are solved from: `second` (n_inputs + 1, n_inputs + 1), the mean outer product of inputs times
    `scales` (n_inputs,), an intercept last; `goals` (n_inputs + 1, n_heads), their mean product with +1/-1 targets;
    and the strength of the penalty as a share of the mean eigenvalue."""

    vocabulary: tuple[str, ...]
    scales: NDArray[np.float64]
    second: NDArray[np.float64]
    goals: NDArray[np.float64]
    strength: float

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]], vocabulary: tuple[str, ...]) -> Self:
        """Read from a bundle's arrays.

        Raises:
            ValueError: when shapes don't fit.
        """
        root, goals = arrays["root"].astype(np.float64), arrays["goals"].astype(np.float64)
        n = len(root)
        if arrays["correlation"].shape != (n * (n + 1) // 2,) or goals.shape != (n, len(HEADS)):
            raise ValueError(
                f"moments of {n} inputs have {len(arrays['correlation'])} correlations and goals {goals.shape}"
            )
        if len(arrays["scales"]) != n - 1:
            raise ValueError(f"moments have {n} inputs and {len(arrays['scales'])} scales, expected one fewer")
        upper = np.zeros((n, n))
        upper[np.triu_indices(n)] = arrays["correlation"]
        second = (upper + np.triu(upper, 1).T) * np.outer(root, root)
        return cls(vocabulary, arrays["scales"], second, goals, float(arrays["strength"][0]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `of_arrays` reads: correlations in half precision, far below what the penalty smooths over."""
        root = np.sqrt(np.diag(self.second))
        inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
        correlation = (self.second * np.outer(inverse, inverse))[np.triu_indices(len(root))]
        return {
            "root": root.astype(np.float32), "correlation": correlation.astype(np.float16), "scales": self.scales,
            "goals": self.goals.astype(np.float32), "strength": np.array([self.strength]),
        }  # fmt: skip

    def with_benign(self, second: NDArray[np.float64], share: float) -> Moments:
        """These moments with those of benign prompts mixed in, which get this share of all weight."""
        goals = (1.0 - share) * self.goals - share * second[:, -1:]
        return replace(self, second=(1.0 - share) * self.second + share * second, goals=goals)


def moment(inputs: EvidenceInputs, scales: NDArray[np.float64]) -> NDArray[np.float32]:
    """Mean outer product of the scaled inputs of these prompts, an intercept last."""
    columns = [inputs.vectors, inputs.kernel, np.eye(N_LENGTHS)[inputs.length], inputs.words.toarray()]
    scaled = np.concatenate([np.asarray(c, np.float32) for c in columns], axis=1) * scales.astype(np.float32)
    extended = np.concatenate([scaled, np.ones((len(scaled), 1), np.float32)], axis=1)
    return np.asarray(extended.T @ extended / len(extended), dtype=np.float32)


def solve(moments: Moments) -> Evidence:
    """Ridge regression of the targets on the inputs (Hoerl and Kennard 1970), weights rounded to integers."""
    n_inputs = len(moments.scales)
    penalty = np.full(n_inputs + 1, moments.strength * np.trace(moments.second[:-1, :-1]) / n_inputs)
    penalty[-1] = 1e-9
    solution = np.linalg.solve(moments.second + np.diag(penalty), moments.goals)
    weights = solution[:-1] * moments.scales[:, None]
    units = np.maximum(np.abs(weights).max(axis=0), 1e-12) / _MAX_WEIGHT
    return Evidence(moments.vocabulary, np.rint(weights / units).astype(np.int32), units, solution[-1])
