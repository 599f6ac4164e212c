"""Run figures: a training run drawn, from margins of campaigns and organic sources that were left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from serve.sessions.size_classes import SIZE_EDGES, size_class
from train.evaluation.exam import fpr_by_source, tpr_by_campaign
from train.evaluation.quality import FPR, fold_scores, mean_tpr, tpr_growth
from train.evaluation.thresholds import fpr_limits
from train.learning.model import Model
from train.learning.table import Table
from train.reports.plots import COLOURS, MARKERS, Plot, bars, blank
from train.synthesis.compose import DILUTIONS

FPRS = np.geomspace(1e-3, 0.5, 40)
_N_DRAWS = 100
_TICKS = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95)


def run_plots(model: Model) -> tuple[Plot, ...]:
    """All figures of a run."""
    score = model.calibration.score(model.margins_left_out)
    curves = tuple(_curves(model.table, model.margins_left_out))
    return (
        _roc(curves), _det(curves), _cells(model), _growth(model), _campaigns(model), _sources(model),
        _reliability(model, score), _scores(model, score), _families(model),
    )  # fmt: skip


@dataclass(frozen=True)
class RocCurve:
    """TPR at each of `FPRS` for one dilution, with a 95 % interval from resampling campaigns and organic sessions."""

    dilution: float
    tpr: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def _curves(table: Table, margins: NDArray[np.float64]) -> Iterator[RocCurve]:
    rng = np.random.default_rng(0)
    organic = margins[table.y == 0]
    for dilution in DILUTIONS:
        own = (table.y == 1) & np.isclose(table.dilution, dilution)
        if not (own.any() and len(organic)):
            continue
        by_campaign = [margins[own & (table.campaign == name)] for name in np.unique(table.campaign[own])]
        draws = np.stack([
            rates_at(
                np.concatenate([by_campaign[i] for i in rng.integers(0, len(by_campaign), len(by_campaign))]),
                rng.choice(organic, size=len(organic)),
            )
            for _ in range(_N_DRAWS)
        ])  # fmt: skip
        low, high = np.quantile(draws, (0.025, 0.975), axis=0)
        yield RocCurve(dilution, rates_at(margins[own], organic), low, high)


def rates_at(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of `positive` above the threshold that at most each of `FPRS` of `negative` lies above."""
    limits = fpr_limits(negative, FPRS)
    return np.asarray(1.0 - np.searchsorted(np.sort(positive), limits, side="right") / len(positive))


def _roc(curves: tuple[RocCurve, ...]) -> Plot:
    figure, axes = blank("share of organic sessions flagged (log scale)", "share of harvesting sessions flagged")
    for curve, colour, marker in zip(curves, COLOURS, MARKERS, strict=False):
        label = f"{curve.dilution:.0%} cover traffic"
        axes.plot(FPRS, curve.tpr, color=colour, marker=marker, markevery=6, markersize=4, label=label)
        axes.fill_between(FPRS, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.axvline(FPR, color="grey", linewidth=0.8, linestyle="--")
    _legend(axes)
    rows = tuple(
        (f"{curve.dilution:.0%}", f"{fpr:.2%}", f"{float(np.interp(fpr, FPRS, curve.tpr)):.3f}",
         f"{float(np.interp(fpr, FPRS, curve.low)):.3f}–{float(np.interp(fpr, FPRS, curve.high)):.3f}")
        for curve in curves
        for fpr in (0.001, 0.01, 0.05)
    )  # fmt: skip
    caption = "ROC by share of cover traffic, 95 % intervals from resampling campaigns. Dashed: 1 % FPR."
    return Plot(
        "roc", "How many are caught at which price?", caption, figure, ("cover traffic", "FPR", "TPR", "95 %"), rows
    )


def _det(curves: tuple[RocCurve, ...]) -> Plot:
    figure, axes = blank("share of organic sessions flagged", "share of harvesting sessions missed")
    for curve, colour, marker in zip(curves, COLOURS, MARKERS, strict=False):
        misses = [norm.ppf(np.clip(1.0 - part, 5e-4, 0.9995)) for part in (curve.tpr, curve.low, curve.high)]
        x = norm.ppf(FPRS)
        label = f"{curve.dilution:.0%} cover traffic"
        axes.plot(x, misses[0], color=colour, marker=marker, markevery=6, markersize=4, label=label)
        axes.fill_between(x, misses[1], misses[2], color=colour, alpha=0.15, linewidth=0)
    for set_ticks in (axes.set_xticks, axes.set_yticks):
        set_ticks(norm.ppf(_TICKS), [f"{tick:g}" for tick in _TICKS])
    axes.set_xlim(norm.ppf(FPRS[0]), norm.ppf(FPRS[-1]))
    _legend(axes)
    rows = tuple((f"{c.dilution:.0%}", f"{_equal_error(c):.3f}") for c in curves)
    caption = "DET: both errors on the scale of a normal deviate, where equal Gaussian classes make a straight line."
    return Plot("det", "How do the two errors trade?", caption, figure, ("cover traffic", "equal error rate"), rows)


def _equal_error(curve: RocCurve) -> float:
    nearest = int(np.abs(1.0 - curve.tpr - FPRS).argmin())
    return float((1.0 - curve.tpr[nearest] + FPRS[nearest]) / 2)


def _cells(model: Model) -> Plot:
    """TPR by length and dilution."""
    classes = size_class(model.table.n_exchanges)
    rates = np.full((len(SIZE_EDGES), len(DILUTIONS)), np.nan)
    for size, (column, dilution) in itertools.product(range(len(SIZE_EDGES)), enumerate(DILUTIONS)):
        own = model.table.where(classes == size)
        positive = (own.y == 1) & np.isclose(own.dilution, dilution)
        if positive.any() and (own.y == 0).any():
            margins = model.margins_left_out[classes == size]
            caught = rates_at(margins[positive], margins[own.y == 0])
            rates[size, column] = np.interp(FPR, FPRS, caught)
    figure, axes = blank("cover traffic", "exchanges")
    image = axes.imshow(rates, cmap="cividis", vmin=0, vmax=1, aspect="auto", origin="lower")
    axes.set_xticks(range(len(DILUTIONS)), [f"{share:.0%}" for share in DILUTIONS])
    names = [f"{low}–{high - 1}" for low, high in itertools.pairwise(SIZE_EDGES)] + [f"{SIZE_EDGES[-1]}+"]
    axes.set_yticks(range(len(SIZE_EDGES)), names)
    for (size, column), rate in np.ndenumerate(rates):
        if not np.isnan(rate):
            axes.text(column, size, f"{rate:.2f}", ha="center", va="center", color="white" if rate < 0.6 else "black")
    figure.colorbar(image, label="TPR at 1 % FPR")
    rows = tuple(
        (name, *("" if np.isnan(r) else f"{r:.3f}" for r in own)) for name, own in zip(names, rates, strict=True)
    )
    caption = "TPR at 1 % FPR; the threshold of each length is that of its own organic sessions."
    header = ("exchanges", *(f"{share:.0%}" for share in DILUTIONS))
    return Plot("lengths", "What do length and cover traffic cost?", caption, figure, header, rows)


def _growth(model: Model) -> Plot:
    grown = tpr_growth(model)
    figure, axes = blank("exchanges, at least", "TPR at 1 % FPR, undiluted")
    axes.plot(grown.steps, grown.values, marker="o", color=COLOURS[0])
    axes.set_ylim(0, 1)
    rows = tuple((str(step), f"{value:.3f}") for step, value in zip(grown.steps, grown.values, strict=True))
    return Plot(
        "growth", "After how many exchanges?", "TPR at 1 % FPR of undiluted campaigns by size of session.", figure,
        ("exchanges", "TPR"), rows,
    )  # fmt: skip


def _campaigns(model: Model) -> Plot:
    result = [fold_scores(model.table, model.margins_left_out)]
    found = tpr_by_campaign(result, "model", 0, 0.0, FPR) if _has_both(model.table) else {}
    caption = "TPR at 1 % FPR of undiluted sessions, each scored by a booster that never saw the campaign."
    values = [(name, share, n) for name, (share, n) in found.items()]
    return bars("campaigns", "Which campaigns are caught?", caption, values, "TPR at 1 % FPR")


def _sources(model: Model) -> Plot:
    result = [fold_scores(model.table, model.margins_left_out)]
    found = fpr_by_source(result, "model", 0, FPR) if _has_both(model.table) else {}
    caption = "Share of each organic source's sessions above the threshold that 1 % of all organic sessions lie above."
    values = [(name, share, n) for name, (share, n) in found.items() if share > 0]
    return bars("sources", "Who is flagged by mistake?", caption, values, "FPR")


def _reliability(model: Model, score: NDArray[np.float64]) -> Plot:
    bins = np.minimum((score * 10).astype(np.int64), 9)
    counts = np.bincount(bins, minlength=10)
    filled = np.flatnonzero(counts)
    means = np.bincount(bins, weights=score, minlength=10)[filled] / counts[filled]
    shares = np.bincount(bins, weights=model.table.y, minlength=10)[filled] / counts[filled]
    figure, axes = blank("mean score", "share that harvests")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    axes.plot(means, shares, marker="o", color=COLOURS[0])
    rows = tuple(
        (f"{bin_ / 10:.1f}–{bin_ / 10 + 0.1:.1f}", f"{mean:.3f}", f"{share:.3f}", f"{counts[bin_]:,}")
        for bin_, mean, share in zip(filled.tolist(), means, shares, strict=True)
    )
    return Plot(
        "calibration", "Does a score mean what it says?", "Reliability: on the dashed line a score is a probability.",
        figure, ("score", "mean score", "share that harvests", "sessions"), rows,
    )  # fmt: skip


def _scores(model: Model, score: NDArray[np.float64]) -> Plot:
    figure, axes = blank("score", "share of sessions")
    rows = []
    for label, name, hatch in ((0, "organic", None), (1, "harvesting", "//")):
        own = score[model.table.y == label]
        counts, _ = np.histogram(own, bins=20, range=(0, 1))
        axes.bar(np.arange(20) / 20 + 0.0125 + 0.0225 * label, counts / max(len(own), 1), width=0.0225, label=name,
                 color=COLOURS[label], hatch=hatch)  # fmt: skip
        rows.append((name, f"{len(own):,}", *(f"{float(q):.3f}" for q in np.quantile(own, (0.1, 0.5, 0.9)))))
    _legend(axes)
    return Plot(
        "scores", "How far apart are the scores?", "Scores of sessions, each label with the same area.", figure,
        ("label", "sessions", "10 %", "median", "90 %"), tuple(rows),
    )  # fmt: skip


def _families(model: Model) -> Plot:
    """Gain of each feature family, and what is lost on unseen campaigns when its columns are shuffled together."""
    names = np.array(model.classifier.trees.booster.feature_name())
    family = np.array([name.split(".")[0].split("_")[0] for name in names])
    gain = model.classifier.trees.booster.feature_importance("gain")
    rng = np.random.default_rng(0)
    rows = []
    for own in sorted(set(family.tolist())):
        lost = [_lost(model, part, np.flatnonzero(family == own), rng) for part in range(len(model.inner))]
        rows.append((own, float(gain[family == own].sum() / max(gain.sum(), 1e-12)), *np.mean(lost, axis=0).tolist()))
    rows.sort(key=lambda row: row[1])
    figure, axes = blank("share of gain / AUROC lost", "", height=max(2.0, 0.5 * len(rows) + 0.8))
    place = np.arange(len(rows))
    axes.barh(place + 0.2, [row[1] for row in rows], height=0.38, color=COLOURS[0], label="share of gain")
    axes.barh(place - 0.2, [row[2] for row in rows], height=0.38, color=COLOURS[1], label="AUROC lost", hatch="//")
    axes.set_yticks(place, [row[0] for row in rows])
    _legend(axes)
    told = tuple((name, f"{share:.3f}", f"{auroc:.4f}", f"{tpr:.4f}") for name, share, auroc, tpr in reversed(rows))
    return Plot(
        "families", "Which features carry it?",
        "Gain in the trees, and AUROC lost on unseen campaigns when a family's columns are shuffled together.", figure,
        ("family", "share of gain", "AUROC lost", "mean TPR at 1 % FPR lost"), told,
    )  # fmt: skip


def _lost(model: Model, part: int, columns: NDArray[np.int64], rng: np.random.Generator) -> tuple[float, float]:
    """AUROC and mean TPR lost on the held-out side of an inner fold."""
    inner = model.inner[part]
    own = model.table.where(inner.held)
    if len(np.unique(own.y)) < 2:
        return 0.0, 0.0
    shuffled = own.X.copy()
    shuffled[:, columns] = own.X[rng.permutation(len(own))][:, columns]
    margins = inner.classifier.margins(shuffled)
    whole = float(roc_auc_score(own.y, inner.margins)), mean_tpr(own, inner.margins)
    return whole[0] - float(roc_auc_score(own.y, margins)), whole[1] - mean_tpr(own, margins)


def _has_both(table: Table) -> bool:
    return bool(((table.y == 1) & np.isclose(table.dilution, 0.0)).any() and (table.y == 0).any())


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
