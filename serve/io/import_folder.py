"""Import folder: where logs rest as plain rows while a command reads them; it holds prompts, for its owner alone."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from serve.io.discovery import InputError, fault_text
from serve.io.importing import Reading
from serve.io.writers import locked, sha256

REJECTS = "rejects.jsonl"
_MARK, _MANIFEST = "import", "imported.json"


def make_folder(folder: Path) -> BinaryIO:
    """Make the folder, or take that of an earlier run; others may not read it, and no other job may work there until
    what is returned is closed.

    Raises:
        InputError: when something else is in the way, or the folder belongs to another user.
        ValueError: when another job is at work there.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder} is in the way: it is no folder")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as fault:
        raise InputError(f"{folder.parent}: can't be written: {fault_text(fault)}") from None
    if folder.stat().st_uid != os.geteuid():
        raise InputError(f"{folder} belongs to another user, expected a folder of one's own")
    if any(folder.iterdir()) and not (folder / _MARK).is_file():
        raise InputError(f"{folder} is in the way: it isn't a folder of imported logs")
    folder.chmod(0o700)
    return locked(folder / _MARK)


def has_import(folder: Path) -> bool:
    """Whether the folder holds all that a run imported, as far as its list says."""
    return (folder / _MANIFEST).is_file() and bool(imported_files(folder))


def imported_files(folder: Path) -> list[Path]:
    """The files of plain rows."""
    return sorted(folder.glob("imported-*.parquet"))


def write_manifest(folder: Path, identity: Mapping[str, object], readings: Sequence[Reading]) -> None:
    """List what was imported from what, with the digests of the files."""
    listed = {**identity, "readings": list(map(vars, readings)), "files": _digests(folder)}
    (folder / _MANIFEST).write_text(json.dumps(listed))


def imported_before(folder: Path, identity: Mapping[str, object]) -> tuple[Reading, ...] | None:
    """What an earlier run found in the same logs; None where it didn't finish, or its files aren't as it wrote them."""
    try:
        listed = json.loads((folder / _MANIFEST).read_text())
        if {name: listed[name] for name in identity} != json.loads(json.dumps(identity)):
            return None
        if listed["files"] != _digests(folder):
            return None
        return tuple(
            Reading(**(own | {name: Counter(own.get(name, {})) for name in ("skipped", "rejected", "notes")}))
            for own in listed["readings"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digests(folder: Path) -> dict[str, str]:
    paths = [*imported_files(folder), folder / REJECTS]
    return {path.name: sha256(path) for path in paths if path.is_file() and not path.is_symlink()}
