"""State bytes: the state of a session as bytes for a store, and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from serve.features.similarity import MAX_PROMPTS
from serve.live.session_state import SessionState
from serve.live.wrapper_detection import WrapperDetector, WrapperMark

_SCALARS = (
    "session_id", "account_id", "base_id", "nth", "reading", "n", "started_at", "ended_at", "previous_at", "confidence",
    "cosine", "n_short", "n_same_opening", "n_same_text", "is_partial", "stride", "n_altered",
)  # fmt: skip
_ARRAYS = ("vectors", "evidence", "words", "placed", "cells", "openings", "texts")


class SessionStateError(ValueError):
    """A kept state that can't be read."""


def to_bytes(state: SessionState) -> bytes:
    """The state without what can be made again; `from_bytes` reads it."""
    head: dict[str, Any] = {name: getattr(state, name) for name in _SCALARS}
    head["marks"] = [[mark.n_chars, mark.digest.hex()] for mark in (state.opening.head, state.opening.tail)]
    head["recent"] = state.recent
    head["sealed"] = [sealed.hex() for sealed in state.opening.sealed]
    sizes = {"evidence": state.n_scored} | dict.fromkeys(("vectors", "words", "placed"), state.n_compared)
    arrays: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(getattr(state, name)[: sizes.get(name, state.n)]) for name in _ARRAYS
    }
    arrays["cells"] = state.cells
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
    return bytes(save_arrays(arrays))


def from_bytes(data: bytes) -> SessionState:
    """Read what `to_bytes` wrote.

    Raises:
        SessionStateError: when it can't be read.
    """
    try:
        arrays = load_arrays(data)
        head = json.loads(arrays.pop("head").tobytes())
        marks = [WrapperMark(n_chars, bytes.fromhex(digest)) for n_chars, digest in head["marks"]]
        opening = WrapperDetector(tuple(map(bytes.fromhex, head["sealed"])), *marks)
        # What states of earlier releases don't have:
        arrays.setdefault("placed", np.full((len(arrays["words"]), 2), np.nan))
        head.setdefault("n_altered", 0)
        room: dict[str, Any] = {name: array if name == "cells" else _roomy(array) for name, array in arrays.items()}
        fields: dict[str, Any] = {name: head[name] for name in _SCALARS} | room
        return SessionState(opening=opening, recent=tuple(head.get("recent", ())), **fields)
    except (SafetensorError, ValueError, KeyError, TypeError) as fault:
        raise SessionStateError(f"{len(data)} bytes that are no state of a session ({type(fault).__name__})") from fault


def copied(state: SessionState) -> SessionState:
    """A copy that shares nothing with the state."""
    return from_bytes(to_bytes(state))


def _roomy(array: NDArray[Any]) -> NDArray[Any]:
    """A writable copy with room for at least one more row."""
    n = len(array)
    size = MAX_PROMPTS if n == MAX_PROMPTS else max(4, 1 << n.bit_length())
    return np.concatenate([array, np.zeros((size - n, *array.shape[1:]), array.dtype)])
