"""The manifest: every file of a bundle with its size and sha256, verified before any parser sees one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from serve.bundle.contents import parse_json, read_bytes
from serve.bundle.files import (
    CALIBRATION,
    CAPABILITIES,
    CAPABILITY_VECTORS,
    CLASSIFIER,
    EXPERTS,
    FEATURES,
    FORMAT_VERSION,
    MANIFEST,
    PROMPT_SCORER,
    REFERENCE,
    SIGNATURE,
    STATIC,
    BundleError,
)
from serve.bundle.signature import check_signature

DIGEST = "manifest_sha256"
_REQUIRED = (
    CLASSIFIER, EXPERTS, CAPABILITIES, CAPABILITY_VECTORS, CALIBRATION, REFERENCE, PROMPT_SCORER, FEATURES,
)  # fmt: skip
_REQUIRED_STATIC = (f"{STATIC}/model.safetensors", f"{STATIC}/tokenizer.json")
_KEYS = ("format_version", "bundle_id", "encoder", "features", "fpr", "data", "metrics", "files", DIGEST)

_FAULTS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, SafetensorError)


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """Turn what a parser or an array raises into a `BundleError`."""
    try:
        yield
    except BundleError:
        raise
    except _FAULTS as fault:
        said = str(fault) if isinstance(fault, ValueError | SafetensorError) else f"{type(fault).__name__} ({fault})"
        raise BundleError(said if said.startswith(str(folder)) else f"{folder}: {said}") from fault


def verify(folder: Path) -> dict[str, Any]:
    """Check the signature, where one is required, the manifest, the format version and every file's size and sha256;
    parse nothing else.

    Raises:
        BundleError: saying what was found and expected.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(f"{folder} holds no {MANIFEST}, expected a bundle folder")
    with refusing(folder):
        content = read_bytes(path)
        check_signature(content, folder)
        manifest = parse_json(content, path)
    if not isinstance(manifest, dict):
        raise BundleError(f"{path} holds a {type(manifest).__name__}, expected an object")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise BundleError(f"{path} has format version {repr(version)[:20]}, this release reads {FORMAT_VERSION}")
    if missing := [key for key in _KEYS if key not in manifest]:
        raise BundleError(f"{path} has no {', '.join(missing)}")
    if (found := manifest_digest(manifest)) != manifest[DIGEST]:
        raise BundleError(f"{path} has digest {found}, expected {manifest[DIGEST]}")
    _verify_entries(path, manifest)
    _verify_files(folder, manifest)
    return manifest


def _verify_entries(path: Path, manifest: Mapping[str, Any]) -> None:
    fpr, features = manifest["fpr"], manifest["features"]
    if isinstance(fpr, bool) or not isinstance(fpr, int | float) or not 0.0 < fpr < 1.0:
        raise BundleError(f"{path} has fpr {str(fpr)[:20]}, expected a share between 0 and 1")
    if not isinstance(features, list) or not all(isinstance(name, str) for name in features):
        raise BundleError(f"{path} has features that aren't a list of names")
    for name in ("encoder", "bundle_id"):
        if not isinstance(manifest[name], str):
            raise BundleError(f"{path} has {name} of type {type(manifest[name]).__name__}, expected a text")


def _verify_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    files = manifest["files"]
    required = (*_REQUIRED, *(_REQUIRED_STATIC if manifest["encoder"] == STATIC else ()))
    if not isinstance(files, dict) or not set(required) <= set(files):
        raise BundleError(f"{folder / MANIFEST} lists not all of {', '.join(required)}")
    if strays := _names(folder) - set(files):
        raise BundleError(f"{folder} holds {sorted(strays)[0]}, which the manifest doesn't list")
    for name, listed in files.items():
        path = folder / name
        if not isinstance(listed, dict) or not {"size", "sha256"} <= set(listed):
            raise BundleError(f"{folder / MANIFEST} lists {name} without size and sha256")
        if Path(name).is_absolute() or ".." in Path(name).parts or not path.is_file():
            raise BundleError(f"{folder} holds no {name}, which the manifest lists")
        if path.stat().st_size != listed["size"]:
            raise BundleError(f"{path} has {path.stat().st_size} bytes, expected {str(listed['size'])[:20]}")
        if (found := sha256(path)) != listed["sha256"]:
            raise BundleError(f"{path} has sha256 {found}, expected {str(listed['sha256'])[:64]}")
    if (found := content_id(files)) != manifest["bundle_id"]:
        raise BundleError(f"{folder / MANIFEST} names bundle {manifest['bundle_id'][:64]}, but its files make {found}")


def write_manifest(folder: Path, entries: Mapping[str, Any]) -> str:
    """List every file of `folder` in its manifest, with `entries` beside; returns the bundle id."""
    files = {
        name: {"size": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        for name in sorted(_names(folder))
    }
    bundle_id = content_id(files)
    manifest = {"format_version": FORMAT_VERSION, "bundle_id": bundle_id, **entries, "files": files}
    manifest[DIGEST] = manifest_digest(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return bundle_id


def content_id(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Bundle id of these listed files."""
    lines = "\n".join(f"{name} {listed['sha256']}" for name, listed in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Hex digest over a manifest's entries, its own digest left out."""
    entries = {key: value for key, value in manifest.items() if key != DIGEST}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names(folder: Path) -> set[str]:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} - {
        MANIFEST,
        SIGNATURE,
    }
    return {name for name in names if not name.startswith(("__pycache__/", "__init__"))}
