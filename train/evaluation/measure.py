"""Measure: `python -m train.measure VERDICTS LABELS` holds verdicts of `stillwatch score` against labels."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from train.evaluation.thresholds import fpr_limit


@dataclass(frozen=True)
class Judged:
    """Sessions that have both a verdict and a label, as columns; `is_flagged` is the verdict's own say."""

    score: NDArray[np.float64]
    is_flagged: NDArray[np.bool_]
    label: NDArray[np.str_]
    kind: NDArray[np.str_]
    dilution: NDArray[np.float64]
    n_exchanges: NDArray[np.int64]

    def organic(self) -> NDArray[np.float64]:
        """Scores of organic sessions."""
        return np.asarray(self.score[self.label == "organic"])

    def harvesting(self, dilution: float) -> NDArray[np.float64]:
        """Scores of harvesting sessions of this dilution."""
        return np.asarray(self.score[(self.label == "harvesting") & np.isclose(self.dilution, dilution)])


def read_judged(verdicts: Path, labels: Path) -> Judged:
    """Read and join both files by session and account.

    Raises:
        ValueError: when a labelled session has no verdict.
    """
    found = {(row["session_id"], row["account_id"]): row for row in _rows(verdicts)}
    known = _rows(labels)
    if missing := [row["session_id"] for row in known if (row["session_id"], row["account_id"]) not in found]:
        raise ValueError(f"{verdicts} lacks {len(missing)} labelled sessions, the first is {missing[0]!r}")
    own = [found[row["session_id"], row["account_id"]] for row in known]
    return Judged(
        np.array([row["score"] for row in own]),
        np.array([row["label"] == "harvesting" for row in own]),
        np.array([row["label"] for row in known]),
        np.array([row["kind"] for row in known]),
        np.array([row["dilution"] for row in known]),
        np.array([row["n_exchanges"] for row in known]),
    )


def measures(judged: Judged, fpr: float = 0.01) -> dict[str, float]:
    """AUROC and TPR at `fpr` of all harvesting sessions and by dilution, and the share of each kind that is flagged."""
    organic = judged.organic()
    limit = fpr_limit(organic, fpr)
    parts = {"all": judged.score[judged.label == "harvesting"]}
    for dilution in np.unique(judged.dilution[judged.label == "harvesting"]).tolist():
        parts[f"dilution_{round(100 * dilution):02d}"] = judged.harvesting(dilution)
    found: dict[str, float] = {}
    for name, scores in parts.items():
        y = np.repeat([1, 0], [len(scores), len(organic)])
        found[f"auroc.{name}"] = float(roc_auc_score(y, np.concatenate([scores, organic])))
        found[f"tpr.{name}"] = float((scores > limit).mean())
    for kind in np.unique(judged.kind).tolist():
        found[f"flagged.{kind}"] = float(judged.is_flagged[judged.kind == kind].mean())
    return found


def _rows(path: Path) -> Sequence[Mapping[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[Mapping[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m train.measure", description=__doc__)
    parser.add_argument("verdicts", type=Path, metavar="VERDICTS", help="what stillwatch score wrote")
    parser.add_argument("labels", type=Path, metavar="LABELS", help="labels.jsonl of the same sessions")
    given = parser.parse_args(arguments)
    try:
        judged = read_judged(given.verdicts, given.labels)
    except (ValueError, OSError) as fault:
        sys.stderr.write(f"measure: {fault}\n")
        return 2
    sys.stdout.write(f"{len(judged.score)} sessions\n")
    sys.stdout.writelines(f"{name:<22} {value:.4f}\n" for name, value in measures(judged).items())
    return 0
