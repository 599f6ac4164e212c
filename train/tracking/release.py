"""Release: `python -m train.release` makes the champion's bundle the one that ships with the package."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from serve.bundle.files import RELEASED, BundleError
from serve.bundle.manifest import verify
from train.config.settings import TrackingSettings
from train.learning.bundling import MAX_BYTES, BundlingSettings, bundle_bytes, latest_bundle


def release(source: Path, target: Path) -> str:
    """Verify a bundle and put a copy of it in place of the released one; returns its id.

    Raises:
        BundleError: when the bundle can't be trusted.
        ValueError: when it may not ship: too large, or learned from a source whose card forbids it.
    """
    manifest = verify(source)
    if (size := bundle_bytes(source)) >= MAX_BYTES:
        raise ValueError(f"{source} has {size:,} bytes, expected fewer than {MAX_BYTES:,}")
    if not (sources := manifest["data"].get("sources")):
        raise ValueError(f"{source} doesn't say what it learned from, so it may not ship")
    if kept := [entry["name"] for entry in sources if not entry["may_ship"]]:
        raise ValueError(f"{source} learned from {', '.join(kept)}, which may not ship")
    aside = target.with_name(f".{target.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(source, aside)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    return str(verify(target)["bundle_id"])


def champion() -> Path:
    """The bundle of the champion, or the one trained last where nothing was ever registered.

    Raises:
        ValueError: when there is neither.
    """
    from train.tracking import mlflow_runs as tracking
    from train.tracking import registry  # MLflow takes seconds, which the other ways don't need

    tracking.connect(TrackingSettings().experiment)
    holder = registry.holder(registry.CHAMPION)
    return latest_bundle(BundlingSettings()) if holder is None else registry.bundle_folder(holder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Release the bundle that is asked for; one line and exit code 2 when it may not be."""
    parser = argparse.ArgumentParser(prog="python -m train.release", description=__doc__)
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="this bundle, not the champion's")
    parser.add_argument("--latest", action="store_true", help="the bundle trained last, not the champion's")
    wanted = parser.parse_args(arguments)
    try:
        source = wanted.bundle or (latest_bundle(BundlingSettings()) if wanted.latest else champion())
        bundle_id = release(source, RELEASED)
    except (BundleError, ValueError) as fault:
        sys.stderr.write(f"release: {fault}\n")
        return 2
    sys.stdout.write(f"released {bundle_id} from {source} to {RELEASED}\n")
    return 0
