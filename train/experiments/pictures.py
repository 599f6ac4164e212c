"""Pictures: `python -m train.pictures` draws those of the README from sample traffic, with a headless Chromium.

Needs `make demo` to have run (for the traffic) and Debian's package `chromium` (STILLWATCH_CHROMIUM names another one).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from serve.bundle.files import RELEASED
from serve.cli import main as stillwatch
from train.experiments.demo import FOLDER as TRAFFIC
from train.synthesis.traffic_files import EXCHANGES

FOLDER = Path(__file__).parents[1] / "reports" / "pictures"
_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
_WIDTH = 1000
PICTURES = {
    "report.png": ("#came-in", "#areas"),
    "map.png": ("#map", "#time"),
    "account.png": ("#accounts", "details.account:nth-of-type(2)"),
}
"""Parts of the report, from one element to before another."""


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
    _draw(page, chromium)
    sizes = {path.name: path.stat().st_size for path in sorted(FOLDER.glob("*.png"))}
    sys.stdout.writelines(f"{FOLDER / name} ({size:,} bytes)\n" for name, size in sizes.items())
    return 0


def _draw(page: Path, chromium: str) -> None:
    from playwright.sync_api import FloatRect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_ARGUMENTS))
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
        browser.close()


def _shrink(path: Path) -> None:
    """Keep 128 colours, which a page of flat colours doesn't miss."""
    from PIL import Image

    with Image.open(path) as image:
        image.convert("RGB").quantize(128).save(path, optimize=True)


def _refused(line: str) -> int:
    sys.stderr.write(f"pictures: {line}\n")
    return 2
