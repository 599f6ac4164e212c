"""Check: areas and skills as data, held against an encoder and against traffic, with what there is to mend."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.bundle.bundle import Bundle
from serve.bundle.files import RELEASED
from serve.embedding.encoders import Encoder, encode_unique
from serve.io.reading import read_paths
from serve.sessions.canonical_text import canonical
from train.taxonomy.areas import DEFAULT, AreaSettings, Taxonomy, build_map, read_taxonomy
from train.taxonomy.audit import Audit, audit, audit_text


def check(taxonomy: Taxonomy, encoder: Encoder, traffic: Sequence[str] | None = None) -> Audit:
    """What is wrong with areas and skills as this encoder sees them, and which of them this traffic never reaches."""
    reached = None if traffic is None else _reached(taxonomy, encoder, traffic)
    return audit(taxonomy, encoder, temperature=AreaSettings().temperature, reached=reached)


def _reached(taxonomy: Taxonomy, encoder: Encoder, traffic: Sequence[str]) -> NDArray[np.int64]:
    vectors = encode_unique(encoder, [canonical(text) for text in traffic])
    built = build_map(taxonomy, encoder, np.unique(vectors, axis=0), AreaSettings(n_cells=1), seed=0)
    skills = built.assign(vectors).skill
    return np.bincount(skills[skills >= 0].astype(np.int64), minlength=len(taxonomy.skills))


def _prompts(paths: Sequence[Path]) -> list[str]:
    """Prompts of files of exchanges.

    Raises:
        InputError: when they can't be read.
    """
    return [text for batch in read_paths(paths) for text in batch.table.column("prompt").to_pylist()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a file of areas: exit code 0 when there is nothing to mend, 1 when there is, 2 when it can't be used."""
    parser = argparse.ArgumentParser(prog="python -m train.areas", description=__doc__)
    parser.add_argument("action", choices=("check",), help="what to do")
    parser.add_argument("--file", type=Path, default=DEFAULT, metavar="YAML", help="areas (default: the shipped ones)")
    parser.add_argument(
        "--bundle", type=Path, default=RELEASED, metavar="DIR", help="bundle whose encoder looks at them"
    )
    parser.add_argument(
        "--traffic", type=Path, nargs="+", metavar="EXCHANGES", help="files whose prompts should reach all"
    )
    wanted = parser.parse_args(arguments)
    try:
        taxonomy, encoder = read_taxonomy(wanted.file), Bundle.load(wanted.bundle).encoder
        found = check(taxonomy, encoder, None if wanted.traffic is None else _prompts(wanted.traffic))
    except ValueError as fault:
        sys.stderr.write(f"areas: {fault}\n")
        return 2
    sys.stdout.write(audit_text(found))
    return 0 if found.is_clean else 1
