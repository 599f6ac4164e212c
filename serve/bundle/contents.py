"""What a bundle's files hold, looked at before any of it is used: kinds of files, finite arrays, tables and tokens."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from serve.bundle.tree_structure import check_trees

SUFFIXES: Final = (".json", ".txt", ".safetensors", ".parquet", ".md")
"""Kinds of files that a bundle may hold: nothing that runs, nothing that is unpickled."""

ARRAYS: Final[Mapping[str, Mapping[str, str]]] = {
    "calibration.safetensors": {"logistic": "f1", "margins": "f1", "offsets": "i1"},
    "capabilities.safetensors": {
        "anchors": "i2", "anchor_skills": "i1", "cells": "i2", "cell_areas": "i1", "area_weights": "i2",
        "area_offsets": "f1",
    },
    "experts.safetensors": {
        "knots": "f2", "scores": "f2", "weights": "f2", "intercepts": "f1", "share": "f1", "interactions": "i2",
    },
    "prompt_scorer.safetensors": {
        "table": "i2", "hidden": "i2", "length": "i2", "hidden_scale": "f1", "output": "i2", "intercepts": "f1",
        "scales": "f1",
    },
    "prompt_sample.safetensors": {"dense": "i2", "length": "i1", "kind": "i1", "weight": "f1"},
    "static/model.safetensors": {"embeddings": "f2", "weights": "f1", "mapping": "i1"},
}  # fmt: skip
"""Arrays that a file may hold, each with its kind (float, int) and number of dimensions; files that aren't listed here
may hold any finite arrays."""

_MAX_JSON_BYTES: Final = 64 << 20
_MAX_ABSOLUTE: Final = 1e9
_PATTERNS: Final = (r"\s+", " ", r"\s", " {2,}")
"""Regular expressions that a tokenizer may hold: any other could take exponential time on a text made for it."""


def check_contents(folder: Path, names: Mapping[str, Any], n_features: int) -> None:
    """Refuse a file of an odd kind, arrays that aren't finite or of another shape, and a tokenizer beyond its table.

    Raises:
        ValueError: naming the file, what was found and what was expected.
    """
    for name in sorted(names):
        path = folder / name
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError(f"{path} is a link or no plain file")
        if path.suffix not in SUFFIXES:
            raise ValueError(f"{path} is none of the files that a bundle holds, expected {', '.join(SUFFIXES)}")
        if path.suffix == ".json":
            read_json(path)
        if path.suffix == ".safetensors":
            for key, array in read_arrays(folder, name).items():
                _check_array(path, key, array)
    if "static/tokenizer.json" in names:
        _check_tokenizer(folder)
    check_trees((folder / "classifier.txt").read_text(encoding="utf-8"), n_features)


class _InfiniteError(ValueError):
    """JSON with NaN or Infinity: names which."""


def read_json(path: Path) -> Any:
    """A JSON file of a bundle.

    Raises:
        ValueError: when it is too large, no JSON, too deep, or has numbers that aren't finite.
    """
    return parse_json(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """A JSON file of a bundle, not parsed.

    Raises:
        ValueError: when it is too large.
    """
    if (size := path.stat().st_size) > _MAX_JSON_BYTES:
        raise ValueError(f"{path} has {size} bytes, expected at most {_MAX_JSON_BYTES}")
    return path.read_bytes()


def parse_json(content: bytes, path: Path) -> Any:
    """What the content of the file `path` says.

    Raises:
        ValueError: when it is no JSON, too deep, or has numbers that aren't finite.
    """
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except _InfiniteError as fault:
        raise ValueError(f"{path} holds {fault}, expected finite numbers") from fault
    except (ValueError, RecursionError) as fault:
        raise ValueError(f"{path} is not JSON ({type(fault).__name__})") from fault


def read_arrays(folder: Path, name: str) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file, those of `ARRAYS` of their kind.

    Raises:
        ValueError: naming the file and the array.
    """
    path = folder / name
    try:
        arrays: dict[str, NDArray[Any]] = load_file(path)
    except (SafetensorError, KeyError, ValueError, TypeError, OverflowError) as fault:
        raise ValueError(f"{path} holds no arrays ({type(fault).__name__})") from fault
    expected = ARRAYS.get(name)
    if expected is None:
        return arrays
    for key, array in arrays.items():
        if key not in expected:
            raise ValueError(f"{path} holds an array {key[:40]!r}, expected only {', '.join(expected)}")
        kind = f"{array.dtype.kind}{array.ndim}"
        if kind != expected[key] or not array.size:
            raise ValueError(
                f"{path} holds {key} as {array.dtype} {array.shape}, expected {expected[key][1]} dimensions of "
                f"{'floats' if expected[key][0] == 'f' else 'whole numbers'}"
            )
    return arrays


def _check_array(path: Path, key: str, array: NDArray[Any]) -> None:
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{path} holds {key} as {array.dtype}, expected numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        n = int((~np.isfinite(array)).sum())
        raise ValueError(f"{path} holds {key} with {n} of {array.size} values not finite")
    if array.dtype.kind == "f" and array.size and float(np.abs(array).max()) > _MAX_ABSOLUTE:
        raise ValueError(f"{path} holds {key} up to {float(np.abs(array).max()):.3g}, expected at most 1e9 either way")


def _check_tokenizer(folder: Path) -> None:
    """Token ids lie in the table of vectors, and no pattern can hang."""
    path = folder / "static" / "tokenizer.json"
    listed = read_json(path)
    if not isinstance(listed, dict) or not isinstance(listed.get("model"), dict):
        raise ValueError(f"{path} is no tokenizer: it has no model")
    for pattern in _patterns(listed):
        if pattern not in _PATTERNS:
            raise ValueError(f"{path} holds the pattern {str(pattern)[:40]!r}, expected one of {_PATTERNS}")
    arrays = read_arrays(folder, "static/model.safetensors")
    n_tokens = len(arrays.get("mapping", arrays["embeddings"]))
    vocabulary = listed["model"].get("vocab", {})
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else range(len(vocabulary))
    ids = [*ids, *(token.get("id") for token in listed.get("added_tokens") or [])]
    for found in ids:
        if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < n_tokens:
            raise ValueError(f"{path} has the token id {str(found)[:20]}, expected 0 to {n_tokens - 1}")


def _patterns(value: object) -> Iterator[object]:
    """Every regular expression in a tokenizer."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            if "Regex" in found:
                yield found["Regex"]
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def _refuse_constant(name: str) -> float:
    raise _InfiniteError(name)
