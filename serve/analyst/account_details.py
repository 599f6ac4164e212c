"""Account details: the numbers of one account, the reasons of its clearest session, and what it covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.analyst.map_counts import MapCounts
from serve.bundle.bundle import Bundle
from serve.scoring.accounts import SCHEMA, Tally, roll_up
from serve.scoring.verdict import Verdict, Verdicts
from serve.sessions.size_classes import size_class

N_SESSIONS = 60
"""Sessions of an account whose scores are drawn, the last ones."""


@dataclass(frozen=True, slots=True)
class Shade:
    """One skill or cell: its name, how many prompts fell there, and how dark that is, 0-1."""

    name: str
    count: int
    depth: float


@dataclass(frozen=True, slots=True)
class AreaLine:
    """One area of a session: share of its prompts and of the area's cells (0-1), the range of the share that 90 % of
    benign sessions of like size have where that is known, and the account's and everybody else's prompts by skill."""

    title: str
    share: float
    coverage: float
    low: float | None
    high: float | None
    own: tuple[Shade, ...]
    usual: tuple[Shade, ...]

    @property
    def is_outside(self) -> bool:
        """Whether the share lies above what benign sessions have."""
        return self.high is not None and self.share > self.high

    @property
    def most(self) -> float:
        """The largest share that is drawn."""
        return max(self.share, self.high or 0.0)


@dataclass(frozen=True, slots=True)
class AccountDetails:
    """One account; `p_value` combines its sessions', `verdict` is its clearest session's, `scores` in order of time."""

    account_id: str
    label: str
    n_sessions: int
    n_flagged: int
    n_exchanges: int
    max_score: float
    p_value: float
    verdict: Verdict
    areas: tuple[AreaLine, ...]
    scores: tuple[float, ...]


def accounts_of(verdicts: Verdicts, *, fpr: float) -> pa.Table:
    """The roll-up of verdicts whose accounts lie together."""
    if not len(verdicts):
        return SCHEMA.empty_table()
    return roll_up(Tally.of(verdicts), verdicts.areas, fpr=fpr, bundle=verdicts.bundle)


def account_details(
    accounts: pa.Table, verdicts: Verdicts, titles: Mapping[str, str], bundle: Bundle | None, drawn: MapCounts | None
) -> tuple[AccountDetails, ...]:
    """One for each row of `accounts`; `bundle` tells the benign range, `drawn` the skills."""
    rows_of: dict[str, list[int]] = {name: [] for name in accounts.column("account_id").to_pylist()}
    for row, name in enumerate(verdicts.account_ids):
        if name in rows_of:
            rows_of[name].append(row)
    usual = None if drawn is None else _shades(drawn.usual, drawn)
    found = []
    for account in accounts.to_pylist():
        rows = np.array(rows_of[account["account_id"]])
        clearest = rows[np.lexsort((-verdicts.score[rows], verdicts.p_value[rows]))[0]]
        verdict = verdicts.verdict(int(clearest))
        own = None if drawn is None else _shades(drawn.skills[account["account_id"]], drawn)
        found.append(AccountDetails(
            account["account_id"], account["label"], len(rows), int(verdicts.is_flagged[rows].sum()),
            account["n_exchanges"], account["max_score"], account["p_value"], verdict,
            area_lines(verdict, titles, bundle, own, usual),
            tuple(verdicts.score[rows[np.argsort(verdicts.started_at[rows], kind="stable")]][-N_SESSIONS:].tolist()),
        ))  # fmt: skip
    return tuple(found)


def depths(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """How dark each count is drawn, 0-1: its square root, so that few are told from none."""
    return np.sqrt(counts / max(int(counts.max(initial=0)), 1))


def area_lines(
    verdict: Verdict, titles: Mapping[str, str], bundle: Bundle | None, own: Sequence[tuple[Shade, ...]] | None,
    usual: Sequence[tuple[Shade, ...]] | None,
) -> tuple[AreaLine, ...]:  # fmt: skip
    """Areas that a session reaches, largest first; `own` and `usual` are skills by area, None where unknown."""
    reached = [(name, share) for name, share in verdict.area_share.items() if share > 0]
    ordered = sorted(reached, key=lambda item: (-item[1], item[0]))
    lines = []
    for name, share in ordered:
        low, high = _band(bundle, name, verdict.n_exchanges)
        position = bundle.capabilities.areas.index(name) if bundle and name in bundle.capabilities.areas else None
        lines.append(AreaLine(
            titles.get(name, name), share, verdict.coverage.get(name, 0.0), low, high,
            () if own is None or position is None else own[position],
            () if usual is None or position is None else usual[position],
        ))  # fmt: skip
    return tuple(lines)


def _band(bundle: Bundle | None, area: str, n_exchanges: int) -> tuple[float | None, float | None]:
    """What 90 % of benign sessions of like size have of an area."""
    names = list(bundle.manifest["features"]) if bundle else []
    if bundle is None or f"area.{area}" not in names:
        return None, None
    low, high = bundle.reference[int(size_class(np.array([n_exchanges]))[0]), names.index(f"area.{area}")].tolist()
    return low, high


def _shades(counts: NDArray[np.int64], drawn: MapCounts) -> list[tuple[Shade, ...]]:
    """Skills by area."""
    by_area: list[list[Shade]] = [[] for _ in drawn.capabilities.areas]
    for skill, count, depth in zip(drawn.capabilities.skills, counts.tolist(), depths(counts).tolist(), strict=True):
        by_area[skill.area].append(Shade(skill.title, count, round(depth, 2)))
    return [tuple(own) for own in by_area]
