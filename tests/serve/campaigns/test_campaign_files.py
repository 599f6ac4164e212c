from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serve.campaigns import results
from serve.campaigns.campaign_files import N_MEMBERS, read_campaigns
from serve.campaigns.findings import Campaign, Tie
from serve.campaigns.synchrony import Pivot, Synchrony
from serve.io.discovery import InputError
from serve.model.community_model import FEATURES, CommunityFeatures


def campaign(**changes: Any) -> dict[str, Any]:
    members = [
        {"account_id": f"m{i:02d}", "confidence": 0.5 + i / 100, "share": 0.5, "n_exchanges": 10, "gain": 1.0}
        for i in range(30)
    ]
    return {
        "campaign_id": "c1", "confidence": 0.9, "n_exchanges": 300, "n_harvested": 120, "n_active_days": 3,
        "dilution": 0.6, "first_at": "2026-01-01T00:00:00Z", "last_at": None, "areas": {"coding": 0.2, "maths": 0.7},
        "union_coverage": {"coding": 0.4}, "growth": {"10": 8.0}, "contributions": {"harvest": 2.0, "broad": -1.0},
        "members": members,
    } | changes  # fmt: skip


def written(path: Path, *campaigns: dict[str, Any]) -> Path:
    document = {"n_accounts": 90, "n_exchanges": 900, "note": None, "campaigns": list(campaigns)}
    path.write_text(json.dumps(document))
    return path


def test_the_surest_members_and_the_largest_areas_come_first(tmp_path: Path) -> None:
    roster = read_campaigns(written(tmp_path / "c.json", campaign()))
    entry = roster.entries[0]
    assert list(entry.areas) == ["maths", "coding"]
    assert (entry.n_accounts, len(entry.members), entry.members[0].account_id) == (30, N_MEMBERS, "m29")
    assert (roster.n_accounts, roster.n_exchanges, roster.n_members) == (90, 900, 30)


def test_no_campaign_is_no_fault(tmp_path: Path) -> None:
    assert read_campaigns(written(tmp_path / "c.json")).entries == ()


@pytest.mark.parametrize("change", [{"confidence": "canary"}, {"members": "canary"}, {"dilution": float("nan")}])
def test_other_files_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"c\.json holds no campaigns") as caught:
        read_campaigns(written(tmp_path / "c.json", campaign(**change)))
    assert "canary" not in str(caught.value)
    (tmp_path / "d.json").write_text("[1")
    with pytest.raises(InputError, match=r"d\.json holds no campaigns"):
        read_campaigns(tmp_path / "d.json")
    with pytest.raises(InputError, match="No such file"):
        read_campaigns(tmp_path / "e.json")


def test_what_campaigns_are_written_as_is_what_is_read(tmp_path: Path) -> None:
    ties = tuple(Tie(f"m{i}", 0.5 + i / 10, 0.4, 9.0, 10 * i, 4.0 * i, i, 0) for i in range(5))
    signs = CommunityFeatures(*[1.0] * len(FEATURES))
    found = Campaign(
        "c1", 0.9, 100, 40, 0.6, 1_767_225_600.0, None, 3, {"coding": 0.7}, {"coding/katas": 0.7}, {"coding": 0.4},
        {10: 8.0}, {3: 0.5}, {"0" * 16: 4}, (Pivot(1_767_225_600.0, "coding", 0.1, 0.6),), Synchrony(0.1, None, None),
        signs, {"harvest": 2.0}, ties,
    )  # fmt: skip
    entry = read_campaigns(written(tmp_path / "c.json", results._plain(found))).entries[0]
    for name in ("campaign_id", "confidence", "n_exchanges", "n_harvested", "n_active_days", "dilution"):
        assert getattr(entry, name) == getattr(found, name)
    assert [member.account_id for member in entry.members] == ["m4", "m3", "m2", "m1", "m0"]
    assert (entry.first_at, entry.last_at, entry.growth) == ("2026-01-01T00:00:00Z", None, {"10": 8.0})
