"""The map page: counts add up, nothing is fetched, no prompt is shown and no id is markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from serve.analyst.map_page import page_of
from serve.analyst.mapped_traffic import map_traffic
from serve.bundle.bundle import Bundle
from serve.cli import main
from serve.io.discovery import InputError

CANARY = "zxcanaryqv"
EVIL = '<script>alert("x")</script>&'


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.links, self.text = list[str](), list[str](), ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def exchanges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = ["fix the python bug", "sort a list", "lemon cake recipe", "hello there", "bake bread", "python loop"]
    rows = [
        {"account_id": f"{EVIL}{n % 3}", "session_id": f"s<{n % 6}>", "prompt": f"{words[n % 5]} {CANARY} {n}"}
        for n in range(120)
    ]
    path = tmp_path_factory.mktemp("map") / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "not json\n")
    return path


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path) -> Bundle:
    return Bundle.load(bundle_folder)


def test_every_prompt_is_counted_once(exchanges: Path, bundle: Bundle) -> None:
    placed = map_traffic([exchanges], bundle)
    assert (placed.n_read, placed.n_prompts, placed.n_rejected) == (120, 120, 1)
    assert placed.skills.sum() + placed.n_none == 120
    assert placed.cells.sum() == placed.skills.sum()
    assert (len(placed.sessions), len(placed.accounts)) == (6, 3)
    assert placed.sessions.n_placed.sum() == placed.accounts.n_placed.sum() == placed.cells.sum()
    assert (placed.accounts.reached >= 1).all()
    assert placed.accounts.ids == tuple(sorted({f"{EVIL}{n}" for n in range(3)}))


def test_the_page_needs_nothing_else_and_shows_no_prompt(exchanges: Path, bundle: Bundle) -> None:
    text = page_of(map_traffic([exchanges], bundle), bundle)
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags) - {"link"}
    assert [link for link in page.links if link != "data:,"] == []
    assert "@import" not in text
    assert "url(" not in text
    assert CANARY not in text
    for title in bundle.capabilities.titles.values():
        assert title in page.text
    for skill in bundle.capabilities.skills:
        assert skill.title in page.text


def test_ids_are_text_never_markup(exchanges: Path, bundle: Bundle) -> None:
    text = page_of(map_traffic([exchanges], bundle), bundle)
    assert "<script" not in text
    if bundle.benign is not None:
        assert f"{EVIL}0" in Page(text).text


def test_the_command_writes_the_page_and_counts(
    exchanges: Path, bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "map.html"
    assert main(["map", str(exchanges), "--out", str(page), "--bundle", str(bundle_folder)]) == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "placed   120 prompts of 6 sessions" in capsys.readouterr().out


def test_a_sample_holds_whole_accounts(exchanges: Path, bundle: Bundle) -> None:
    sizes = {len(map_traffic([exchanges], bundle, share=share).accounts) for share in (0.9, 1.0)}
    assert max(sizes) == 3
    with pytest.raises(ValueError, match=r"sample is 0\.0, expected a share above 0"):
        map_traffic([exchanges], bundle, share=0.0)


def test_what_cannot_be_drawn_is_refused(exchanges: Path, bundle: Bundle, tmp_path: Path) -> None:
    nothing = tmp_path / "none.jsonl"
    nothing.write_text("not json\n")
    with pytest.raises(InputError, match="0 usable rows"):
        map_traffic([nothing], bundle)
    assert main(["map", str(exchanges), "--out", str(tmp_path / "map.pdf")]) == 2


def test_where_the_bundle_knows_benign_coverage_sessions_are_drawn_against_it(exchanges: Path, bundle: Bundle) -> None:
    if bundle.benign is None:
        pytest.fail("the bundle of the tests knows no benign coverage")
    placed = map_traffic([exchanges], bundle)
    assert np.isfinite(placed.sessions.position).all()
    text = page_of(placed, bundle)
    assert 'class="band" points=' in text
    assert text.count('class="session') >= 6
