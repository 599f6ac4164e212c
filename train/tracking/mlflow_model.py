"""Mlflow model: the bundle as an MLflow model, from code, so that no pickle is ever written.

MLflow copies this file into the model and runs it there, so it imports nothing of `train`.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.models.signature import ModelSignature
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Map, Object, Property, Schema, TensorSpec

from serve.io.reading import read_paths
from serve.scoring.scorer import CHUNK_PROMPTS, Scorer, load
from serve.scoring.verdict import MAY_BE_NULL
from serve.sessions.sessionizing import Timeline

BUNDLE = "bundle"
"""Name of the model's artifact that is the bundle's folder."""

_LOG = logging.getLogger("stillwatch")


class StillwatchModel(PythonModel):
    """Exchanges in, verdicts out: what `stillwatch score` says of the same rows, to the last bit and in its order."""

    def load_context(self, context: PythonModelContext) -> None:
        """Verify and load the bundle."""
        self._scorer: Scorer = load(context.artifacts[BUNDLE])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Verdicts, one row a session. Rows that can't be exchanges are left out, each with a warning in the log.

        Raises:
            ValueError: naming the first row and the reason, when no row can be an exchange; never quotes a prompt.
        """
        timeline = Timeline.of(_exchanges(model_input))
        tables = [self._scorer.judge(part).table() for part in timeline.chunks(CHUNK_PROMPTS)]
        rows = [row for table in tables for row in table.to_pylist(maps_as_pydicts="strict")]
        return _frame([json.loads(json.dumps(row, default=_plain)) for row in rows])


def signature() -> ModelSignature:
    """Exchanges as DESIGN §4 has them in, verdicts out; `at` is a time in any form that files may have."""
    text, number, time = DataType.string, DataType.double, AnyType()  # type: ignore[no-untyped-call]
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(text, "account_id"), ColSpec(text, "prompt"), ColSpec(text, "session_id", required=False),
        ColSpec(time, "at", required=False), ColSpec(text, "system", required=False),
    ]  # fmt: skip
    reason = Object([
        Property("name", text), Property("value", number), Property("benign_low", number),
        Property("benign_high", number), Property("contribution", number), Property("sentence", text),
        Property("idea", text), Property("is_weak", DataType.boolean),
    ])  # fmt: skip
    evidence = Object([Property("position", DataType.long), Property("log_odds", number)])
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(text, "session_id"), ColSpec(text, "account_id"), ColSpec(DataType.long, "n_exchanges"),
        ColSpec(text, "started_at", required=False), ColSpec(text, "ended_at", required=False),
        ColSpec(number, "score"), ColSpec(number, "p_value"), ColSpec(text, "label"), ColSpec(number, "threshold"),
        ColSpec(Map(number), "coverage"), ColSpec(Map(number), "area_share"), ColSpec(Array(reason), "reasons"),
        ColSpec(text, "bundle"), ColSpec(number, "systematicness", required=False),
        ColSpec(text, "profile", required=False), ColSpec(number, "baseline", required=False),
        ColSpec(number, "rest", required=False), ColSpec(Array(evidence), "evidence"),
    ]  # fmt: skip
    return ModelSignature(Schema(inputs), Schema(outputs))


def input_example() -> pd.DataFrame:
    """A short session, written for this project."""
    prompts = (
        "Write a Python function that reverses a list.",
        "Solve 3x + 4 = 19 and show every step of your reasoning.",
        "Rate this answer from 1 to 5 and justify the grade: the sky is green.",
    )
    rows = [
        {"account_id": "a1", "prompt": prompt, "session_id": "s1", "at": 1_767_225_600.0 + turn, "system": "none"}
        for turn, prompt in enumerate(prompts)
    ]
    return pd.DataFrame(rows)


def _exchanges(frame: pd.DataFrame) -> pa.Table:
    """The rows as checked exchanges, through the same door as a file's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exchanges.parquet"
        pq.write_table(pa.Table.from_pandas(_with_times(frame), preserve_index=False), path)
        batches = list(read_paths([path]))
    faults = [f"row {line}: {reason}" for batch in batches for line, reason in sorted(batch.rejects.items())]
    if not sum(batch.table.num_rows for batch in batches):
        raise ValueError(faults[0] if faults else "there are 0 rows, expected at least 1 exchange")
    for fault in faults:
        _LOG.warning("left out %s", fault)
    return pa.concat_tables([batch.table for batch in batches])


def _with_times(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with times of one kind: texts, where one of them is a text."""
    if "at" not in frame or not any(isinstance(value, str) for value in frame["at"]):
        return frame
    times = [None if value is None or value != value else str(value) for value in frame["at"]]  # noqa: PLR0124
    return frame.assign(at=pd.Series(times, index=frame.index, dtype=object))


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows as a frame; what may be unknown stays an object: pandas would make NaN of None, which is no JSON."""
    frame = pd.DataFrame(rows)
    for name in MAY_BE_NULL:
        frame[name] = pd.Series([row[name] for row in rows], dtype=object)
    return frame


def _plain(value: object) -> str:
    """Times as `stillwatch score` writes them to JSON lines."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} has no JSON form")


mlflow.models.set_model(StillwatchModel())
