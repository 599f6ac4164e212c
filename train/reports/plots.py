"""Plots: figures with what they say and the numbers behind them, as a page shows them and MLflow keeps them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.use("Agg")

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe & Ito (2008): told apart by people with any kind of colour vision."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True)
class Plot:
    """One figure: what is asked, what the figure shows, and its numbers as rows under a `header`."""

    name: str
    title: str
    caption: str
    figure: Figure
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def source(self) -> str:
        """The figure as the source of an image inside a page, always the same bytes for the same figure."""
        out = io.BytesIO()
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": self.name}):
            self.figure.savefig(out, format="svg", metadata={"Date": None})
        return f"data:image/svg+xml;base64,{base64.b64encode(out.getvalue()).decode()}"


def blank(x: str, y: str, *, height: float = 4.0) -> tuple[Figure, Axes]:
    """A figure with one pair of axes."""
    figure = Figure(figsize=(6.4, height), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def bars(name: str, title: str, caption: str, values: Sequence[tuple[str, float, int]], unit: str) -> Plot:
    """Shares (0-1) by name with how many sessions each is of, sorted, the largest on top."""
    ordered = sorted(values, key=lambda value: (value[1], value[0]))
    figure, axes = blank(unit, "", height=max(1.8, 0.22 * len(ordered) + 0.8))
    axes.barh([name for name, _, _ in ordered], [value for _, value, _ in ordered], color=COLOURS[0])
    axes.set_xlim(0, max([value for _, value, _ in ordered], default=1.0) * 1.05 or 1.0)
    axes.set_ylim(-0.7, len(ordered) - 0.3)
    axes.tick_params(axis="y", labelsize=8)
    rows = tuple((name, f"{value:.4f}", f"{n:,}") for name, value, n in reversed(ordered))
    return Plot(name, title, caption, figure, ("", unit, "sessions"), rows)
