"""Trial: a bundle is read and judges one session in a process of its own, before this process reads it.

Parsers in C++ trust what they read: trees or tokens made for it can end a process or hang it. What passed is noted in
the user's cache under the digest of its manifest, which covers every byte of the bundle, so it is tried once a machine.
The released bundle needs no trial: whoever can change it can change the code beside it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 600
"""Longest wait; a busy machine may need minutes for what the child's own limit of processor time allows."""
_PACKAGES: Final = ("lightgbm", "numpy", "safetensors", "tokenizers")
_JUDGE: Final = "serve.scoring.trial_verdict"
_CODE: Final = f"import runpy, sys; sys.path.insert(0, sys.argv[1]); runpy.run_module({_JUDGE!r}, run_name='__main__')"
_ROOT: Final = Path(__file__).resolve().parents[2]
_MAX_ANSWER: Final = 4_000


def is_proved(digest: str) -> bool:
    """Whether a bundle with this manifest digest passed its trial here, with these packages."""
    marker = _marker(digest)
    try:
        folder, own = marker.parent.stat(), marker.lstat()
    except OSError:
        return False
    owners = {folder.st_uid, own.st_uid}
    return owners == {os.geteuid()} and not (folder.st_mode | own.st_mode) & 0o022


def prove(folder: Path, digest: str) -> None:
    """Let a bundle judge in another process, and note that it did.

    Raises:
        ValueError: saying what was found wrong, or how the process ended.
    """
    try_out(folder)
    note(digest)


def note(digest: str) -> None:
    """Remember that a bundle with this manifest digest passed its trial; nothing where there is no place for it."""
    marker = _marker(digest)
    try:
        marker.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        marker.touch(mode=0o600)
    except OSError:
        return  # it is tried again the next time


def try_out(folder: Path) -> None:
    """Let a bundle judge in another process.

    Raises:
        ValueError: saying what was found wrong, or how the process ended.
    """
    command = (sys.executable, "-P", "-c", _CODE, str(_ROOT), str(folder))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ValueError(f"{folder}: no verdict in a trial of {TIMEOUT_S} s, expected one") from None
    if done.returncode < 0:
        raise ValueError(f"{folder}: a trial verdict ended its process with signal {-done.returncode}")
    try:
        answer = json.loads(done.stdout[-_MAX_ANSWER:])
    except ValueError:
        raise ValueError(f"{folder}: a trial verdict ended its process with code {done.returncode}") from None
    if answer != {"fault": None}:
        raise ValueError(str(answer["fault"]))


def _marker(digest: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    versions = [digest, sys.version, *(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES), _code()]
    name = hashlib.sha256("\n".join(versions).encode()).hexdigest()
    return Path(base) / "stillwatch" / "bundles" / name


def _code() -> str:
    """Digest of the checks themselves: a stricter release tries again."""
    return hashlib.sha256(
        b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    ).hexdigest()
