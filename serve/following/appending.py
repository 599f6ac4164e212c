"""Appending: bytes that are written to the end of a file once, though the process that writes them may end half-way."""

from __future__ import annotations

import os
from pathlib import Path


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where it isn't there."""
    return path.stat().st_size if path.exists() else 0


def append_once(path: Path, n_before: int, data: bytes) -> None:
    """Append to a file that had `n_before` bytes; what was written of it before is written again, the same.

    A file that was taken away since is begun anew.

    Raises:
        ValueError: when somebody else has written to the file, or cut it.
    """
    size = size_of(path)
    if size < n_before and data.startswith(path.read_bytes() if size else b""):
        n_before = 0
    if not n_before <= size <= n_before + len(data):
        raise ValueError(f"{path} has {size} bytes, but {n_before} were written to it: only a follower may write there")
    with path.open("r+b" if path.exists() else "wb") as file:
        file.seek(n_before)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
