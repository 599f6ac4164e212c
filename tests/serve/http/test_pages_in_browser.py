"""Pages as a browser shows them: nothing logged or fetched, no serious fault of access, nothing cut or overlapping.

Needs Chromium (Debian's package `chromium`; STILLWATCH_CHROMIUM names another one) and is skipped without it, unless
STILLWATCH_PAGE_TESTS is `required`: then it fails.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn

from serve.analyst.review.queue import ReviewQueue
from serve.cli import main
from serve.http.app import create_app
from serve.http.service import ServiceSettings
from serve.scoring.scorer import Scorer
from serve.sessions.records import Session

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed (extra dev)")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe isn't installed (extra dev)")

CHROMIUM = os.environ.get("STILLWATCH_CHROMIUM") or shutil.which("chromium")
WIDTHS = (1440, 390)
LABELS = """() => {
  const boxes = [...document.querySelectorAll("svg text")]
    .map(e => [e.textContent, e.closest("svg"), e.getBoundingClientRect()]);
  return boxes.flatMap(([a, own, p], i) => boxes.slice(i + 1)
    .filter(([, other, q]) => own === other && p.left < q.right && q.left < p.right)
    .filter(([, , q]) => p.top + 1 < q.bottom && q.top + 1 < p.bottom)
    .map(([b]) => `${a} | ${b}`));
}"""
OUTSIDE = """() => [...document.querySelectorAll('a, button, input, select, textarea, summary')]
  .filter(e => e.checkVisibility() && !e.matches('.skip'))
  .filter(e => { const r = e.getBoundingClientRect(); return r.width && (r.left < 0 || r.right > innerWidth + 1); })
  .map(e => e.outerHTML.slice(0, 80))"""
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
        assert page.evaluate(LABELS) == []
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


@pytest.fixture(scope="module")
def served(
    bundle_folder: Path, sessions: tuple[Session, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, ReviewQueue]]:
    """The address of a service with the tiny bundle, on loopback, and its queue."""
    folder = tmp_path_factory.mktemp("served")
    member = {"account_id": "m1", "confidence": 1, "share": 1, "n_exchanges": 30}
    campaign = {
        "campaign_id": "c1", "confidence": 0.9, "n_exchanges": 30, "n_harvested": 12, "n_active_days": 3,
        "dilution": 0.6, "first_at": None, "last_at": None, "areas": {"coding": 0.7}, "union_coverage": {},
        "growth": {}, "contributions": {}, "members": [member],
    }  # fmt: skip
    (folder / "c.json").write_text(
        json.dumps({"n_accounts": 9, "n_exchanges": 90, "note": None, "campaigns": [campaign]})
    )
    app = create_app(
        ServiceSettings(bundle=bundle_folder, review=str(folder / "r.db"), campaigns=folder / "c.json", rate_per_s=1e6)
    )
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", app.state.service.queue
    server.should_exit = True
    thread.join()


def fill(queue: ReviewQueue, scorer: Scorer, sessions: tuple[Session, ...], names: list[str]) -> None:
    """Give each of these accounts the same flagged session, and one that isn't."""
    judged = [scorer.score(own) for own in sessions]
    flagged = next(own for own in judged if own.is_harvesting)
    calm = next(own for own in judged if not own.is_harvesting)
    for at, name in enumerate(names):
        own = replace(flagged, account_id=name, session_id="s-1", p_value=at / 1000, started_at=1e9, ended_at=1e9 + 60)
        queue.put([own, replace(calm, account_id=name, session_id="s-2", started_at=2e9)])


def is_whole(page: sync_api.Page, width: int) -> None:
    """Nothing is wider than the window, overlaps, or can't be reached; axe finds nothing."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OVERLAPS) == []
    assert page.evaluate(OUTSIDE) == []
    violations = axe.Axe().run(page).response["violations"]
    assert [v["id"] for v in violations if v["impact"] in ("serious", "critical", "moderate")] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_from_the_list_to_an_exported_label_by_keyboard(
    browser: sync_api.Browser, served: tuple[str, ReviewQueue], sessions: tuple[Session, ...], tiny_scorer: Scorer,
    tmp_path: Path, width: int,
) -> None:  # fmt: skip
    address, queue = served
    first, second, hostile = f"account-{width}", f"other-{width}", f"<img src=x onerror=alert({width})>{'W' * 200}"
    fill(queue, tiny_scorer, sessions, [first, second, hostile])
    said: list[str] = []
    asked: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if width == 390 else "light", bypass_csp=True
    )
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda fault: said.append(str(fault)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.locator("tr[data-session]").nth(2).wait_for()
    is_whole(page, width)
    page.screenshot(path=tmp_path / f"queue-{width}.png", full_page=True)
    keys = page.keyboard
    keys.press("/")
    keys.type(str(width))
    page.locator("caption", has_text="3 flagged sessions whose names hold").wait_for()
    keys.press("Escape")
    keys.press("j")
    keys.press("j")
    keys.press("k")
    keys.press("Enter")
    page.locator("h2", has_text=first).wait_for()
    is_whole(page, width)
    page.screenshot(path=tmp_path / f"account-{width}.png", full_page=True)
    assert "s-1, 2001-09-09 01:46: harvesting, score" in str(page.locator("g title").first.text_content())
    page.locator("input[name=note]").focus()
    keys.type("cax, seen before")
    keys.press("Escape")
    keys.press("c")
    page.locator("#status", has_text="Now confirmed: 1 session.").wait_for()
    page.locator(".history a[href^='#/decision']").first.focus()
    keys.press("Enter")
    page.locator("h2", has_text="Decision ").wait_for()
    is_whole(page, width)
    page.screenshot(path=tmp_path / f"decision-{width}.png", full_page=True)
    sheet = page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", sheet)) == 1
    keys.press("q")
    page.locator("tr[data-session]").first.wait_for()
    keys.press("j")
    keys.press("x")
    page.locator("#status", has_text="Now cleared: 1 session.").wait_for()
    page.evaluate("location.hash = '#/decisions'")
    page.locator("a[data-download='labels.jsonl']").focus()
    is_whole(page, width)
    with page.expect_download() as download:
        keys.press("Enter")
    rows = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    own = {row["account_id"]: row["label"] for row in rows if row["account_id"].endswith(str(width))}
    assert own == {first: "harvesting", second: "organic"}
    assert [row["note"] for row in rows if row["account_id"] == first] == ["cax, seen before"]
    assert said == []
    assert all(url.startswith((address, "data:", "blob:")) for url in asked)
    context.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_an_analyst_judges_and_looks_up(
    browser: sync_api.Browser, served: tuple[str, ReviewQueue], sessions: tuple[Session, ...], tiny_scorer: Scorer,
    tmp_path: Path, width: int,
) -> None:  # fmt: skip
    session = next(own for own in sessions if tiny_scorer.score(own).is_harvesting)
    hostile = f"<img src=x onerror=alert(1)>{width}"
    said: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="light" if width == 390 else "dark", bypass_csp=True
    )
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda fault: said.append(str(fault)))
    page.goto(f"{served[0]}/#/judge")
    rows = [{"account_id": hostile, "session_id": "s", "prompt": own.prompt} for own in session.exchanges]
    page.fill("#exchanges", "\n".join(map(json.dumps, rows)))
    page.click("#judge-form button")
    page.wait_for_selector("#view details")
    assert page.locator("#view .pill").first.inner_text() == "▲ harvesting"
    is_whole(page, width)
    page.click("#view a[href^='#/session']")
    page.locator("h2", has_text="Session s").wait_for()
    is_whole(page, width)
    page.screenshot(path=tmp_path / f"session-{width}.png", full_page=True)
    page.fill("input[name=note]", "by mouse")
    page.click("button[data-state=escalated]")
    page.locator("#status", has_text="Now escalated").wait_for()
    page.goto(f"{served[0]}/#/campaigns")
    page.locator("summary", has_text="c1").click()
    is_whole(page, width)
    assert said == []
    page.goto(f"{served[0]}/#/judge")
    page.fill("#account", "nobody")
    page.click("#account-form button")
    page.locator("#status", has_text="nothing is known").wait_for()
    assert [text for text in said if "404" not in text] == []
    context.close()
