"""Results of a campaign job: what was found and read, as a members table, a JSON document and lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from serve.campaigns.community_features import MIN_ACCOUNTS
from serve.campaigns.findings import MIN_MEMBER, PRIOR, Campaign, Findings
from serve.campaigns.sketches import Sketches
from serve.jobs.progress import span
from serve.jobs.summary import MAX_REJECTED_SHARE

SCHEMA = pa.schema([
    ("account_id", pa.string()), ("campaign_id", pa.string()), ("confidence", pa.float64()), ("share", pa.float64()),
    ("gain", pa.float64()), ("n_exchanges", pa.int64()), ("p_value", pa.float64()), ("probability", pa.float64()),
    ("label", pa.string()),
])  # fmt: skip
"""Columns of a members file, one row an account; `campaign_id`, `share` and `gain` are null where it has none."""
FORMAT_VERSION = 1
N_TOP_AREAS = 3


@dataclass(frozen=True)
class CampaignResult:
    """What was found, in which population, and what was read; `n_untimed` rows are usable, but without a time;
    `described` counts the accounts with a value by kind of metadata."""

    findings: Findings
    sketches: Sketches
    n_rows: int
    n_untimed: int
    n_known_files: int
    reasons: Mapping[str, int]
    described: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether few enough of the rows were rejected."""
        return sum(self.reasons.values()) <= MAX_REJECTED_SHARE * self.n_rows


def members(outcome: CampaignResult, fpr: float) -> pa.Table:
    """One row an account, of `SCHEMA`."""
    findings, sketches = outcome.findings, outcome.sketches
    ties = {
        (position, tie.account_id): tie for position, campaign in enumerate(findings.campaigns) for tie in campaign.ties
    }
    own = [ties.get((int(c), name)) for c, name in zip(findings.campaign, sketches.account_ids, strict=True)]
    p_value = sketches.p_value
    flagged = findings.is_member | (p_value <= fpr)
    columns = {
        "account_id": pa.array(sketches.account_ids, pa.string()),
        "campaign_id": pa.array(
            [None if c < 0 else findings.campaigns[c].campaign_id for c in findings.campaign.tolist()]
        ),
        "confidence": pa.array(findings.confidence),
        "share": pa.array([tie and tie.share for tie in own], pa.float64()),
        "gain": pa.array([tie and tie.gain for tie in own], pa.float64()),
        "n_exchanges": pa.array(sketches.n_exchanges, pa.int64()),
        "p_value": pa.array(p_value),
        "probability": pa.array(findings.probability),
        "label": pa.array(np.where(flagged, "harvesting", "organic").tolist(), pa.string()),
    }
    return pa.table(columns).cast(SCHEMA)


def report(outcome: CampaignResult, bundle_id: str) -> dict[str, Any]:
    """All that is said of the campaigns, as JSON."""
    sketches, campaigns = outcome.sketches, outcome.findings.campaigns
    return {
        "format_version": FORMAT_VERSION,
        "bundle": bundle_id,
        "n_accounts": len(sketches),
        "n_exchanges": int(sketches.n_exchanges.sum()),
        "n_campaigns": len(campaigns),
        "prior": PRIOR,
        "member_confidence": MIN_MEMBER,
        "n_accounts_with": dict(outcome.described),
        "note": _note(sketches),
        "table": [_row(campaign) for campaign in campaigns],
        "campaigns": [_plain(campaign) for campaign in campaigns],
    }


def _note(sketches: Sketches) -> str | None:
    if not len(sketches):
        return "there is no exchange, so no account to link"
    if len(sketches) < MIN_ACCOUNTS:
        return f"{len(sketches)} accounts are fewer than the {MIN_ACCOUNTS} that make a campaign"
    n_texts = len(np.unique(sketches.items.text))
    if n_texts * len(sketches) == len(sketches.items):
        return f"all accounts sent the same {n_texts} prompts, so no other traffic tells a campaign from them"
    return None


def _row(campaign: Campaign) -> dict[str, Any]:
    return {
        "campaign_id": campaign.campaign_id,
        "exchanges": campaign.n_exchanges,
        "accounts": len(campaign.ties),
        "top_areas": list(campaign.areas)[:N_TOP_AREAS],
        "active_days": campaign.n_active_days,
        "confidence": round(campaign.confidence, 4),
    }


def _plain(campaign: Campaign) -> dict[str, Any]:
    plain = asdict(campaign)
    plain["n_accounts"] = len(campaign.ties)
    plain["members"] = plain.pop("ties")
    plain["first_at"], plain["last_at"] = _iso(campaign.first_at), _iso(campaign.last_at)
    for pivot in plain["pivots"]:
        pivot["at"] = _iso(pivot["at"])
    plain["cells"] = {str(cell): round(share, 6) for cell, share in campaign.cells.items()}
    plain["growth"] = {str(size): reached for size, reached in campaign.growth.items()}
    return plain


def _iso(seconds: float | None) -> str | None:
    return (
        None
        if seconds is None
        else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    )


def summary_text(outcome: CampaignResult, seconds: float) -> str:
    """The headline table as lines: one row a campaign, as the report of February 2026 gave its three."""
    sketches = outcome.sketches
    lines = [f"{'campaign':<14}{'exchanges':>12}{'accounts':>10}{'days':>6}{'sure':>6}  areas"]
    if not outcome.findings.campaigns:
        lines = ["no campaign: no accounts harvest alike, as far as these exchanges show"]
    lines += [
        f"{campaign.campaign_id:<14}{campaign.n_exchanges:>12,}{len(campaign.ties):>10,}{campaign.n_active_days:>6}"
        f"{campaign.confidence:>6.2f}  {_areas(campaign)}"
        for campaign in outcome.findings.campaigns
    ]
    n_listed, n_members = int((outcome.findings.campaign >= 0).sum()), int(outcome.findings.is_member.sum())
    lines.append(
        f"{len(outcome.findings.campaigns)} campaigns, {n_listed:,} of {len(sketches):,} accounts "
        f"({n_members:,} at confidence {MIN_MEMBER} or more), "
        f"{int(sketches.n_exchanges.sum()):,} exchanges, {sum(outcome.reasons.values()):,} of {outcome.n_rows:,} rows "
        f"rejected, {span(seconds)}"
    )
    if outcome.n_untimed:
        lines.append(f"{outcome.n_untimed:,} rows have no time (column at) and are left out where time is used")
    if outcome.described:
        counts = ", ".join(f"{kind} of {count:,} accounts" for kind, count in outcome.described.items())
        lines.append(f"what accounts share counts, too: {counts}")
    if outcome.n_known_files:
        lines.append(f"{outcome.n_known_files:,} files were read before and are in the archive")
    note = _note(sketches)
    return "\n".join(lines if note is None else [*lines, note])


def _areas(campaign: Campaign) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in list(campaign.areas.items())[:N_TOP_AREAS])
