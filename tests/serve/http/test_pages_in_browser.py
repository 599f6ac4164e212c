"""Pages as a browser shows them: nothing logged or fetched, no serious fault of access, nothing cut or overlapping.

Needs Chromium (Debian's package `chromium`; STILLWATCH_CHROMIUM names another one) and is skipped without it, unless
STILLWATCH_PAGE_TESTS is `required`: then it fails.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from serve.analyst.feedback import Feedback
from serve.cli import main
from serve.http.app import create_app
from serve.http.service import ServiceSettings
from serve.scoring.scorer import Scorer
from serve.sessions.records import Session

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed (extra dev)")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe isn't installed (extra dev)")

CHROMIUM = os.environ.get("STILLWATCH_CHROMIUM") or shutil.which("chromium")
WIDTHS = (1440, 390)
OVERLAPS = """() => {
  const names = 'h1, h2, h3, p:not([role=status]), li, dt, dd, th, td, summary > span, .axis > span, figcaption';
  const texts = [...document.querySelectorAll(names)]
    .filter(e => e.checkVisibility() && e.textContent.trim() && !e.querySelector('p, li, dd, td, th'));
  const boxes = texts.map(e => {
    const range = document.createRange();
    range.selectNodeContents(e);
    return [e, range.getBoundingClientRect()];
  }).filter(([e, r]) => r.width && r.height);
  const found = [];
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < Math.min(boxes.length, i + 60); j++) {
    const [a, p] = boxes[i], [b, q] = boxes[j];
    if (a.contains(b) || b.contains(a)) continue;
    const x = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const y = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (x > 1 && y > 2) found.push(a.textContent.slice(0, 40) + ' | ' + b.textContent.slice(0, 40));
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    if CHROMIUM is None:
        absent = pytest.fail if os.environ.get("STILLWATCH_PAGE_TESTS") == "required" else pytest.skip
        absent("there is no chromium on this machine: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
                  "--disable-component-update", "--disable-sync"],
        )  # fmt: skip
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(
    tmp_path_factory: pytest.TempPathFactory, sessions: tuple[Session, ...], bundle_folder: Path
) -> dict[str, Path]:
    """Reports of the tiny sessions, one verdict, none, and of accounts with names that are hard to show; and a map."""
    folder = tmp_path_factory.mktemp("pages")
    rows = [
        {"account_id": s.account_id, "session_id": s.session_id, "prompt": e.prompt, "at": e.at}
        for s in sessions
        for e in s.exchanges
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bundle = ["--bundle", str(bundle_folder)]
    assert main(["score", str(folder / "in.jsonl"), "--out", str(folder / "full.jsonl"), *bundle]) == 0
    verdicts = [json.loads(line) for line in (folder / "full.jsonl").read_text().splitlines()]
    names = ["W" * 10_000, "<script>alert(1)</script>", "\u0627\u0644\u0633\u0644\u0627\u0645 \u202e"]
    for name, own in {
        "none": [], "one": verdicts[:1],
        "names": [{**row, "account_id": names[i % 3], "session_id": names[i % 3]} for i, row in enumerate(verdicts)],
    }.items():  # fmt: skip
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    made = {}
    for name in ("full", "none", "one", "names"):
        more = ["--exchanges", str(folder / "in.jsonl")] if name == "full" else []
        made[name] = folder / f"{name}.html"
        assert main(["report", str(folder / f"{name}.jsonl"), "--out", str(made[name]), *bundle, *more]) == 0
    hostile = [{**row, "account_id": names[i % 3], "session_id": names[i % 3]} for i, row in enumerate(rows)]
    (folder / "map.jsonl").write_text("".join(json.dumps(row) + "\n" for row in hostile))
    made["map"] = folder / "map.html"
    assert main(["map", str(folder / "map.jsonl"), "--out", str(made["map"]), *bundle]) == 0
    return made


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["full", "none", "one", "names", "map"])
def test_a_report_is_whole_in_a_browser(
    browser: sync_api.Browser, pages: dict[str, Path], name: str, width: int, tmp_path: Path
) -> None:
    for scheme in ("light", "dark"):
        said: list[str] = []
        asked: list[str] = []
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True, java_script_enabled=True
        )
        page = context.new_page()
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("pageerror", lambda fault, said=said: said.append(str(fault)))
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto(pages[name].as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(item => { item.open = true })")
        assert said == []
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OVERLAPS) == []
        page.screenshot(path=tmp_path / f"{name}-{width}-{scheme}.png", full_page=True)
        violations = axe.Axe().run(page).response["violations"]
        assert [v["id"] for v in violations if v["impact"] in ("serious", "critical", "moderate")] == []
        context.close()


def test_rows_open_by_keyboard(browser: sync_api.Browser, pages: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto(pages["full"].as_uri())
    page.locator("details.account > summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details.account").first.get_attribute("open") == ""
    page.close()


def test_in_print_every_account_is_open(browser: sync_api.Browser, pages: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto(pages["full"].as_uri())
    body = page.locator("details.account .item-body").first
    assert not body.is_visible()
    page.emulate_media(media="print")
    assert body.evaluate("element => element.getBoundingClientRect().height") > 50
    page.close()


@pytest.fixture
def served(bundle_folder: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a service with the tiny bundle, on loopback."""
    app = create_app(ServiceSettings(bundle=bundle_folder, feedback=tmp_path / "f.db"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("width", WIDTHS)
def test_an_analyst_judges_and_marks(
    browser: sync_api.Browser,
    served: str,
    sessions: tuple[Session, ...],
    tiny_scorer: Scorer,
    tmp_path: Path,
    width: int,
) -> None:
    session = next(own for own in sessions if tiny_scorer.score(own).is_harvesting)
    hostile = "<img src=x onerror=alert(1)>"
    said: list[str] = []
    asked: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda fault: said.append(str(fault)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(served)
    rows = [{"account_id": hostile, "session_id": "s", "prompt": own.prompt} for own in session.exchanges]
    page.fill("#exchanges", "\n".join(map(json.dumps, rows)))
    page.click("#judge-form button")
    page.wait_for_selector("#cards details")
    assert page.locator("#cards .pill").inner_text() == "▲ harvesting"
    page.fill("#cards .mark input", "seen before")
    page.click("#cards [data-mark=confirmed]")
    page.wait_for_selector("#marks-list td")
    page.click("[data-load=flagged]")
    page.wait_for_selector("#flagged-list td")
    page.fill("#account", "nobody")
    page.click("#account-form button")
    page.locator("#status", has_text="nothing is known").wait_for()
    assert [text for text in said if "404" not in text] == []
    assert all(url.startswith((served, "data:")) for url in asked)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OVERLAPS) == []
    page.screenshot(path=tmp_path / f"page-{width}.png", full_page=True)
    page.close()
    assert [(mark.account_id, mark.note) for mark in Feedback(tmp_path / "f.db").marks()] == [(hostile, "seen before")]


def test_the_analyst_s_page_has_no_serious_fault_of_access(browser: sync_api.Browser, served: str) -> None:
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, bypass_csp=True)
        page = context.new_page()
        page.goto(served)
        page.fill("#exchanges", "sort a list\nbake a cake\nsort a list again\nfix the bug\nreverse a list")
        page.click("#judge-form button")
        page.wait_for_selector("#cards details")
        violations = axe.Axe().run(page).response["violations"]
        assert [v["id"] for v in violations if v["impact"] in ("serious", "critical", "moderate")] == []
        context.close()
