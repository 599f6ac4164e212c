"""Figures: a training run drawn, from margins of campaigns that were left out."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from train.compose import DILUTIONS
from train.model import Model
from train.summary import FPR, Curve

matplotlib.use("Agg")


def figures(model: Model, growth: Curve) -> Mapping[str, Figure]:
    """All figures of a run by name."""
    score = model.calibration.score(model.margins_left_out)
    return {
        "roc": _roc(model, score),
        "scores": _scores(model, score),
        "calibration": _calibration(model, score),
        "growth": _growth(growth),
    }


def _roc(model: Model, score: NDArray[np.float64]) -> Figure:
    figure, axes = _blank("share of organic sessions flagged", "share of harvesting sessions flagged")
    table = model.table
    for dilution in DILUTIONS:
        own = (table.y == 0) | ((table.y == 1) & np.isclose(table.dilution, dilution))
        if len(np.unique(table.y[own])) == 2:
            fpr, tpr, _ = roc_curve(table.y[own], score[own])
            axes.plot(np.maximum(fpr, 1e-4), tpr, label=f"{dilution:.0%} cover traffic")
    axes.axvline(FPR, color="grey", linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.legend()
    return figure


def _scores(model: Model, score: NDArray[np.float64]) -> Figure:
    figure, axes = _blank("score", "sessions")
    for label, name in ((0, "organic"), (1, "harvesting")):
        axes.hist(score[model.table.y == label], bins=40, range=(0, 1), alpha=0.6, label=name)
    axes.legend()
    return figure


def _calibration(model: Model, score: NDArray[np.float64]) -> Figure:
    figure, axes = _blank("mean score", "share harvesting")
    bins = np.minimum((score * 10).astype(np.int64), 9)
    counts = np.bincount(bins, minlength=10)
    filled = counts > 0
    means = np.bincount(bins, weights=score, minlength=10)[filled] / counts[filled]
    shares = np.bincount(bins, weights=model.table.y, minlength=10)[filled] / counts[filled]
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    axes.plot(means, shares, marker="o")
    return figure


def _growth(growth: Curve) -> Figure:
    figure, axes = _blank("exchanges", "TPR at 1 % FPR, undiluted")
    axes.plot(growth.steps, growth.values, marker="o")
    axes.set_ylim(0, 1)
    return figure


def _blank(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes
