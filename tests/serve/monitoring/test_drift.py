"""Drift: distances with known values, quiet where nothing moved, and what moved is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.bundle.bundle import Bundle
from serve.cli import main
from serve.io.discovery import InputError
from serve.model.benign_profile import LETTERS, P_EDGES
from serve.monitoring.drift import MIN_SESSIONS, drift, energy_distance, stability_index
from serve.monitoring.drift_text import drift_text, write_drift
from serve.monitoring.traffic import MIN_PSI_EARLIER, Reference, Traffic


def test_the_stability_index_by_hand() -> None:
    counts, usual = np.array([300_000.0, 700_000.0]), np.array([0.5, 0.5])
    expected = (0.3 - 0.5) * np.log(0.3 / 0.5) + (0.7 - 0.5) * np.log(0.7 / 0.5)
    assert stability_index(counts, usual) == pytest.approx(expected, rel=1e-4)


def test_the_energy_distance_by_hand() -> None:
    places = np.array([0.0, 0.25, 1.0])
    assert energy_distance(np.array([10.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0]), places) == pytest.approx(2.0)
    assert energy_distance(np.array([10.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0]), places) == pytest.approx(0.5)


@given(st.lists(st.integers(0, 500), min_size=2, max_size=22).filter(any))
def test_what_is_alike_has_no_distance_and_no_distance_is_negative(counts: list[int]) -> None:
    own = np.array(counts, dtype=np.float64)
    shares, flat = own / own.sum(), np.full(len(own), 1 / len(own))
    places = np.linspace(0, 1, len(own))
    assert stability_index(own, shares) == pytest.approx(0.0, abs=1e-9)
    assert energy_distance(own, shares, places) == pytest.approx(0.0, abs=1e-12)
    assert stability_index(own, flat) >= 0
    assert energy_distance(own, flat, places) >= 0


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path) -> Bundle:
    return Bundle.load(bundle_folder)


def traffic(bundle: Bundle, n: int, seed: int) -> Traffic:
    """Every feature uniform over the letters in the middle, p-values uniform, areas alike."""
    rng = np.random.default_rng(seed)
    n_features, n_areas = len(bundle.manifest["features"]), len(bundle.capabilities.areas)
    return Traffic(
        codes=rng.integers(1, len(LETTERS) - 1, size=(n, n_features)),
        n_exchanges=rng.integers(5, 100, size=n),
        p_value=rng.random(n),
        area_share=rng.dirichlet(np.ones(n_areas + 1), size=n),
        n_effective=float(n),
    )


def test_the_same_traffic_at_another_time_is_quiet_in_19_of_20_seeds(bundle: Bundle) -> None:
    usual = Reference.of_traffic(traffic(bundle, 4000, 999))
    quiet = [not drift(traffic(bundle, 500, seed), usual, bundle).alarms for seed in range(20)]
    assert sum(quiet) >= 19


def test_a_feature_that_a_fifth_have_beyond_all_that_was_seen_alarms_and_is_named(bundle: Bundle) -> None:
    usual, now = Reference.of_traffic(traffic(bundle, 4000, 999)), traffic(bundle, 500, 1)
    column = bundle.manifest["features"].index("surface.words_q50")
    now.codes[:100, column] = len(LETTERS) - 1
    found = drift(now, usual, bundle)
    assert found.alarms == ("feature surface.words_q50",)
    assert found.features[0].psi > MIN_PSI_EARLIER
    assert found.features[0].now > found.features[0].before
    assert "surface.words_q50" in drift_text(found)


def test_an_area_that_was_not_there_is_named(bundle: Bundle) -> None:
    usual, now = Reference.of_traffic(traffic(bundle, 4000, 999)), traffic(bundle, 500, 1)
    shares = now.area_share.copy()
    shares[:200] = np.eye(shares.shape[1])[1]
    found = drift(replace(now, area_share=shares), usual, bundle)
    assert found.alarms == ("area mix of prompts",)
    assert found.areas[0].name == bundle.capabilities.areas[1]


def test_harvesting_alone_does_not_raise_the_estimated_rate_of_false_positives(bundle: Bundle) -> None:
    usual, now = Reference.of_traffic(traffic(bundle, 4000, 999)), traffic(bundle, 2000, 1)
    calm = drift(now, usual, bundle)
    assert calm.fpr_expected == pytest.approx(0.05, abs=0.02)
    attacked = drift(replace(now, p_value=np.where(np.arange(2000) < 600, 0.001, now.p_value)), usual, bundle)
    assert attacked.fpr_flagged > 0.3
    assert attacked.fpr_estimated == pytest.approx(calm.fpr_estimated, rel=0.2)
    moved = drift(replace(now, p_value=now.p_value**5), usual, bundle)
    assert moved.fpr_estimated > 1.5 * calm.fpr_estimated
    assert moved.alarms == ("scores as p-values",)


def test_size_alone_is_no_drift(bundle: Bundle) -> None:
    assert not [moved for moved in drift(traffic(bundle, 200, 0), Reference.of_traffic(traffic(bundle, 200, 1)), bundle)
                .features if moved.name.startswith("size.")]  # fmt: skip


def test_few_sessions_or_few_accounts_say_nothing(bundle: Bundle) -> None:
    usual = Reference.of_traffic(traffic(bundle, 4000, 999))
    now = replace(traffic(bundle, MIN_SESSIONS - 1, 1), codes=np.zeros((MIN_SESSIONS - 1, len(usual.letters)), int))
    found = drift(now, usual, bundle)
    assert (found.is_decidable, found.alarms) == (False, ())
    assert "too few sessions" in drift_text(found)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path) -> tuple[Path, Path]:
    """Verdicts of the tiny bundle on a session each of many accounts, in both formats."""
    folder, rng = tmp_path_factory.mktemp("verdicts"), np.random.default_rng(0)
    words = ["fix", "python", "bug", "sort", "list", "lemon", "cake", "soup", "hello", "rain", "again", "please"]
    rows = [
        {"account_id": f"a{account}", "session_id": "s", "prompt": " ".join(rng.choice(words, size=5))}
        for account in range(150)
        for _ in range(int(rng.integers(1, 20)))
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths = folder / "out.parquet", folder / "out.jsonl"
    for path in paths:
        arguments = ["score", str(folder / "in.jsonl"), "--out", str(path), "--bundle", str(bundle_folder)]
        assert main([*arguments, "--workers", "1"]) == 0
    return paths


def test_both_formats_are_read_alike(verdicts: tuple[Path, Path], bundle: Bundle) -> None:
    parquet, lines = (Traffic.read([path], bundle) for path in verdicts)
    assert (parquet.codes == lines.codes).all()
    assert parquet.area_share == pytest.approx(lines.area_share)
    assert parquet.area_share.sum(axis=1) == pytest.approx(1.0)
    assert (parquet.n_effective, lines.n_effective) == (len(parquet), len(lines))


def test_the_command_exits_with_0_or_1_and_writes_everything(
    verdicts: tuple[Path, Path], bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, common = tmp_path / "drift.json", ["--bundle", str(bundle_folder)]
    assert main(["drift", str(verdicts[0]), "--reference", str(verdicts[1]), "--out", str(out), *common]) == 0
    assert "no drift" in capsys.readouterr().out
    assert json.loads(out.read_text())["alarms"] == []
    table = pq.read_table(verdicts[0])
    moved = tmp_path / "moved.parquet"
    column = table.column_names.index("profile")
    letters = LETTERS[-1] * len(table.column("profile")[0].as_py())
    pq.write_table(table.set_column(column, "profile", [[letters] * len(table)]), moved)
    assert main(["drift", str(moved), *common]) == 1
    assert "drift: feature" in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused(verdicts: tuple[Path, Path], bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.parquet is not there"):
        Traffic.read([tmp_path / "none.parquet"], bundle)
    table = pq.read_table(verdicts[0])
    path = tmp_path / "wrong.parquet"
    pq.write_table(table.drop_columns(["profile"]), path)
    with pytest.raises(InputError, match="has no profile; expected what stillwatch score writes"):
        Traffic.read([path], bundle)
    pq.write_table(table.set_column(table.column_names.index("bundle"), "bundle", [["0" * 16] * len(table)]), path)
    with pytest.raises(InputError, match=f"verdicts of bundle 0{{16}}, expected of {bundle.bundle_id}"):
        Traffic.read([path], bundle)
    pq.write_table(table.set_column(table.column_names.index("profile"), "profile", [["abc"] * len(table)]), path)
    with pytest.raises(InputError, match=r"\d+ of \d+ verdicts have no profile of \d+ letters"):
        Traffic.read([path], bundle)


def test_no_session_at_all_is_no_drift(bundle: Bundle, tmp_path: Path) -> None:
    assert bundle.benign is not None
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    nothing = Traffic.read([empty], bundle)
    found = drift(nothing, Reference.of_bundle(bundle.benign, nothing.n_exchanges), bundle)
    assert found.alarms == ()
    write_drift(found, tmp_path / "drift.json")
    assert json.loads((tmp_path / "drift.json").read_text())["n_sessions"] == 0


def test_the_bundles_own_reference_is_weighted_to_the_sizes_at_hand(bundle: Bundle) -> None:
    assert bundle.benign is not None
    usual = Reference.of_bundle(bundle.benign, np.array([10, 10, 10]))
    assert usual.letters == pytest.approx(bundle.benign.shares[3].astype(float))
    assert usual.p_bins.sum() == pytest.approx(1.0)
    assert len(usual.p_bins) == len(P_EDGES) + 1
