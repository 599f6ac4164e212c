from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from serve.campaigns.archive import FORMAT_VERSION, NAME, Archive


@dataclass(frozen=True)
class Named:
    """As much of a campaign as naming it needs."""

    campaign_id: str
    account_ids: frozenset[str]


def archive(**campaigns: str) -> Archive:
    known = {name: frozenset(accounts) for name, accounts in campaigns.items()}
    return Archive(None, known, frozenset(), 1)


def renamed(before: Archive, **campaigns: str) -> list[str]:
    found = [Named(name, frozenset(accounts)) for name, accounts in campaigns.items()]
    return [campaign.campaign_id for campaign in before.renamed(cast(Any, found))]


def test_a_campaign_that_grew_keeps_its_id():
    assert renamed(archive(old="abcd"), new="abcdefgh") == ["old"]


def test_a_campaign_of_other_accounts_has_an_id_of_its_own():
    assert renamed(archive(old="abcd"), new="awxyz") == ["new"]


def test_of_two_parts_the_larger_keeps_the_id():
    assert renamed(archive(old="abcdef"), one="ab", two="cdef") == ["one", "old"]


def test_two_that_became_one_have_the_id_of_the_larger():
    assert renamed(archive(first="ab", second="cdefg"), new="abcdefg") == ["second"]


def test_an_archive_before_the_first_run_knows_nothing(tmp_path: Path):
    found = Archive.load(tmp_path / "none", "bundle")
    assert found.sketches is None
    assert found.generation == 0


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"is not empty and holds no archive\.json"):
        Archive.load(tmp_path, "bundle")


@pytest.mark.parametrize("odd", [{"bundle": "x" * 9999}, {"format_version": "x" * 9999}, {"format_version": 10**400}])
def test_a_refusal_quotes_no_more_than_a_line(tmp_path: Path, odd: dict[str, object]):
    (tmp_path / NAME).write_text(json.dumps({"format_version": FORMAT_VERSION, "bundle": "b"} | odd))
    with pytest.raises(ValueError, match=r"this release reads|sketches don't compare") as fault:
        Archive.load(tmp_path, "bundle")
    assert len(str(fault.value)) < 400
