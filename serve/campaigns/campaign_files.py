"""Campaign files: campaigns read back from the file that `stillwatch campaigns` wrote, for a page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.io.discovery import InputError, fault_text

N_MEMBERS = 25
N_AREAS = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One campaign, with its largest areas, its surest `members`, and the log-odds that each sign added."""

    campaign_id: str
    confidence: float
    n_exchanges: int
    n_accounts: int
    n_harvested: int
    n_active_days: int
    dilution: float
    first_at: str | None
    last_at: str | None
    areas: Mapping[str, float]
    coverage: Mapping[str, float]
    growth: Mapping[str, float]
    contributions: Mapping[str, float]
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """An account of a campaign: how sure (0-1), and the share of its exchanges that belong to it."""

    account_id: str
    confidence: float
    share: float
    n_exchanges: int


@dataclass(frozen=True, slots=True)
class CampaignFile:
    """All campaigns of a file, largest first, out of how many accounts and exchanges they were found."""

    n_accounts: int
    n_exchanges: int
    note: str | None
    entries: tuple[Entry, ...]

    @property
    def n_members(self) -> int:
        """Accounts of all campaigns; one that is in several counts in each."""
        return sum(entry.n_accounts for entry in self.entries)


def read_campaigns(path: Path) -> CampaignFile:
    """Read a campaigns file.

    Raises:
        InputError: naming the file and what is wrong.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return CampaignFile(
            int(found["n_accounts"]), int(found["n_exchanges"]), _text(found["note"]),
            tuple(_entry(campaign) for campaign in found["campaigns"]),
        )  # fmt: skip
    except OSError as fault:
        raise InputError(f"{path}: {fault_text(fault)}") from fault
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as fault:
        what = f"no {fault}" if isinstance(fault, KeyError) else type(fault).__name__
        raise InputError(f"{path} holds no campaigns ({what}), expected what stillwatch campaigns writes") from fault


def _entry(campaign: Mapping[str, Any]) -> Entry:
    members = sorted(map(_member, campaign["members"]), key=lambda member: (-member.confidence, member.account_id))
    return Entry(
        campaign_id=str(campaign["campaign_id"]),
        confidence=_share(campaign["confidence"]),
        n_exchanges=int(campaign["n_exchanges"]),
        n_accounts=len(members),
        n_harvested=int(campaign["n_harvested"]),
        n_active_days=int(campaign["n_active_days"]),
        dilution=_share(campaign["dilution"]),
        first_at=_text(campaign["first_at"]),
        last_at=_text(campaign["last_at"]),
        areas=dict(_largest(_numbers(campaign["areas"]))[:N_AREAS]),
        coverage={name: min(max(value, 0.0), 1.0) for name, value in _numbers(campaign["union_coverage"]).items()},
        growth=_numbers(campaign["growth"]),
        contributions=dict(_largest(_numbers(campaign["contributions"]))),
        members=tuple(members[:N_MEMBERS]),
    )


def _member(member: Mapping[str, Any]) -> Member:
    return Member(
        str(member["account_id"]), _share(member["confidence"]), _share(member["share"]), int(member["n_exchanges"])
    )


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in values.items()}


def _largest(values: Mapping[str, float]) -> Sequence[tuple[str, float]]:
    return sorted(values.items(), key=lambda item: (-item[1], item[0]))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _share(value: float) -> float:
    number = float(value)
    if math.isnan(number):
        raise ValueError("a share is no number")
    return min(max(number, 0.0), 1.0)  # estimates of shares may stray beyond
