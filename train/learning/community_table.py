"""Community table: signs of composed communities with what is true of them, stored so that a model is fitted again
in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serve.model.community_model import FEATURES, CommunityFeatures

MIN_TASKS, MAX_TASKS, MAX_HARVEST = 0.6, 0.2, 0.8
"""Share of a community's prompts that are a campaign's from which it counts as one, and up to which it counts as
benign, unless more of its accounts than the last are of campaigns; what lies between is not learned from. Accounts
alone don't tell: those of campaigns meet in their cover traffic, too."""


@dataclass(frozen=True)
class CommunityTable:
    """Communities as columns (n,): `signs` (n, n_features), `task_share` of what they share that is a campaign's,
    `harvest_share` of their accounts that are of one, `n_accounts`, `source`, the groups that most of their prompts are
    of, `dilution` of the population's campaigns (NaN without any), the fold whose campaigns and sources they are of,
    and whether benign sources were known."""

    signs: NDArray[np.float64]
    task_share: NDArray[np.float64]
    harvest_share: NDArray[np.float64]
    n_accounts: NDArray[np.int64]
    source: NDArray[np.str_]
    dilution: NDArray[np.float64]
    fold: NDArray[np.int64]
    is_known: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.fold)

    @property
    def is_campaign(self) -> NDArray[np.bool_]:
        """Whether most of what the accounts share is a campaign's."""
        return np.asarray(self.task_share >= MIN_TASKS)

    @property
    def is_benign(self) -> NDArray[np.bool_]:
        """Whether hardly anything that the accounts share is a campaign's, and not all are of one."""
        return np.asarray((self.task_share <= MAX_TASKS) & (self.harvest_share <= MAX_HARVEST))

    def where(self, chosen: NDArray[np.bool_]) -> CommunityTable:
        """The communities that are chosen."""
        return CommunityTable(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @classmethod
    def of(cls, signs: Sequence[CommunityFeatures], **columns: Any) -> Self:
        """Communities with these signs; the other columns by name."""
        rows = [tuple(getattr(own, name) for name in FEATURES) for own in signs]
        return cls(np.array(rows, dtype=np.float64).reshape(len(signs), len(FEATURES)), **columns)

    @classmethod
    def joined(cls, parts: Sequence[CommunityTable]) -> Self:
        """Communities of all parts, in order."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def save(self, path: Path) -> None:
        """Write as Parquet, a column for each sign."""
        columns = {name: self.signs[:, index] for index, name in enumerate(FEATURES)}
        columns |= {name: getattr(self, name) for name in _OTHERS}
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({name: pa.array(column.tolist()) for name, column in columns.items()}), path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ValueError: when a column is lacking, as in a table of an earlier release's signs.
        """
        table = pq.read_table(path)
        if missing := sorted({*FEATURES, *_OTHERS} - set(table.column_names)):
            raise ValueError(f"{path} has no {', '.join(missing)}, expected communities of this release: compose anew")
        signs = np.column_stack([table.column(name).to_numpy() for name in FEATURES])
        others = {name: np.array(table.column(name).to_pylist()) for name in _OTHERS}
        return cls(signs, **others)


_OTHERS = tuple(field.name for field in fields(CommunityTable) if field.name != "signs")
