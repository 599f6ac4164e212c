"""Traffic: composed sessions as files that `stillwatch score` reads, with labels that fit."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from serve.cli import main as stillwatch
from train.corpora.pool import Pool
from train.evaluation.measure import measures, read_judged
from train.experiments.traffic import main
from train.synthesis.arrival_times import Timing
from train.synthesis.compose import Composer
from train.synthesis.composition import Composition
from train.synthesis.traffic_files import EXCHANGES, LABELS, PARQUET, exchange_rows, label_rows, write_traffic


@pytest.fixture(scope="module")
def composition(pool: Pool, topic: np.ndarray) -> Composition:
    composer = Composer(pool, np.arange(len(pool)), topic, Timing.default(), seed=3)
    parts = [composer.fixed("harvest", 6, 8, 0.5), composer.fixed("organic", 6, 8), composer.fixed("evaluation", 2, 8)]
    return Composition.joined(parts)


def test_every_exchange_is_there_once_in_order_of_time(composition: Composition, pool: Pool) -> None:
    rows = list(exchange_rows(composition, pool))
    assert len(rows) == composition.offsets[-1]
    times = [row["at"] for row in rows]
    assert times == sorted(times)
    own = [row["prompt"] for row in rows if row["session_id"] == "session-000003"]
    low, high = composition.offsets[3:5].tolist()
    assert own == list(composition.texts(pool)[low:high])


def test_labels_say_what_was_composed(composition: Composition) -> None:
    rows = list(label_rows(composition))
    assert [row["label"] for row in rows] == ["harvesting"] * 6 + ["organic"] * 6 + ["evaluation"] * 2
    assert {row["dilution"] for row in rows[:6]} == {0.5}
    assert [row["n_exchanges"] for row in rows] == np.diff(composition.offsets).tolist()
    assert all(row["campaign"] for row in rows)


def test_the_same_traffic_is_the_same_bytes(composition: Composition, pool: Pool, tmp_path: Path) -> None:
    first, second = (write_traffic(composition, pool, tmp_path / name) for name in ("a", "b"))
    for name in (EXCHANGES, LABELS):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_system_texts_come_along(composition: Composition, pool: Pool, tmp_path: Path) -> None:
    with_schema = replace(pool, systems=("{}",) * len(pool))
    write_traffic(composition, with_schema, tmp_path)
    with gzip.open(tmp_path / EXCHANGES, "rt", encoding="utf-8") as file:
        assert {json.loads(line)["system"] for line in file} == {"{}"}


def test_parquet_holds_the_same_rows(composition: Composition, pool: Pool, tmp_path: Path) -> None:
    write_traffic(composition, pool, tmp_path, as_parquet=True)
    rows = pq.read_table(tmp_path / PARQUET).to_pylist()
    assert [{**row, "system": None} for row in exchange_rows(composition, pool)] == rows


def test_what_is_written_can_be_scored_and_measured(
    composition: Composition, pool: Pool, bundle_folder: Path, tmp_path: Path
) -> None:
    write_traffic(composition, pool, tmp_path)
    out = tmp_path / "verdicts.parquet"
    assert stillwatch(["score", str(tmp_path / EXCHANGES), "--out", str(out), "--bundle", str(bundle_folder)]) == 0
    found = measures(read_judged(out, tmp_path / LABELS))
    assert {"auroc.all", "tpr.dilution_50", "flagged.harvest", "flagged.evaluation"} <= set(found)


def test_the_command_writes_traffic_of_a_folder_of_corpora(
    tiny_settings: object, bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_settings.corpora.dir  # type: ignore[attr-defined]
    command = [str(tmp_path), "--sessions", "9", "--corpora", folder, "--bundle", str(bundle_folder)]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("9 sessions, ")
    assert len((tmp_path / LABELS).read_text(encoding="utf-8").splitlines()) == 9
    assert main([str(tmp_path), "--corpora", "/nowhere"]) == 2
    assert capsys.readouterr().err.startswith("traffic: /nowhere")
