"""Registry: which version of `stillwatch` is the champion, which the challenger, and the bundle behind each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.bundle.files import MANIFEST
from serve.bundle.manifest import verify
from train.tracking import mlflow_runs as tracking

MODEL = "stillwatch"
CHAMPION, CHALLENGER = "champion", "challenger"
RECORD = "promotion"
"""Tag of a version that holds the written record of its promotion."""

_FORMER = "former_champion"


@dataclass(frozen=True, slots=True)
class Version:
    """One registered version, and the version that was champion before it, if it ever took over."""

    number: str
    bundle_id: str
    run_id: str
    former: str | None


def register(bundle: Path) -> Version:
    """Make a bundle a new version: the champion where there is none yet, the challenger otherwise.

    Raises:
        BundleError: when it can't be trusted.
    """
    bundle_id = str(verify(bundle)["bundle_id"])
    number = tracking.log_model(MODEL, bundle)
    tracking.client().set_model_version_tag(MODEL, number, "bundle_id", bundle_id)
    point(CHAMPION if holder(CHAMPION) is None else CHALLENGER, number)
    return version(number)


def holder(alias: str) -> Version | None:
    """The version that has this alias."""
    models = tracking.client().search_registered_models(f"name = '{MODEL}'")
    aliases = models[0].aliases if models else {}
    return version(str(aliases[alias])) if alias in aliases else None


def version(number: str) -> Version:
    """A version by its number."""
    found = tracking.client().get_model_version(MODEL, number)
    return Version(number, found.tags["bundle_id"], str(found.run_id), found.tags.get(_FORMER))


def bundle_folder(found: Version) -> Path:
    """The folder of a version's bundle.

    Raises:
        ValueError: when the registry's files hold none.
    """
    folder = tracking.downloaded(f"models:/{MODEL}/{found.number}")
    manifests = sorted(folder.rglob(MANIFEST))
    if len(manifests) != 1:
        raise ValueError(f"version {found.number} holds {len(manifests)} bundles, expected 1")
    return manifests[0].parent


def point(alias: str, number: str) -> None:
    """Give an alias to a version."""
    tracking.client().set_registered_model_alias(MODEL, alias, number)


def make_champion(challenger: Version, record: Mapping[str, Any]) -> None:
    """Make the challenger champion, remembering whom it followed, and write the record of why."""
    former = holder(CHAMPION)
    registry = tracking.client()
    if former is not None:
        registry.set_model_version_tag(MODEL, challenger.number, _FORMER, former.number)
    write_record(challenger, record)
    point(CHAMPION, challenger.number)
    registry.delete_registered_model_alias(MODEL, CHALLENGER)


def roll_back() -> Version:
    """Give the championship back to the version that had it before; returns that version.

    Raises:
        ValueError: when there is no champion, or it followed none.
    """
    current = holder(CHAMPION)
    if current is None or current.former is None:
        raise ValueError("there is no former champion to roll back to")
    point(CHAMPION, current.former)
    point(CHALLENGER, current.number)
    return version(current.former)


def write_record(found: Version, record: Mapping[str, Any]) -> None:
    """Keep the record of a decision with the version it is about."""
    tracking.client().set_model_version_tag(MODEL, found.number, RECORD, json.dumps(record, separators=(",", ":")))
    tracking.client().update_model_version(MODEL, found.number, str(record.get("decision", "")))
