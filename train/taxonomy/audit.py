"""Audit: areas and skills as an encoder sees them: which skills overlap, are thin, or are reached by nobody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.capability.capability_map import Skill
from serve.embedding.encoders import SCALE, Encoder, encode_unique
from serve.sessions.normalization import canonical
from train.taxonomy.areas import Taxonomy

MIN_EXAMPLES = 12
"""Different examples that a skill needs."""

OVERLAP_SHARE = 0.25
"""Share of a skill's examples, left out one at a time, that another may draw before the two are said to overlap."""

_SAME = 0.95  # cosine from which two examples count as one


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


def audit(
    taxonomy: Taxonomy, encoder: Encoder, *, temperature: float, reached: NDArray[np.int64] | None = None
) -> Audit:
    """Look at examples one at a time as their neighbours see them, with votes of this `temperature`; `reached` counts
    prompts of traffic by skill."""
    texts = [canonical(text) for own in taxonomy.examples for text in own]
    vectors = encode_unique(encoder, texts)
    owners = np.repeat(np.arange(len(taxonomy.skills)), [len(own) for own in taxonomy.examples])
    names = _names(taxonomy)
    cosines = vectors.astype(np.float32) @ vectors.T.astype(np.float32) / np.float32(SCALE * SCALE)
    drawn = _drawn(cosines, owners, len(names), temperature)
    areas = np.array([skill.area for skill in taxonomy.skills])
    return Audit(
        _overlaps(drawn, owners, names),
        _thin(cosines, owners, names),
        float((areas[drawn] == areas[owners]).mean()),
        names,
        reached,
    )


def _names(taxonomy: Taxonomy) -> tuple[str, ...]:
    areas = list(taxonomy.areas)

    def name(skill: Skill) -> str:
        return f"{areas[skill.area]}/{skill.name}"

    return tuple(map(name, taxonomy.skills))


def _drawn(
    cosines: NDArray[np.float32], owners: NDArray[np.int64], n_skills: int, temperature: float
) -> NDArray[np.int64]:
    """The skill that each example falls to by the votes of all others, shape (n_examples,)."""
    weights = np.exp((cosines.astype(np.float64) - 1.0) / temperature)
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


def audit_text(found: Audit) -> str:
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
