"""Exam report: the exam's numbers as JSON and Markdown, misses included."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.config.settings import Settings
from train.evaluation.exam import (
    Cell,
    ExamSettings,
    FoldScores,
    auroc,
    evaluation_rate,
    fpr_by_source,
    tpr,
    tpr_by_campaign,
)
from train.learning.calibration import expected_calibration_error
from train.reports.exam_figures import exam_plots
from train.reports.run_page import write_exam_page
from train.synthesis.compose import ACCOUNT_DILUTIONS

OURS = "ours"
FPRS = (0.01, 0.001)
PREVALENCES = (0.1, 0.01, 0.001)
REPORTS = Path("mlruns") / "reports"


@dataclass(frozen=True)
class ExamReport:
    """The report as plain values, as a page, and as the few numbers that runs are compared by."""

    values: Mapping[str, Any]
    markdown: str
    metrics: Mapping[str, float]


def write_exam(results: Sequence[FoldScores], settings: Settings) -> ExamReport:
    """Measure everything, write `exam.json`, `exam.md` and `exam.html` below mlruns/reports, and give both back."""
    values = {
        "seed": settings.seed,
        "settings": {setting: _measured(own, settings.exam) for setting, own in _by_setting(results)},
    }
    report = ExamReport(values, _page(values), _metrics(values))
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / "exam.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    (REPORTS / "exam.md").write_text(report.markdown, encoding="utf-8")
    write_exam_page(REPORTS / "exam.html", exam_plots(values))
    return report


def _by_setting(results: Sequence[FoldScores]) -> Iterator[tuple[str, list[FoldScores]]]:
    for setting in dict.fromkeys(result.setting for result in results):
        yield setting, [result for result in results if result.setting == setting]


def _measured(own: Sequence[FoldScores], settings: ExamSettings) -> dict[str, Any]:
    middle = 50 if 50 in settings.lengths else settings.lengths[-1]
    return {
        "cells": [
            row for name in own[0].scores for length in settings.lengths for row in _cells(own, name, length, settings)
        ],
        "tpr_by_campaign": tpr_by_campaign(own, OURS, middle, 0.0, 0.01),
        "fpr_by_source": fpr_by_source(own, OURS, middle, 0.01),
        "evaluation_rate": evaluation_rate(own, OURS, middle, 0.01),
        "realised_fpr": {str(fpr): _realised(own, fpr) for fpr in FPRS},
        "ece": _ece(own),
        "exchanges_until_detection": _detection(own),
        "length": middle,
        "accounts": _accounts(own),
    }


def _accounts(own: Sequence[FoldScores]) -> dict[str, Any]:
    """TPR at 1 % FPR of each rule on whole accounts, by dilution, and the realised FPR of the model's p-values."""
    found = [result.accounts for result in own if result.accounts is not None]
    if not found:
        return {}
    rules = {
        rule: {
            str(share): round(float(np.mean([accounts.tpr(rule, share, 0.01) for accounts in found])), 4)
            for share in ACCOUNT_DILUTIONS
        }
        for rule in found[0].scores
    }
    flagged = float(np.mean([(accounts.p_value[~accounts.is_harvesting] <= 0.01).mean() for accounts in found]))
    return {"tpr@0.01": rules, "realised_fpr": round(flagged, 5)}


def _cells(own: Sequence[FoldScores], name: str, length: int, settings: ExamSettings) -> Iterator[dict[str, Any]]:
    n_bootstrap = settings.n_bootstrap if name == OURS else 0
    for dilution in settings.dilutions:
        row: dict[str, Any] = {"model": name, "length": length, "dilution": dilution}
        row["auroc"] = _plain(auroc(own, name, length, dilution, n_bootstrap))
        for fpr in FPRS:
            cell = tpr(own, name, length, dilution, fpr, n_bootstrap)
            row[f"tpr@{fpr}"] = _plain(cell)
            row[f"precision@{fpr}"] = {str(share): _precision(cell.value, fpr, share) for share in PREVALENCES}
        yield row


def _plain(cell: Cell) -> list[float]:
    return [round(value, 4) for value in (cell.value, cell.low, cell.high)]


def _precision(tpr_value: float, fpr: float, prevalence: float) -> float:
    """Share of flagged sessions that harvest, when `prevalence` of all do."""
    caught, false = tpr_value * prevalence, fpr * (1.0 - prevalence)
    return round(caught / (caught + false), 4)


def _realised(own: Sequence[FoldScores], fpr: float) -> list[float]:
    """Share of organic exam sessions whose conformal p-value is at most `fpr`: over all, lowest and highest fold."""
    rates = [
        float((result.p_value[(result.kind != "harvest") & (result.kind != "evaluation")] <= fpr).mean())
        for result in own
        if result.p_value is not None
    ]
    return [round(value, 5) for value in (float(np.mean(rates)), min(rates), max(rates))]


def _ece(own: Sequence[FoldScores]) -> float:
    """Calibration error over sessions of campaigns and organic ones, each label with the same weight."""
    gaps = []
    for result in own:
        if result.score is not None:
            y = result.is_harvesting.astype(np.int64)
            chosen = _balanced(y[result.kind != "evaluation"])
            known = np.flatnonzero(result.kind != "evaluation")[chosen]
            gaps.append(expected_calibration_error(result.score[known], y[known]))
    return round(float(np.mean(gaps)), 4)


def _balanced(y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows with as many of either label."""
    rng = np.random.default_rng(0)
    n = min(int((y == label).sum()) for label in (0, 1))
    return np.concatenate([rng.choice(np.flatnonzero(y == label), n, replace=False) for label in (0, 1)])


def _detection(own: Sequence[FoldScores]) -> dict[str, float]:
    """Quartiles of exchanges until the first flag at 1 %, of those that are ever flagged, and the share that are."""
    found = np.concatenate([result.detected_at for result in own if result.detected_at is not None])
    caught = found[found > 0]
    quartiles = np.quantile(caught, (0.25, 0.5, 0.75)) if len(caught) else [float("nan")] * 3
    names = ("first quarter", "half", "three quarters")
    return {"ever": round(float((found > 0).mean()), 4)} | dict(zip(names, map(float, quartiles), strict=True))


def _metrics(values: Mapping[str, Any]) -> dict[str, float]:
    metrics = {}
    for setting, own in values["settings"].items():
        for row in own["cells"]:
            if row["model"] == OURS:
                key = f"{setting.replace(' ', '_')}.n{row['length']}.d{round(100 * row['dilution'])}"
                metrics[f"{key}.auroc"] = row["auroc"][0]
                metrics[f"{key}.tpr_at_1_percent"] = row["tpr@0.01"][0]
    return metrics


def _page(values: Mapping[str, Any]) -> str:
    lines = ["# Exam", ""]
    for setting, own in values["settings"].items():
        lines += [
            f"## {setting[0].upper()}{setting[1:]}",
            "",
            *_ours(own),
            "",
            *_others(own),
            "",
            *_whole_accounts(own),
            "",
            *_details(own),
            "",
        ]
    return "\n".join(lines)


def _ours(own: Mapping[str, Any]) -> Iterator[str]:
    yield "| exchanges | dilution | AUROC | TPR at 1 % FPR | TPR at 0.1 % FPR | precision at 1 % prevalence, 1 % FPR |"
    yield "|---|---|---|---|---|---|"
    for row in own["cells"]:
        if row["model"] == OURS:
            cells = " | ".join("{:.3f} ({:.3f}–{:.3f})".format(*row[key]) for key in ("auroc", "tpr@0.01", "tpr@0.001"))
            precision = row["precision@0.01"]["0.01"]
            yield f"| {row['length']} | {row['dilution']:.0%} | {cells} | {precision:.2f} |"


def _others(own: Mapping[str, Any]) -> Iterator[str]:
    """Every model at the middle length, AUROC / TPR at 1 % FPR a dilution."""
    rows = [row for row in own["cells"] if row["length"] == own["length"]]
    dilutions = sorted({row["dilution"] for row in rows})
    yield f"At {own['length']} exchanges, AUROC / TPR at 1 % FPR:"
    yield ""
    yield "| model | " + " | ".join(f"{share:.0%}" for share in dilutions) + " |"
    yield "|---" * (len(dilutions) + 1) + "|"
    for name in dict.fromkeys(row["model"] for row in rows):
        cells = [f"{row['auroc'][0]:.2f} / {row['tpr@0.01'][0]:.2f}" for row in rows if row["model"] == name]
        yield f"| {name} | " + " | ".join(cells) + " |"


def _whole_accounts(own: Mapping[str, Any]) -> Iterator[str]:
    """TPR at 1 % FPR of each rule on whole accounts."""
    if not own["accounts"]:
        return
    yield "Whole accounts, TPR at 1 % FPR:"
    yield ""
    yield "| rule | " + " | ".join(f"{share:.0%}" for share in ACCOUNT_DILUTIONS) + " |"
    yield "|---" * (len(ACCOUNT_DILUTIONS) + 1) + "|"
    for rule, cells in own["accounts"]["tpr@0.01"].items():
        yield f"| {rule} | " + " | ".join(f"{value:.2f}" for value in cells.values()) + " |"
    yield ""
    yield f"FPR of p-values of whole accounts at 1 %, as realised: {own['accounts']['realised_fpr']:.4f}."


def _details(own: Mapping[str, Any]) -> Iterator[str]:
    campaigns = ", ".join(f"{name} {share:.2f}" for name, (share, _) in own["tpr_by_campaign"].items())
    sources = ", ".join(f"{name} {share:.3f}" for name, (share, _) in own["fpr_by_source"].items() if share > 0)
    yield f"- TPR at 1 % FPR by campaign, undiluted: {campaigns}."
    yield f"- FPR by organic kind and source where it is not 0: {sources or 'none'}."
    yield f"- Benchmark runs flagged: {own['evaluation_rate']:.2f}."
    realised = ", ".join(f"{rate[0]:.4f} at {fpr}" for fpr, rate in own["realised_fpr"].items())
    yield f"- FPR of the conformal threshold, as realised: {realised}. ECE {own['ece']:.3f}."
    detection = own["exchanges_until_detection"]
    half, ever = detection["half"], detection["ever"]
    yield f"- Exchanges until the first flag at 1 %: median {half:.0f}; ever flagged: {ever:.2f}."
