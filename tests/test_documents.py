"""Documents for strangers stay short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAX_WORDS, MAX_NUMBERS = 900, 60


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len(README.split()) <= MAX_WORDS
    assert len(re.findall(r"\d+(?:[.,]\d+)*", README)) <= MAX_NUMBERS


def test_the_readme_names_every_room() -> None:
    rooms = [path.parent.name for package in ("serve", "train") for path in (ROOT / package).glob("*/__init__.py")]
    assert len(rooms) > 20
    assert [room for room in rooms if f"  {room}/" not in README] == []


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "serve/README.md", "train/README.md"])
def test_links_lead_to_files(document: str) -> None:
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", (ROOT / document).read_text(encoding="utf-8"))
    assert [link for link in links if not ((ROOT / document).parent / link).exists()] == []
