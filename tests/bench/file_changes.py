"""Changes of files at random that know the structure of what they change, for `fuzz_files.py` and a short test."""

from __future__ import annotations

import contextlib
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from serve.bundle import files
from serve.bundle import manifest as manifests
from serve.io.writers import SEAL, sealed

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1e308,
    float("nan"),
    "",
    "\ud800",
    "../x",
    [],
    {},
    [[]],
    "x" * 9999,
)

SEALED = ", sealed again"
Changer = Callable[[Path, random.Random], str]


def flip(path: Path, rng: random.Random) -> str:
    """Bits flipped, bytes cut or doubled."""
    raw = bytearray(path.read_bytes())
    kind = rng.choice(("bit", "cut", "double", "zero")) if raw else "none"
    place = rng.randrange(max(len(raw), 1))
    if kind == "bit":
        raw[place] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del raw[place:]
    elif kind == "double":
        raw[place:place] = raw[: rng.randrange(1, 4096)]
    elif kind == "zero":
        raw[place : place + 8] = bytes(8)
    path.write_bytes(raw)
    return f"{kind} of {path.name} at {place}"


def change_json(path: Path, rng: random.Random) -> str:
    """A value anywhere replaced, dropped, or its key renamed."""
    content = json.loads(path.read_text(encoding="utf-8"))
    node: Any = content
    place: list[str] = []
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return f"nothing of {path.name}"
        key = rng.choice(keys)
        place.append(str(key)[:30])
        if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.85:
            node = node[key]
            continue
        kind = rng.choice(("odd", "odd", "drop", "shift"))
        if kind == "drop":
            del node[key]
        elif kind == "shift" and isinstance(node[key], int | float):
            node[key] = node[key] * rng.choice((-1, 2, 1000))
        else:
            node[key] = rng.choice(ODD)
        break
    path.write_text(json.dumps(content), encoding="utf-8", errors="surrogatepass")
    return f"{kind} of {path.name}:{'.'.join(place)}"


def change_array(path: Path, rng: random.Random) -> str:
    """An array with odd values, of another shape or kind, renamed or left out."""
    arrays = load_file(path)
    key = rng.choice(sorted(arrays))
    array = arrays.pop(key)
    kind = rng.choice(("value", "flat", "cut", "drop", "rename", "kind", "huge"))
    if kind == "value" and array.size:
        array = array.copy()
        odd = rng.choice((np.nan, np.inf, -1e30, -1, 0, 127)) if array.dtype.kind == "f" else rng.choice((-1, 0, 127))
        array.reshape(-1)[rng.randrange(array.size)] = odd
    elif kind == "flat":
        array = array.reshape(-1)
    elif kind == "cut":
        array = array[: rng.randrange(len(array) + 1)]
    elif kind == "kind":
        array = array.astype(rng.choice((np.int8, np.int64, np.float64)))
    elif kind == "huge" and array.dtype.kind == "f":
        array = array * array.dtype.type(1e4)
    if kind != "drop":
        arrays[f"{key}x" if kind == "rename" else key] = np.ascontiguousarray(array)
    save_file(arrays, path)
    return f"{kind} of {path.name}:{key}"


def change_trees(path: Path, rng: random.Random) -> str:
    """A number or a line of the trees, with sizes put right half of the time."""
    text = path.read_text()
    found = rng.choice(list(re.finditer(r"-?\d[\d.e+-]*", text)))
    other = rng.choice(("nan", "inf", "-1", "0", "1", "7", "1e300", "99999999", "-99999999", ""))
    text = text[: found.start()] + other + text[found.end() :]
    if rng.random() < 0.5 and "end of trees" in text:
        starts = [place.start() for place in re.finditer(r"^Tree=", text, flags=re.M)] + [text.index("end of trees")]
        sizes = " ".join(str(size) for size in np.diff(starts))
        text = re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", text, count=1, flags=re.M)
    path.write_text(text)
    return f"{found.group()} to {other or 'nothing'} in {path.name}"


def seal(folder: Path) -> None:
    """Make a bundle's manifest fit what its files are now."""
    manifest = json.loads((folder / files.MANIFEST).read_text(encoding="utf-8"))
    derived = ("format_version", "bundle_id", "files", "manifest_sha256")
    manifests.write_manifest(folder, {key: value for key, value in manifest.items() if key not in derived})


def change_bundle(folder: Path, rng: random.Random) -> str:
    """One file changed, and the manifest made to fit most of the time."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice(paths)
    if rng.random() < 0.2:
        said = flip(path, rng)
    else:
        change = {".json": change_json, ".safetensors": change_array, ".txt": change_trees}.get(path.suffix, flip)
        said = change(path, rng)
    if path.name != files.MANIFEST:
        seal(folder)
        return said + SEALED
    if rng.random() < 0.8:
        with contextlib.suppress(ValueError, TypeError, AttributeError, KeyError):
            manifest = json.loads(path.read_text(encoding="utf-8"))
            manifest["manifest_sha256"] = manifests.manifest_digest(manifest)
            path.write_text(json.dumps(manifest), encoding="utf-8")
            return said + SEALED
    return said


def change_any(folder: Path, rng: random.Random) -> str:
    """One file of a folder changed, with lines of its own digest put right where there are some."""
    path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock"))
    if path.suffix != ".json" or rng.random() < 0.2:
        return flip(path, rng)
    said = change_json(path, rng)
    listed = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
    if SEAL in listed and rng.random() < 0.6:
        path.write_text(json.dumps(sealed(listed)), encoding="utf-8")
        said += SEALED
    return said
