"""`stillwatch bundle`: what a bundle holds, and whether it is intact."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from serve.commands.command import DONE, Command
from serve.commands.options import add_signer


def _add_bundle_action(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("show", "verify"), help="show its manifest, or verify its files")
    parser.add_argument("folder", type=Path, metavar="DIR", help="bundle folder")
    add_signer(parser)


def _bundle(options: argparse.Namespace) -> int:
    from serve.bundle.bundle import examine
    from serve.bundle.manifest import verify
    from serve.bundle.signature import required_key

    manifest = (examine if options.action == "verify" else verify)(options.folder)
    size = sum(file["size"] for file in manifest["files"].values())
    n_files = len(manifest["files"])
    if options.action == "verify":
        print(f"bundle {manifest['bundle_id']}: {n_files} files, {size:,} bytes, all as the manifest lists them")
        if signer := required_key():
            print(f"signed by key {signer.name}")
        print("a trial verdict in a process of its own passed")
        return DONE
    shown = {name: value for name, value in manifest.items() if name != "files"}
    shown |= {"files": {name: file["size"] for name, file in manifest["files"].items()}}
    print(json.dumps(shown, indent=2, ensure_ascii=False))
    return DONE


BUNDLE = Command("bundle", "show or verify a bundle", _add_bundle_action, _bundle)
