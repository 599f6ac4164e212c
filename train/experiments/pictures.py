"""Pictures: `python -m train.pictures` draws those of the README from sample traffic, with a headless Chromium.

Needs `make demo` to have run (for the traffic) and Debian's package `chromium` (STILLWATCH_CHROMIUM names another one).
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.bundle.files import RELEASED
from serve.cli import main as stillwatch
from serve.scoring.verdict_files import read_verdicts
from train.experiments.demo import FOLDER as TRAFFIC
from train.synthesis.traffic_files import EXCHANGES

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FOLDER = Path(__file__).parents[1] / "reports" / "pictures"
_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
_WIDTH = 1000
PICTURES = {
    "report.png": ("#came-in", "#areas"),
    "map.png": ("#map", "#time"),
    "account.png": ("#accounts", "details.account:nth-of-type(2)"),
}
"""Parts of the report, from one element to before another."""

ADDRESSES = {"queue.png": "#/queue", "life.png": "#/account?id={account}"}
"""Places of the analyst's page, the account being the one with most sessions."""


def main() -> int:
    """Write the pictures anew; returns the exit code."""
    chromium = os.environ.get("STILLWATCH_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        return _refused("there is no chromium here, expected Debian's package or STILLWATCH_CHROMIUM")
    if not (TRAFFIC / EXCHANGES).is_file():
        return _refused(f"{TRAFFIC / EXCHANGES} is not there, expected it from make demo")
    verdicts, page = TRAFFIC / "pictures.jsonl", TRAFFIC / "pictures.html"
    score = ["score", str(TRAFFIC / EXCHANGES), "--out", str(verdicts), "--bundle", str(RELEASED)]
    report = ["report", str(verdicts), "--exchanges", str(TRAFFIC / EXCHANGES), "--out", str(page)]
    for command in (score, report):
        if code := stillwatch(command):
            return code
    FOLDER.mkdir(exist_ok=True)
    _draw(page, verdicts, chromium)
    sizes = {path.name: path.stat().st_size for path in sorted(FOLDER.glob("*.png"))}
    sys.stdout.writelines(f"{FOLDER / name} ({size:,} bytes)\n" for name, size in sizes.items())
    return 0


def _draw(page: Path, verdicts: Path, chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_ARGUMENTS))
        _draw_report(browser, page)
        _draw_queue(browser, verdicts)
        browser.close()


def _draw_report(browser: Browser, page: Path) -> None:
    from playwright.sync_api import FloatRect

    tab = browser.new_page(viewport={"width": _WIDTH, "height": 800})
    tab.goto(page.resolve().as_uri())
    tab.locator("details.account").first.evaluate("item => { item.open = true }")
    for name, (first, after) in PICTURES.items():
        top, bottom = (tab.locator(place).first.bounding_box() for place in (first, after))
        if top is None or bottom is None:
            raise ValueError(f"{page} has no {first} or {after}")
        clip = FloatRect(x=0.0, y=top["y"] - 16, width=float(_WIDTH), height=bottom["y"] - top["y"])
        tab.screenshot(path=FOLDER / name, clip=clip, full_page=True)
        _shrink(FOLDER / name)


def _draw_queue(browser: Browser, path: Path) -> None:
    """The analyst's page of a service whose queue has these verdicts, some of them decided of."""
    from serve.analyst.review.queue import ReviewQueue

    verdicts = read_verdicts(path)
    flagged = [own for own in verdicts if own.is_harvesting]
    account = max(flagged, key=lambda own: (verdicts.account_ids.count(own.account_id), own.score)).account_id
    with tempfile.TemporaryDirectory() as folder:
        queue = ReviewQueue(str(Path(folder) / "review.db"))
        queue.put(list(verdicts))
        queue.decide(account, None, "escalated", note="ask the customer first", by="ann")
        queue.close()
        with served(review=str(Path(folder) / "review.db")) as address:
            for name, place in ADDRESSES.items():
                tab = browser.new_page(viewport={"width": _WIDTH, "height": 640})
                tab.goto(f"{address}/{place.format(account=account)}")
                tab.locator("tr[data-session]").first.wait_for()
                tab.screenshot(path=FOLDER / name, full_page=True)
                _shrink(FOLDER / name)


@contextmanager
def served(**settings: Any) -> Iterator[str]:
    """A service on loopback with these `ServiceSettings`; gives its address."""
    import uvicorn

    from serve.http.app import create_app
    from serve.http.service import ServiceSettings

    app = create_app(ServiceSettings(**settings))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def _shrink(path: Path) -> None:
    """Keep 128 colours, which a page of flat colours doesn't miss."""
    from PIL import Image

    with Image.open(path) as image:
        image.convert("RGB").quantize(128).save(path, optimize=True)


def _refused(line: str) -> int:
    sys.stderr.write(f"pictures: {line}\n")
    return 2
