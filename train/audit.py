"""Audit: areas and skills as an encoder sees them: which skills overlap, are thin, or are reached by nobody."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.bundle import RELEASED, Bundle
from serve.capabilities import Skill
from serve.encoder import SCALE, Encoder, encode_unique
from serve.exchanges import read
from serve.sources import discover, plan
from serve.surface import canonical
from train.areas import DEFAULT, AreaSettings, Taxonomy, build_map, example_texts, read_taxonomy

MIN_EXAMPLES = 12
"""Different examples that a skill needs."""

OVERLAP_SHARE = 0.25
"""Share of a skill's examples, left out one at a time, that another may draw before the two are said to overlap."""

_SAME = 0.95  # cosine from which two examples count as one
_SLICE_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class Overlap:
    """`share` of the examples of `skill` fall to `other` when they are left out; names are `area/skill`."""

    skill: str
    other: str
    share: float


@dataclass(frozen=True, slots=True)
class Thin:
    """A skill with `n` examples, `n_different` of which aren't near-duplicates of one before."""

    skill: str
    n: int
    n_different: int


@dataclass(frozen=True)
class Audit:
    """What was found; `kept` is the share of examples that fall to their own area when they are left out, and `reached`
    counts prompts of traffic by skill (None without traffic)."""

    overlaps: tuple[Overlap, ...]
    thin: tuple[Thin, ...]
    kept: float
    names: tuple[str, ...]
    reached: NDArray[np.int64] | None

    @property
    def unreached(self) -> tuple[str, ...]:
        """Skills that no prompt of the traffic fell to."""
        if self.reached is None:
            return ()
        return tuple(name for name, count in zip(self.names, self.reached.tolist(), strict=True) if not count)

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to say."""
        return not (self.overlaps or self.thin or self.unreached)


def audit(taxonomy: Taxonomy, encoder: Encoder, traffic: Sequence[str] | None = None) -> Audit:
    """Look at examples one at a time as their neighbours see them, and at where prompts of traffic fall."""
    vectors = encode_unique(encoder, [canonical(text) for text in example_texts(taxonomy)])
    owners = np.repeat(np.arange(len(taxonomy.skills)), [len(own) for own in taxonomy.examples])
    names = _names(taxonomy)
    cosines = vectors.astype(np.float32) @ vectors.T.astype(np.float32) / np.float32(SCALE * SCALE)
    drawn = _drawn(cosines, owners, len(names))
    areas = np.array([skill.area for skill in taxonomy.skills])
    return Audit(
        _overlaps(drawn, owners, names),
        _thin(cosines, owners, names),
        float((areas[drawn] == areas[owners]).mean()),
        names,
        None if traffic is None else _reached(taxonomy, encoder, traffic),
    )


def _names(taxonomy: Taxonomy) -> tuple[str, ...]:
    areas = list(taxonomy.areas)

    def name(skill: Skill) -> str:
        return f"{areas[skill.area]}/{skill.name}"

    return tuple(map(name, taxonomy.skills))


def _drawn(cosines: NDArray[np.float32], owners: NDArray[np.int64], n_skills: int) -> NDArray[np.int64]:
    """The skill that each example falls to by the votes of all others, shape (n_examples,)."""
    weights = np.exp((cosines.astype(np.float64) - 1.0) / AreaSettings().temperature)
    np.fill_diagonal(weights, 0.0)
    votes = np.zeros((len(owners), n_skills))
    np.add.at(votes.T, owners, weights)
    return np.asarray(votes.argmax(axis=1), dtype=np.int64)


def _overlaps(drawn: NDArray[np.int64], owners: NDArray[np.int64], names: tuple[str, ...]) -> tuple[Overlap, ...]:
    table = np.zeros((len(names), len(names)))
    np.add.at(table, (owners, drawn), 1.0)
    table /= np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    np.fill_diagonal(table, 0.0)
    found = [
        Overlap(names[row], names[column], float(table[row, column]))
        for row, column in np.argwhere(table > OVERLAP_SHARE)
    ]
    return tuple(sorted(found, key=lambda overlap: (-overlap.share, overlap.skill)))


def _thin(cosines: NDArray[np.float32], owners: NDArray[np.int64], names: tuple[str, ...]) -> tuple[Thin, ...]:
    found = []
    for index, name in enumerate(names):
        own = np.flatnonzero(owners == index)
        repeats = np.tril(cosines[np.ix_(own, own)] > _SAME, k=-1).any(axis=1)
        if (n_different := int((~repeats).sum())) < MIN_EXAMPLES:
            found.append(Thin(name, len(own), n_different))
    return tuple(found)


def _reached(taxonomy: Taxonomy, encoder: Encoder, traffic: Sequence[str]) -> NDArray[np.int64]:
    vectors = encode_unique(encoder, [canonical(text) for text in traffic])
    built = build_map(taxonomy, encoder, np.unique(vectors, axis=0), AreaSettings(n_cells=1), seed=0)
    skills = built.assign(vectors).skill
    return np.bincount(skills[skills >= 0].astype(np.int64), minlength=len(taxonomy.skills))


def prompts(paths: Sequence[Path]) -> list[str]:
    """Prompts of files of exchanges.

    Raises:
        InputError: when they can't be read.
    """
    parts = (part for own in plan(discover(paths).sources, _SLICE_BYTES) for part in own)
    return [text for part in parts for batch in read(part) for text in batch.table.column("prompt").to_pylist()]


def told(found: Audit) -> str:
    """What was found, as lines."""
    lines = [f"{len(found.names)} skills; {found.kept:.3f} of the examples fall to their own area when left out"]
    lines += [
        f"thin     {thin.skill}: {thin.n_different} different of {thin.n} examples, expected at least {MIN_EXAMPLES}"
        for thin in found.thin
    ]
    lines += [
        f"overlap  {overlap.skill}: {overlap.share:.0%} of its examples fall to {overlap.other}"
        for overlap in found.overlaps
    ]
    if found.reached is not None:
        lines += [f"unreached  {name}: none of {int(found.reached.sum()):,} placed prompts" for name in found.unreached]
    return "\n".join([*lines, "nothing to mend" if found.is_clean else "see above"]) + "\n"


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
        found = audit(taxonomy, encoder, None if wanted.traffic is None else prompts(wanted.traffic))
    except ValueError as fault:
        sys.stderr.write(f"areas: {fault}\n")
        return 2
    sys.stdout.write(told(found))
    return 0 if found.is_clean else 1
