from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.model.calibration import Calibration
from serve.scoring.accounts import SCHEMA, Tally, WholeVerdicts, roll_up, simes
from serve.scoring.scorer import Scorer
from serve.scoring.sequential_test import capital, raised
from serve.scoring.verdict import times
from serve.sessions.records import Session, Sessions
from serve.sessions.size_classes import ACCOUNT_EDGES


@given(st.lists(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=8), min_size=1, max_size=5))
def test_simes_equals_its_formula(runs: list[list[float]]) -> None:
    begins = np.cumsum([0, *map(len, runs)])[:-1]
    found = simes(np.array([p for run in runs for p in run]), begins)
    for run, combined in zip(runs, found, strict=True):
        expected = min(len(run) * p / rank for rank, p in enumerate(sorted(run), 1))
        assert combined == pytest.approx(expected)
        assert min(run) - 1e-12 <= combined <= len(run) * min(run) + 1e-12


def test_simes_is_valid_for_even_p_values() -> None:
    drawn = np.random.default_rng(0).random(20_000 * 10)
    assert (simes(drawn, np.arange(0, len(drawn), 10)) <= 0.05).mean() == pytest.approx(0.05, abs=0.005)


def test_a_row_an_account_adds_up_its_sessions(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> None:
    verdicts = tiny_scorer.judge(Sessions.of(sessions))
    parts = [tiny_scorer.judge(Sessions.of(sessions[:6])), tiny_scorer.judge(Sessions.of(sessions[6:]))]
    tally = Tally.joined([Tally.of(part) for part in parts])
    table = roll_up(tally, verdicts.areas, fpr=0.05, bundle="b1", n_altered=np.arange(len(sessions)))
    assert table.schema == SCHEMA
    for row in table.to_pylist(maps_as_pydicts="strict"):
        own = [verdict for verdict in verdicts if verdict.account_id == row["account_id"]]
        assert (row["n_sessions"], row["n_exchanges"]) == (len(own), sum(verdict.n_exchanges for verdict in own))
        places = [place for place, session in enumerate(sessions) if session.account_id == row["account_id"]]
        assert row["altered_prompts"] == sum(places)
        assert row["max_score"] == max(verdict.score for verdict in own)
        assert row["min_p_value"] == min(verdict.p_value for verdict in own)
        assert row["flagged_share"] == sum(verdict.is_harvesting for verdict in own) / len(own)
        assert row["label"] == "harvesting" if row["p_value"] <= 0.05 else row["label"] in ("organic", "undecided")
        times = [verdict.started_at for verdict in own if verdict.started_at is not None]
        assert (row["started_at"].timestamp() if row["started_at"] else None) == (min(times) if times else None)
        shares = list(row["top_areas"].values())
        assert shares == sorted(shares, reverse=True)
        assert "none" not in row["top_areas"]


def test_an_account_of_undecided_sessions_is_undecided(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> None:
    tally = Tally.of(tiny_scorer.judge(Sessions.of(sessions)))
    undecided = np.full(len(sessions), "undecided")
    for label, expected in (
        (undecided, {"undecided"}),
        (np.where(np.arange(30) % 2, "organic", undecided), {"organic"}),
    ):
        table = roll_up(dataclasses.replace(tally, label=label), ["x", "y", "z"], fpr=1e-9, bundle="b1")
        assert set(table.column("label").to_pylist()) == expected


def test_an_account_is_judged_as_a_whole_where_it_can_be(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> None:
    tally = Tally.of(tiny_scorer.judge(Sessions.of(sessions)))
    tally = dataclasses.replace(tally, account_ids=np.repeat(np.array(["a", "b", "c"], dtype=object), 10))
    tally = dataclasses.replace(tally, label=np.full(30, "undecided"), p_value=np.full(30, 0.5))
    whole = WholeVerdicts(np.array([0.9, 0.2, 0.9]), np.array([0.01, 0.7, 0.01]), np.array([True, True, False]))
    rows = roll_up(tally, ["x", "y", "z"], fpr=0.05, bundle="b1", whole=whole).to_pylist()
    assert [row["label"] for row in rows] == ["harvesting", "organic", "undecided"]
    assert [row["judged_by"] for row in rows] == ["account", "account", "sessions"]
    assert [row["score"] for row in rows] == [0.9, 0.2, float(tally.score[20:].max())]
    assert [row["p_value"] for row in rows] == [0.01, 0.7, rows[2]["simes_p_value"]]


def test_only_accounts_of_a_size_with_benign_ones_enough_are_judged_as_a_whole(tiny_scorer: Scorer) -> None:
    bundle = tiny_scorer.bundle
    benign = Calibration.of_margins(1.0, 0.0, np.arange(300.0), np.full(300, 50), ACCOUNT_EDGES)
    rows, n = np.zeros((2, len(bundle.manifest["features"]))), np.array([4, 50])
    found = WholeVerdicts.of(rows, n, dataclasses.replace(bundle, accounts=benign), 0.05)
    assert found.is_judged.tolist() == [False, True]
    assert not WholeVerdicts.of(rows, n, dataclasses.replace(bundle, accounts=benign), 0.001).is_judged.any()
    assert not WholeVerdicts.of(rows, n, dataclasses.replace(bundle, accounts=None), 0.05).is_judged.any()


def test_capital_grows_over_a_life_in_order_of_time(tiny_scorer: Scorer, sessions: tuple[Session, ...]) -> None:
    tally = Tally.of(tiny_scorer.judge(Sessions.of(sessions[:6])))
    tally = dataclasses.replace(
        tally,
        account_ids=np.array(["a", "a", "a", "a", "b", "b"], dtype=object),
        started_at=np.array([40.0, 10.0, 30.0, 20.0, 1.0, np.nan]),
        n_exchanges=np.array([1, 10, 100, 1000, 7, 7]),
        p_value=np.array([0.0013, 0.5, 0.0013, 0.0013, 0.5, 0.9]),
    )
    found = roll_up(tally, ["x", "y", "z"], fpr=0.05, bundle="b1").to_pylist()
    alone = raised(np.array([0.5, 0.0013, 0.0013, 0.0013]))
    held = capital(alone, np.array([0]))
    assert found[0]["e_value"] == pytest.approx(held.max())
    expected = np.cumsum([10, 1000, 100, 1])[int(np.argmax(held >= 20.0))]
    assert found[0]["alarm_after"] == expected
    assert found[1]["alarm_after"] is None


def test_the_last_moment_stays_in_its_year() -> None:
    assert times(np.array([253402300799.9999, np.nan])).to_pylist() == [
        datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC),
        None,
    ]
