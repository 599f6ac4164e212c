"""Documents for strangers stay short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

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


@pytest.mark.parametrize("file", ["prometheus-rules.yaml", "grafana.json"])
def test_rules_and_boards_name_metrics_that_there_are(file: str) -> None:
    text = (ROOT / "deploy" / file).read_text(encoding="utf-8")
    assert yaml.safe_load(text)["groups" if file.endswith("yaml") else "panels"]
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "serve" / "http").rglob("*.py"))
    known = set(re.findall(r'(?:Counter|Gauge|Histogram)\(\s*"(\w+)"', sources))
    known |= {f"store_{name}" for name in re.findall(r'"n_\w+": "(\w+)"', sources)}
    named = {re.sub(r"_(?:total|bucket)$", "", name) for name in re.findall(r"stillwatch_(\w+)", text)}
    assert len(named) > 5
    assert named - known == set()
