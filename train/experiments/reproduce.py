"""Reproduce: `python -m train.reproduce RUN_ID` makes a run's bundle anew and proves that it is the same."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from train.config.settings import Settings, SettingsError, TrackingSettings, settings_of
from train.experiments.run import bundled
from train.inputs.prepared_inputs import read_inputs
from train.tracking import mlflow_runs as tracking
from train.tracking.provenance import data_digests, provenance
from train.tracking.run_record import BUNDLE_TAG, PROVENANCE_FILE, SETTINGS_FILE


@dataclass(frozen=True, slots=True)
class Proof:
    """The id that the run's bundle had and the one it has now, and what differs in what it is made of."""

    expected: str
    found: str
    differences: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the bundle is the same to the last byte."""
        return self.expected == self.found


def reproduce(run_id: str, *, keeps_encoder: bool = False) -> Proof:
    """Run again with the settings of a tracked run, writing nothing but to a temporary folder.

    Raises:
        ValueError: when there is no such run, or it ended without a bundle.
        SettingsError: when its settings are none of this release's.
    """
    expected = tracking.tag_of(run_id, BUNDLE_TAG)
    settings = settings_of(tracking.read_json(run_id, SETTINGS_FILE))
    before = tracking.read_json(run_id, PROVENANCE_FILE)
    with tempfile.TemporaryDirectory() as folder:
        settings = _elsewhere(settings, Path(folder), keeps_encoder=keeps_encoder)
        now = {**provenance(), "data": dict(data_digests(read_inputs(settings.inputs).pool))}
        found = bundled(settings).folder.name
    return Proof(expected, found, tuple(differences(before, now)))


def differences(before: Mapping[str, Any], now: Mapping[str, Any], place: str = "") -> list[str]:
    """What two records of provenance don't agree on, one line each."""
    found: list[str] = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{place}{key}.")
        elif old != new:
            found.append(f"{place}{key} was {old}, is {new}")
    return found


def _elsewhere(settings: Settings, folder: Path, *, keeps_encoder: bool) -> Settings:
    encoder = settings.encoder if keeps_encoder else replace(settings.encoder, cache_dir=str(folder / "encoders"))
    return replace(settings, encoder=encoder, bundling=replace(settings.bundling, dir=str(folder / "bundles")))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the bundle is the same, 1 when it isn't, 2 when that can't be decided."""
    parser = argparse.ArgumentParser(prog="python -m train.reproduce", description=__doc__)
    parser.add_argument("run_id", metavar="RUN_ID", help="a run in MLflow")
    parser.add_argument("--keep-encoder", action="store_true", help="take the encoder from the cache")
    given = parser.parse_args(arguments)
    tracking.connect(TrackingSettings().experiment)
    try:
        proof = reproduce(given.run_id, keeps_encoder=given.keep_encoder)
    except (SettingsError, ValueError) as fault:
        sys.stderr.write(f"reproduce: {fault}\n")
        return 2
    sys.stdout.writelines(f"differs: {line}\n" for line in proof.differences)
    sys.stdout.write(f"{'same' if proof.holds else 'NOT the same'}: was {proof.expected}, is {proof.found}\n")
    return 0 if proof.holds else 1
