"""Demo: `python -m train.demo` scores sample traffic with the bundle just trained and with the released one."""

from __future__ import annotations

import json
import sys
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from serve.bundle.bundle import Bundle
from serve.bundle.files import MANIFEST, RELEASED
from serve.cli import main as stillwatch
from train.corpora.loading import CorporaSettings, load_pool
from train.experiments.traffic import compose_traffic
from train.learning.bundling import BundlingSettings, latest_bundle
from train.synthesis.traffic_files import EXCHANGES, LABELS, write_traffic

FOLDER = Path(".demo")
SEED = 2026  # other prompts than those that were learned from, of the same families
N_SESSIONS = 60
N_SHOWN = 16

Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Judging:
    """The verdicts of one bundle, by session."""

    name: str
    folder: Path
    verdicts: Rows


def main() -> int:
    """Write sample traffic, score it with both bundles through the command's own path, and show what came out."""
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 110)
    try:
        trained = latest_bundle(BundlingSettings())
        pool = load_pool(CorporaSettings(starter_prompts=9_000), seed=SEED)
        composition = compose_traffic(pool, Bundle.load(trained), N_SESSIONS, seed=SEED)
        write_traffic(composition, pool, FOLDER)
        bundles = {"trained": trained} | ({"released": RELEASED} if (RELEASED / MANIFEST).is_file() else {})
        judgings = [judge(name, folder) for name, folder in bundles.items()]
    except ValueError as fault:
        console.print(f"demo: {fault}", style="red", markup=False)
        return 2
    labels = rows(FOLDER / LABELS)
    console.print(verdict_table(labels, judgings))
    for judging in judgings:
        console.print(tally(labels, judging))
    _where(console, trained, judgings)
    return 0


def judge(name: str, bundle: Path) -> Judging:
    """Verdicts of a bundle on the sample traffic, as `stillwatch score` writes them.

    Raises:
        ValueError: when the command fails.
    """
    out = FOLDER / f"{name}.jsonl"
    if code := stillwatch(["score", str(FOLDER / EXCHANGES), "--out", str(out), "--bundle", str(bundle)]):
        raise ValueError(f"stillwatch score ended with exit code {code}")
    return Judging(name, bundle, rows(out))


def rows(path: Path) -> Rows:
    """Rows of a JSON lines file by session."""
    found = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {row["session_id"]: row for row in found}


def verdict_table(labels: Rows, judgings: list[Judging]) -> Table:
    """A few sessions of every kind: what each is, and what each bundle says of it."""
    table = Table(title=f"some of {len(labels)} sessions of sample traffic: verdict, score and p-value by bundle")
    for column in ("session", "in truth", "n", *(judging.name for judging in judgings)):
        table.add_column(column, no_wrap=True)
    for session in _some(labels):
        known = labels[session]
        truth = f"harvesting, {known['dilution']:.0%} cover" if known["label"] == "harvesting" else known["kind"]
        said = [_said(judging.verdicts[session]) for judging in judgings]
        table.add_row(session.removeprefix("session-0"), truth, str(known["n_exchanges"]), *said)
    return table


def _said(verdict: Mapping[str, Any]) -> str:
    colour = {"harvesting": "red", "organic": "green"}.get(verdict["label"], "yellow")
    return f"[{colour}]{verdict['label']}[/] {verdict['score']:.2f} {verdict['p_value']:.3f}"


def tally(labels: Rows, judging: Judging) -> str:
    """How many sessions of each label a bundle flagged."""
    parts = []
    for label in ("harvesting", "organic"):
        own = [session for session, row in labels.items() if row["label"] == label]
        n_flagged = sum(judging.verdicts[session]["label"] == "harvesting" for session in own)
        parts.append(f"{n_flagged} of {len(own)} {label} sessions")
    bundle = next(iter(judging.verdicts.values()))["bundle"]
    return f"{judging.name:<9} bundle {bundle} flags {' and '.join(parts)}"


def _some(labels: Rows) -> list[str]:
    """Sessions in turn from every kind and dilution."""
    piles: dict[tuple[str, float], list[str]] = {}
    for session, row in sorted(labels.items()):
        piles.setdefault((row["kind"], row["dilution"]), []).append(session)
    n_each = -(-N_SHOWN // len(piles))
    return [session for _, pile in sorted(piles.items()) for session in pile[:n_each]]


def _where(console: Console, trained: Path, judgings: list[Judging]) -> None:
    training = Path("mlruns") / "reports" / f"{trained.name}.html"
    console.print(f"training report  {training}")
    if sys.stdout.isatty() and training.is_file():
        webbrowser.open(training.resolve().as_uri())
    page, judging = FOLDER / "report.html", judgings[0]
    verdicts = FOLDER / f"{judging.name}.jsonl"
    exchanges = ["--exchanges", str(FOLDER / EXCHANGES), "--bundle", str(judging.folder)]
    if stillwatch(["report", str(verdicts), "--out", str(page), *exchanges]) == 0:
        console.print(f"verdict report   {page}")
    console.print(f"sample traffic   {FOLDER / EXCHANGES}, its verdicts and labels beside it")
    console.print("MLflow run       .venv/bin/mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db")
