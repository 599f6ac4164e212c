"""Release: `python -m train.release` makes a trained bundle the one that ships with the package."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from serve.bundle import RELEASED, BundleError, verify
from train.bundling import MAX_BYTES, BundlingSettings, bundle_bytes, latest_bundle


def release(source: Path, target: Path = RELEASED) -> str:
    """Verify a bundle and put a copy of it in place of the released one; returns its id.

    Raises:
        BundleError: when the bundle can't be trusted.
        ValueError: when it may not ship: too large, or learned from a source whose card forbids it.
    """
    manifest = verify(source)
    if (size := bundle_bytes(source)) >= MAX_BYTES:
        raise ValueError(f"{source} has {size:,} bytes, expected fewer than {MAX_BYTES:,}")
    if kept := [entry["name"] for entry in manifest["data"]["sources"] if not entry["may_ship"]]:
        raise ValueError(f"{source} learned from {', '.join(kept)}, which may not ship")
    aside = target.with_name(f".{target.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(source, aside)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    return str(verify(target)["bundle_id"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Release the bundle that is asked for; one line and exit code 2 when it may not be."""
    parser = argparse.ArgumentParser(prog="python -m train.release", description=__doc__)
    parser.add_argument("--bundle", type=Path, help="folder of the bundle (default: the one trained last)")
    wanted = parser.parse_args(arguments)
    try:
        source = wanted.bundle or latest_bundle(BundlingSettings())
        bundle_id = release(source)
    except (BundleError, ValueError) as fault:
        sys.stderr.write(f"release: {fault}\n")
        return 2
    sys.stdout.write(f"released {bundle_id} from {source} to {RELEASED}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
