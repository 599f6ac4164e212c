"""Pool: all prompts that sessions are composed from, as columns, with where each comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

LABELS = ("organic", "harvesting", "evaluation")
KINDS = ("person", "product", "harvest", "evaluation")


@dataclass(frozen=True, slots=True)
class Source:
    """A corpus: who wrote it and what for. Sources of one `group` overlap and are never on two sides of a split."""

    name: str
    label: str
    kind: str
    group: str
    areas: tuple[str, ...] = ()
    licence: str = ""
    may_ship: bool = True


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt as a corpus gives it; `person` is None where nobody knows who wrote it."""

    text: str
    conversation: str
    turn: int
    person: str | None = None
    system: str | None = None


@dataclass(frozen=True)
class Pool:
    """Columns of shape (n_prompts,), rows of one conversation next to each other and in order.

    `source` indexes `sources`; `conversation` and `person` are codes that are unique over all sources. Where a corpus
    names no person, every conversation is a person of its own.
    """

    sources: tuple[Source, ...]
    texts: tuple[str, ...]
    systems: tuple[str | None, ...]
    source: NDArray[np.int32]
    conversation: NDArray[np.int32]
    person: NDArray[np.int32]

    @classmethod
    def of(cls, corpora: Iterable[tuple[Source, Sequence[PromptRow]]]) -> Self:
        """A pool of these corpora, in their order."""
        sources: list[Source] = []
        rows: list[PromptRow] = []
        owners: list[int] = []
        conversations: list[int] = []
        persons: list[int] = []
        conversation_codes: dict[tuple[int, str], int] = {}
        person_codes: dict[tuple[int, str | int], int] = {}
        for index, (source, prompts) in enumerate(corpora):
            sources.append(source)
            for row in sorted(prompts, key=lambda row: (row.conversation, row.turn)):
                rows.append(row)
                owners.append(index)
                code = conversation_codes.setdefault((index, row.conversation), len(conversation_codes))
                conversations.append(code)
                who = code if row.person is None else row.person
                persons.append(person_codes.setdefault((index, who), len(person_codes)))
        return cls(
            tuple(sources),
            tuple(row.text for row in rows),
            tuple(row.system for row in rows),
            np.array(owners, dtype=np.int32),
            np.array(conversations, dtype=np.int32),
            np.array(persons, dtype=np.int32),
        )

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def is_starter(self) -> NDArray[np.bool_]:
        """Whether each prompt was written for this project."""
        return np.array([source.name.startswith("starter/") for source in self.sources], dtype=np.bool_)[self.source]

    @property
    def labels(self) -> NDArray[np.str_]:
        """Label of each prompt."""
        return np.array([source.label for source in self.sources])[self.source]

    @property
    def kinds(self) -> NDArray[np.str_]:
        """Kind of each prompt."""
        return np.array([source.kind for source in self.sources])[self.source]

    @property
    def groups(self) -> NDArray[np.str_]:
        """Group of each prompt."""
        return np.array([source.group for source in self.sources])[self.source]
