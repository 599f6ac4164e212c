"""Exam figures: what an exam measured, drawn from the values of its report, setting by setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from train.reports.plots import COLOURS, MARKERS, Plot, bars, blank

_OURS = "ours"
_TPR = "tpr@0.01"


def exam_plots(values: Mapping[str, Any]) -> dict[str, tuple[Plot, ...]]:
    """Plates of every setting, from the values that `exam.json` holds."""
    return {
        setting: (
            _dilutions(setting, own), _baselines(setting, own), _campaigns(setting, own), _sources(setting, own),
            _detection(setting, own),
        )
        for setting, own in values["settings"].items()
    }  # fmt: skip


def _dilutions(setting: str, own: Mapping[str, Any]) -> Plot:
    """TPR by dilution, a line a length, with intervals."""
    cells = [row for row in own["cells"] if row["model"] == _OURS]
    figure, axes = blank("share of cover traffic", "TPR at 1 % FPR")
    for length, colour, marker in zip(_lengths(cells), COLOURS, MARKERS, strict=False):
        rows = [row for row in cells if row["length"] == length]
        x = [row["dilution"] for row in rows]
        value, low, high = ([row[_TPR][part] for row in rows] for part in range(3))
        axes.plot(x, value, color=colour, marker=marker, label=f"{length} exchanges")
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_ylim(0, 1)
    axes.legend(frameon=False)
    numbers = tuple(
        (str(row["length"]), f"{row['dilution']:.0%}", *("{:.3f} ({:.3f}–{:.3f})".format(*row[key]) for key in
         ("auroc", _TPR, "tpr@0.001")), f"{row['precision@0.01']['0.01']:.2f}")
        for row in cells
    )  # fmt: skip
    header = ("exchanges", "cover", "AUROC", "TPR at 1 % FPR", "TPR at 0.1 % FPR", "precision at 1 % prevalence")
    return Plot(
        f"{setting} dilutions", "What do length and cover traffic cost?",
        "TPR at 1 % FPR with 95 % intervals from resampling campaigns.", figure, header, numbers,
    )  # fmt: skip


def _baselines(setting: str, own: Mapping[str, Any]) -> Plot:
    """TPR of every model at the middle length, by dilution."""
    cells = [row for row in own["cells"] if row["length"] == own["length"]]
    models = list(dict.fromkeys(row["model"] for row in cells))
    dilutions = sorted({row["dilution"] for row in cells})
    figure, axes = blank("TPR at 1 % FPR", "", height=max(2.5, 0.45 * len(models) + 0.8))
    for step, (dilution, colour) in enumerate(zip(dilutions, COLOURS, strict=False)):
        rates = [row[_TPR][0] for row in cells if row["dilution"] == dilution]
        place = [len(models) - 1 - i - 0.2 * (step - (len(dilutions) - 1) / 2) for i in range(len(models))]
        axes.barh(place, rates, height=0.18, color=colour, label=f"{dilution:.0%} cover")
    axes.set_yticks(range(len(models)), models[::-1])
    axes.set_xlim(0, 1)
    axes.legend(frameon=False, loc="lower right")
    numbers = tuple(
        (name, *(f"{row['auroc'][0]:.2f} / {row[_TPR][0]:.2f}" for row in cells if row["model"] == name))
        for name in models
    )
    header = ("AUROC / TPR", *(f"{share:.0%}" for share in dilutions))
    caption = f"Every model on the same sessions of {own['length']} exchanges."
    return Plot(f"{setting} baselines", "Are we better than the others?", caption, figure, header, numbers)


def _campaigns(setting: str, own: Mapping[str, Any]) -> Plot:
    caption = f"TPR at 1 % FPR of undiluted sessions of {own['length']} exchanges."
    values = _triples(own["tpr_by_campaign"])
    return bars(f"{setting} campaigns", "Which campaigns are caught?", caption, values, "TPR at 1 % FPR")


def _sources(setting: str, own: Mapping[str, Any]) -> Plot:
    caption = (
        f"Sources with any session of {own['length']} exchanges above the threshold of 1 % FPR. "
        f"Benchmark runs flagged: {own['evaluation_rate']:.2f}."
    )
    values = [value for value in _triples(own["fpr_by_source"]) if value[1] > 0]
    return bars(f"{setting} sources", "Who is flagged by mistake?", caption, values, "FPR")


def _detection(setting: str, own: Mapping[str, Any]) -> Plot:
    """Quartiles of exchanges until the first flag, against the share of sessions flagged by then."""
    found = own["exchanges_until_detection"]
    quarters = ("first quarter", "half", "three quarters")
    steps = [found[name] for name in quarters]
    figure, axes = blank("exchanges", "share of undiluted sessions flagged")
    axes.step([0, *steps], [0.0, *(found["ever"] * share for share in (0.25, 0.5, 0.75))], where="post",
              color=COLOURS[0], marker="o")  # fmt: skip
    axes.axhline(found["ever"], color="grey", linewidth=0.8, linestyle="--")
    axes.set_ylim(0, 1)
    realised = ", ".join(f"{rate[0]:.4f} at {fpr}" for fpr, rate in own["realised_fpr"].items())
    caption = f"First flag at 1 %; dashed: ever flagged. FPR as realised: {realised}. ECE {own['ece']:.3f}."
    rows = (*((name, f"{step:.0f}") for name, step in zip(quarters, steps, strict=True)),
            ("ever flagged", f"{found['ever']:.2f}"))  # fmt: skip
    return Plot(f"{setting} detection", "After how many exchanges?", caption, figure, ("flagged", "exchanges"), rows)


def _lengths(cells: Sequence[Mapping[str, Any]]) -> list[int]:
    return sorted({row["length"] for row in cells})


def _triples(shares: Mapping[str, Sequence[float]]) -> list[tuple[str, float, int]]:
    return [(name, float(share), int(n)) for name, (share, n) in shares.items()]
