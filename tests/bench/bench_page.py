"""The analyst's page with a full queue: seconds until it is painted, shows its rows, and answers a search.

100,000 flagged sessions of 24,000 accounts are put into a queue in SQLite, and Chromium opens the page of a service
with the released bundle. First paint and rows count from the beginning of the navigation, a search from its last key,
with the 0.06 s that the page waits for another one. Aims: first paint below 0.5 s, search below 0.3 s.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from serve.analyst.review.queue import ReviewQueue
from serve.scoring.scorer import load
from serve.scoring.verdict import Verdict
from serve.sessions.records import Exchange, Session
from train.experiments.pictures import served

N_ACCOUNTS = 24_000
_CHUNK = 5_000
_ROWS = "document.querySelectorAll('tr[data-session]').length"


def flagged() -> Verdict:
    """A verdict with reasons."""
    prompts = tuple(Exchange(f"Write a function that sorts list {i} step by step and explain why.") for i in range(40))
    return replace(load().score(Session("-", "-", prompts)), label="harvesting")


def filled(place: str, n: int) -> float:
    """Fill a queue; gives seconds."""
    one, drawn, queue, began = flagged(), random.Random(0), ReviewQueue(place), time.perf_counter()
    for at in range(0, n, _CHUNK):
        queue.put([
            replace(
                one, account_id=f"org-{drawn.randrange(N_ACCOUNTS):05}", session_id=f"session-{i:06}",
                p_value=drawn.random() / 100, score=0.5 + drawn.random() / 2, n_exchanges=drawn.randrange(5, 500),
                ended_at=1_767_225_600.0 + i,
            )
            for i in range(at, min(at + _CHUNK, n))
        ])  # fmt: skip
    queue.close()
    return time.perf_counter() - began


def opened(page: Page, address: str) -> tuple[float, float]:
    """Seconds until the first paint, and until rows are there."""
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_function(f"{_ROWS} > 0 && (window.shownAt ??= performance.now())", polling="raf")
    paint = "performance.getEntriesByType('paint').find(e => e.name === 'first-contentful-paint').startTime"
    return page.evaluate(paint) / 1e3, page.evaluate("window.shownAt") / 1e3


def searched(page: Page, text: str) -> float:
    """Seconds from the last key of a search until its rows are there."""
    page.evaluate("""text => {
      const box = document.getElementById('search');
      document.querySelector('#view').innerHTML = '';
      box.focus();
      box.value = text;
      window.typedAt = performance.now();
      box.dispatchEvent(new Event('input'));
    }""", text)  # fmt: skip
    page.wait_for_function(f"{_ROWS} > 0 && (window.foundAt = performance.now())", polling="raf")
    return float(page.evaluate("window.foundAt - window.typedAt")) / 1e3


def measured(address: str, n_runs: int) -> dict[str, list[float]]:
    """Seconds of each of the things that are measured, run by run."""
    found: dict[str, list[float]] = {name: [] for name in ("first paint", "rows shown", "search", "account")}
    chromium = os.environ.get("STILLWATCH_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(bypass_csp=True).new_page()  # for the clock's own script
        opened(page, address)  # warm
        for run in range(n_runs):
            paint, rows = opened(page, address)
            found["first paint"].append(paint)
            found["rows shown"].append(rows)
            found["search"].append(searched(page, f"session-0{run:02}1"))
            began = time.perf_counter()
            page.evaluate("document.querySelector('tr[data-session] a').click()")
            page.locator("#view h2").wait_for()
            found["account"].append(time.perf_counter() - began)
        browser.close()
    return found


def main() -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "review.db")
        seconds = filled(place, options.sessions)
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
        print(f"{options.sessions:,} sessions put in {seconds:.1f} s, {size:,.0f} MB\n")
        with served(review=place, rate_per_s=1e6) as address:
            found = measured(address, options.runs)
    print("| seconds | median | worst of", options.runs, "|\n|---|---|---|")
    for name, values in found.items():
        print(f"| {name} | {np.median(values):.3f} | {max(values):.3f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
