"""Verdicts as records and as a table say the same, and nothing of what was asked."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from serve.scoring.explanation import Evidence, Explanation, Reason
from serve.scoring.verdict import LABELS, SCHEMA, Verdict, Verdicts

REASON = Reason("size.log_exchanges", 1.5, 0.5, 1.0, 0.25, "One sentence.", "length", False)
NOTHING = Explanation(None, (), None)


def verdicts_of(n: int = 3) -> Verdicts:
    """Up to three verdicts, the second one without times."""
    return Verdicts(
        areas=("coding", "cooking"),
        session_ids=("s0", "s1", "s2")[:n],
        account_ids=("a", "a", "b")[:n],
        n_exchanges=np.array([1, 5, 9])[:n],
        started_at=np.array([0.0, np.nan, 1_767_225_600.1234])[:n],
        ended_at=np.array([2.5, np.nan, 1_767_225_601.0])[:n],
        score=np.array([0.1, 0.5, 0.9])[:n],
        p_value=np.array([1.0, 0.5, 0.001])[:n],
        label=np.array(LABELS)[:n],
        threshold=np.full(3, 0.8)[:n],
        coverage=np.array([[0.5, 0.0], [0.0, 0.0], [0.25, 1.0]])[:n],
        area_share=np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.25, 0.25]])[:n],
        explanations=(NOTHING, NOTHING, Explanation(-2.0, (REASON,), 1.5))[:n],
        evidence=((), (), (Evidence(4, 2.5), Evidence(1, 0.5)))[:n],
        bundle="0123456789abcdef",
        systematicness=np.array([np.nan, 0.5, -0.25])[:n],
        profile=("abca", None, "zzzz")[:n],
        features=np.zeros((n, 4)),
    )


def test_a_record_holds_plain_python_values() -> None:
    verdict = verdicts_of().verdict(2)
    assert verdict == Verdict(
        "s2", "b", 9, 1_767_225_600.1234, 1_767_225_601.0, 0.9, 0.001, "harvesting", 0.8,
        {"coding": 0.25, "cooking": 1.0}, {"coding": 0.5, "cooking": 0.25, "none": 0.25}, (REASON,), "0123456789abcdef",
        -0.25, "zzzz", -2.0, 1.5, (Evidence(4, 2.5), Evidence(1, 0.5)),
    )  # fmt: skip
    plain = (str, int, float, dict, tuple)
    assert all(type(getattr(verdict, field.name)) in plain for field in dataclasses.fields(verdict))


def test_only_what_was_reached_is_listed_and_an_unknown_time_is_none() -> None:
    verdict = verdicts_of().verdict(1)
    assert (verdict.coverage, verdict.area_share) == ({}, {"none": 1.0})
    assert (verdict.started_at, verdict.ended_at) == (None, None)


def test_is_harvesting_is_the_label() -> None:
    assert [verdict.is_harvesting for verdict in verdicts_of()] == [False, False, True]


def test_the_table_says_what_the_records_say() -> None:
    verdicts = verdicts_of()
    table = verdicts.table()
    assert table.schema.equals(SCHEMA)
    table.validate(full=True)
    for row, verdict in zip(table.to_pylist(maps_as_pydicts="strict"), verdicts, strict=True):
        times = {"started_at", "ended_at", "reasons", "evidence"}
        record = dataclasses.asdict(verdict)
        assert {name: value for name, value in row.items() if name not in times} == {
            name: value for name, value in record.items() if name not in times
        }
        assert row["reasons"] == [dict(reason) for reason in record["reasons"]]
        assert row["evidence"] == [dict(prompt) for prompt in record["evidence"]]


def test_times_in_the_table_are_utc_to_the_millisecond() -> None:
    started = verdicts_of().table().column("started_at").to_pylist()
    assert started == [
        datetime(1970, 1, 1, tzinfo=UTC), None, datetime(2026, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC),
    ]  # fmt: skip


def test_a_table_of_nothing_has_the_same_columns() -> None:
    table = verdicts_of(0).table()
    assert (table.num_rows, table.schema.equals(SCHEMA)) == (0, True)
    assert list(verdicts_of(0)) == []


def test_no_column_is_made_for_prompt_text() -> None:
    assert not {"prompt", "text", "prompts", "system"} & {
        *SCHEMA.names,
        *(f.name for f in dataclasses.fields(Verdicts)),
    }
    assert pa.types.is_list(SCHEMA.field("reasons").type)


def test_a_verdict_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdicts_of().verdict(0).score = 0.0  # type: ignore[misc]
