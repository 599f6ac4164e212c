"""Redteam: how far each evasion gets a campaign that a bundle never saw, and what it costs.

`python -m train.redteam --bundle DIR --traffic DIR --out DIR` takes traffic as `train.traffic` writes it (a run with
`hold_out` leaves it in mlruns/held_out), applies every evasion to its undiluted harvesting sessions, and writes
detection against price as a table (`redteam.md`), numbers (`redteam.json`) and a curve (`redteam.svg`).
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.bundle.files import RELEASED
from serve.scoring.scorer import Scorer, load
from serve.sessions.records import Sessions
from serve.sessions.size_classes import size_class
from train.evaluation.thresholds import fpr_limit
from train.reports.plots import COLOURS, blank
from train.synthesis.evasions import EVASIONS, Evasion, Scene, Sending, Sent, combined
from train.synthesis.traffic_files import EXCHANGES, LABELS
from train.tracking import mlflow_runs as tracking

FPR = 0.01
EXPERIMENT = "stillwatch-redteam"
_CHUNK_PROMPTS = 20_000


@dataclass(frozen=True)
class HeldTraffic:
    """Held-out sessions: harvesting ones by campaign, benign ones that set the threshold, and others to hide in."""

    campaigns: Mapping[str, tuple[Sending, ...]]
    benign: tuple[Sending, ...]
    cover: tuple[Sending, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What an evasion comes to.

    `tpr` is the share of harvesting sessions above the score that 1 % of benign sessions of like size lie above,
    `flagged` the share that the bundle flags itself, and `lost` the share of harvested prompts that lie in sessions it
    flags. `prompts`, `accounts` and `calls` are the price: prompts sent for each harvested one, accounts for each that
    the plain campaign has, and calls of an LLM a harvested prompt.
    """

    name: str
    n_sessions: int
    tpr: float
    flagged: float
    lost: float
    prompts: float
    accounts: float
    calls: float


@dataclass(frozen=True)
class _Scores:
    score: NDArray[np.float64]
    is_flagged: NDArray[np.bool_]
    n_exchanges: NDArray[np.int64]


def read_held(folder: Path, *, n_exchanges: int, n_sessions: int) -> HeldTraffic:
    """Undiluted harvesting sessions of `n_exchanges` prompts, at most `n_sessions` of them, and all benign ones.

    Raises:
        ValueError: when there are no such sessions.
    """
    labels = [json.loads(line) for line in (folder / LABELS).read_text(encoding="utf-8").splitlines()]
    wanted = [row for row in labels if row["label"] == "harvesting" and row["dilution"] == 0.0]
    wanted = [row for row in wanted if row["n_exchanges"] == n_exchanges][:n_sessions]
    benign = [row["session_id"] for row in labels if row["label"] == "organic"]
    if not wanted or len(benign) < 2:
        raise ValueError(
            f"{folder} has {len(wanted)} undiluted harvesting sessions of {n_exchanges} exchanges and {len(benign)} "
            "organic ones, expected some of both"
        )
    sent = _read_sent(folder / EXCHANGES, {row["session_id"] for row in wanted} | set(benign))
    campaigns: dict[str, tuple[Sending, ...]] = {}
    for row in wanted:
        name = str(row["campaign"]).split("+")[0]
        campaigns[name] = (*campaigns.get(name, ()), tuple(sent[row["session_id"]]))
    limits, cover = benign[::2], benign[1::2]
    return HeldTraffic(
        campaigns, tuple(tuple(sent[name]) for name in limits), tuple(tuple(sent[name]) for name in cover)
    )


def attack(held: HeldTraffic, evasions: Iterable[Evasion], scorer: Scorer, *, seed: int) -> list[Result]:
    """What each evasion comes to; the same seed gives the same numbers."""
    benign = _scores(held.benign, scorer)
    plain = tuple(session for own in held.campaigns.values() for session in own)
    results = []
    for evasion in evasions:
        scene = Scene(held.cover, scorer.bundle, np.random.default_rng(seed))
        sent = tuple(s for own in held.campaigns.values() for s in evasion.apply(own, scene))
        results.append(_result(evasion, plain, sent, _scores(sent, scorer), benign))
    return results


def redteam_table(results: Sequence[Result]) -> str:
    """The results as a Markdown table, and the worst cell."""
    lines = [
        f"| evasion | prompts for each | accounts | LLM calls | TPR at {FPR:.0%} FPR | flagged | prompts in flagged |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.name} | {r.prompts:.2f} | {r.accounts:.0f} | {r.calls:.0f} "
        f"| {r.tpr:.3f} | {r.flagged:.3f} | {r.lost:.3f} |"
        for r in results
    ]
    worst = min(results, key=lambda result: (result.tpr, result.prompts))
    lines += ["", f"Worst: {worst.name}, TPR {worst.tpr:.3f}."]
    by_name = {result.name: result for result in results}
    if {"nothing", "surface"} <= set(by_name):
        fall = by_name["nothing"].tpr - by_name["surface"].tpr
        lines.append(f"Surface attack (lower case, no final punctuation, a fixed prefix): TPR falls by {fall:.3f}.")
    return "\n".join(lines) + "\n"


def write(results: Sequence[Result], folder: Path) -> None:
    """Write table, numbers and curve to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "redteam.md").write_text(redteam_table(results), encoding="utf-8")
    (folder / "redteam.json").write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    figure, axes = blank("prompts and accounts for each of the plain campaign (product, log scale)", "TPR at 1 % FPR")
    axes.set_xscale("log")
    axes.set_ylim(-0.03, 1.03)
    for result in results:
        price = result.prompts * result.accounts
        axes.scatter([price], [result.tpr], color=COLOURS[1 if result.calls else 0], s=18)
        axes.annotate(result.name, (price, result.tpr), fontsize=5, xytext=(3, 2), textcoords="offset points")
    figure.savefig(folder / "redteam.svg", metadata={"Date": None})


def _read_sent(path: Path, session_ids: set[str]) -> dict[str, list[Sent]]:
    sent: dict[str, list[Sent]] = {name: [] for name in session_ids}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            if row["session_id"] in session_ids:
                sent[row["session_id"]].append(Sent(row["prompt"], row["at"]))
    return sent


def _scores(sendings: Sequence[Sending], scorer: Scorer) -> _Scores:
    names = tuple(f"s{index}" for index in range(len(sendings)))
    sizes = [len(sending) for sending in sendings]
    prompts = tuple(sent.prompt for sending in sendings for sent in sending)
    at = np.array([sent.at for sending in sendings for sent in sending])
    sessions = Sessions(names, names, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), prompts, at)
    verdicts = [scorer.judge(part) for part in sessions.chunks(_CHUNK_PROMPTS)]
    return _Scores(
        np.concatenate([scorer.bundle.classifier.margins(part.features) for part in verdicts]),
        np.concatenate([part.p_value for part in verdicts]) <= FPR,
        sessions.n_exchanges,
    )


def _result(
    evasion: Evasion, plain: Sequence[Sending], sent: Sequence[Sending], found: _Scores, benign: _Scores
) -> Result:
    n_harvested = np.array([sum(one.is_harvested for one in sending) for sending in sent])
    n_wanted = sum(map(len, plain))
    own = n_harvested > 0
    return Result(
        evasion.name,
        int(own.sum()),
        float((found.score > _limits(found.n_exchanges, benign))[own].mean()),
        float(found.is_flagged[own].mean()),
        float(n_harvested[found.is_flagged].sum() / n_harvested.sum()),
        sum(map(len, sent)) / n_wanted,
        len(sent) / len(plain),
        evasion.calls,
    )


def _limits(n_exchanges: NDArray[np.int64], benign: _Scores) -> NDArray[np.float64]:
    """For each size the margin that at most 1 % of benign sessions of the nearest size class with 100 lie above."""
    classes = size_class(benign.n_exchanges)
    full = np.flatnonzero(np.bincount(classes) >= 1.0 / FPR)
    limits = {}
    for wanted in np.unique(size_class(n_exchanges)).tolist():
        nearest = full[np.argmin(np.abs(full - wanted))] if len(full) else None
        limits[wanted] = fpr_limit(benign.score if nearest is None else benign.score[classes == nearest], FPR)
    return np.array([limits[index] for index in size_class(n_exchanges).tolist()])


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack, write and log."""
    parser = argparse.ArgumentParser(prog="python -m train.redteam", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=RELEASED, metavar="DIR", help="bundle to attack")
    parser.add_argument("--traffic", type=Path, required=True, metavar="DIR", help="held-out traffic with labels")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--exchanges", type=int, default=50, help="size of the sessions that are attacked with (50)")
    parser.add_argument("--sessions", type=int, default=200, help="how many of them at most (200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--untracked", action="store_true", help="keep MLflow out of it")
    given = parser.parse_args(arguments)
    try:
        held = read_held(given.traffic, n_exchanges=given.exchanges, n_sessions=given.sessions)
        scorer = load(given.bundle, fpr=FPR)
    except (ValueError, OSError) as fault:
        sys.stderr.write(f"redteam: {fault}\n")
        return 2
    results = attack(held, (*EVASIONS, *combined()), scorer, seed=given.seed)
    write(results, given.out)
    if not given.untracked:
        _log(results, scorer.bundle.bundle_id, given.out)
    sys.stdout.write(redteam_table(results))
    return 0


def _log(results: Sequence[Result], bundle_id: str, folder: Path) -> None:
    with tracking.tracked(f"redteam {bundle_id}", EXPERIMENT, {"bundle": bundle_id}, {"bundle": bundle_id}):
        tracking.log_metrics({f"tpr.{r.name.replace('%', '').replace(', ', '/')}": r.tpr for r in results})
        for name in ("redteam.md", "redteam.json", "redteam.svg"):
            tracking.log_file(folder / name)
