"""The starter corpus: every family file beside this module, expanded into sources and prompts of the pool."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from train.corpora.pool import PromptRow, Source
from train.corpora.starter.grammar import Family, expand, read_family

FOLDER = Path(__file__).parent / "families"
N_PERSONS = 6
"""People of each persona family, each with details of their own."""


def families(folder: Path = FOLDER) -> tuple[Family, ...]:
    """All families, by name.

    Raises:
        ValueError: naming the file and what is wrong.
    """
    return tuple(read_family(path) for path in sorted(folder.glob("*.yaml")))


def starter_corpora(n_prompts: int, *, seed: int) -> list[tuple[Source, Sequence[PromptRow]]]:
    """About `n_prompts` prompts, the same number from each family (fewer where its grammar runs dry)."""
    members = families()
    return corpora_of(members, max(1, n_prompts // len(members)), seed=seed)


def corpora_of(members: Sequence[Family], quota: int, *, seed: int) -> list[tuple[Source, Sequence[PromptRow]]]:
    """At most `quota` prompts of each of these families."""
    return [(_source(family), _rows(family, quota, seed)) for family in members]


def _source(family: Family) -> Source:
    name = f"starter/{family.name}"
    return Source(name, family.label, family.kind, name, family.areas, "Apache-2.0")


def _rows(family: Family, quota: int, seed: int) -> list[PromptRow]:
    n_persons = N_PERSONS if family.kind == "person" else 1
    named = family.kind == "person"
    return [
        PromptRow(row.text, row.conversation, row.turn, row.person if named else None, row.system)
        for row in expand(family, n_prompts=quota, n_persons=n_persons, seed=seed)
    ]
