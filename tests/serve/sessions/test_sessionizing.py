from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.io.validation import SCHEMA
from serve.sessions import sessionizing as module
from serve.sessions.records import Sessions
from serve.sessions.sessionizing import GAP_SECONDS, MAX_EXCHANGES, Timeline, text_hashes

START = 1_770_112_800.0  # 2026-02-03T10:00:00Z


def row(prompt: str, at: float = float("nan"), account: str = "a1", session: str | None = None) -> dict[str, Any]:
    return {"account_id": account, "session_id": session, "at": at, "prompt": prompt}


def cut(rows: list[dict[str, Any]], n_chunks: int = 1) -> list[tuple[str, str, list[str]]]:
    """Account, session id and prompts of each session."""
    step = max(1, len(rows) // n_chunks)
    tables = [pa.Table.from_pylist(rows[start : start + step], SCHEMA) for start in range(0, len(rows), step)]
    found = Timeline.of(pa.concat_tables([SCHEMA.empty_table(), *tables]))
    return [
        (account, name, list(part.sessions(index, index + 1).prompts))
        for part in [found]
        for index, (account, name) in enumerate(
            zip(part.account_ids.to_pylist(), part.session_ids.to_pylist(), strict=True)
        )
    ]


def test_exchanges_are_put_in_order_and_cut_at_a_pause() -> None:
    rows = [row("c", START + GAP_SECONDS + 60.1), row("a", START), row("b", START + 60.0)]
    assert cut(rows) == [("a1", "a1/20260203T100000Z", ["a", "b"]), ("a1", "a1/20260203T103100Z", ["c"])]


def test_a_pause_of_just_half_an_hour_does_not_cut() -> None:
    assert len(cut([row("a", START), row("b", START + GAP_SECONDS)])) == 1


def test_two_hundred_exchanges_are_a_session() -> None:
    found = cut([row(f"{index:03d}", START + index) for index in range(2 * MAX_EXCHANGES + 1)])
    assert [len(prompts) for _, _, prompts in found] == [MAX_EXCHANGES, MAX_EXCHANGES, 1]
    assert found[1][2][0] == "200"


def test_exchanges_without_a_time_keep_their_order_and_come_last() -> None:
    rows = [row("z"), row("a"), row("timed", START), row("m")]
    assert cut(rows)[0][2] == ["timed", "z", "a", "m"]
    assert cut([row("z"), row("a")]) == [("a1", "a1/untimed", ["z", "a"])]


def test_sessions_that_would_have_one_name_are_told_apart() -> None:
    found = cut([row(f"{index:03d}") for index in range(2 * MAX_EXCHANGES + 1)])
    assert [name for _, name, _ in found] == ["a1/untimed", "a1/untimed-2", "a1/untimed-3"]


def test_an_id_of_two_accounts_is_two_sessions() -> None:
    found = cut([row("x", START, "a1", "s1"), row("y", START, "a2", "s1"), row("z", START + 9999, "a1", "s1")])
    assert sorted(found) == [("a1", "s1", ["x", "z"]), ("a2", "s1", ["y"])]


def test_ids_are_only_for_those_that_have_one() -> None:
    found = cut([row("x", START, session="s1"), row("y", START + 1), row("z", START + 2, session="s1")])
    assert found == [("a1", "a1/20260203T100001Z", ["y"]), ("a1", "s1", ["x", "z"])]


def test_an_endless_session_with_an_id_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_GIVEN_EXCHANGES", 3)
    found = cut([row(str(index), START + index, session="s1") for index in range(7)])
    assert [(name, len(prompts)) for _, name, prompts in found] == [("s1", 3), ("s1-2", 3), ("s1-3", 1)]


def test_no_rows_are_no_sessions() -> None:
    assert cut([]) == []


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["x", "y", "z", "🙂"]),
        st.sampled_from([START, START + 1, START + 5000, START + 5001.5]),
        st.sampled_from(["a1", "a2", "a3"]),
        st.sampled_from([None, "s1", "s2"]),
    ),
    max_size=40,
)


@given(ROWS, st.integers(0, 10), st.integers(1, 5))
def test_shuffled_and_split_rows_make_the_same_sessions(
    drawn: list[tuple[str, float, str, str | None]], seed: int, n_chunks: int
) -> None:
    rows = [row(*values) for values in drawn]
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert cut(shuffled, n_chunks) == cut(rows)
    assert sum(len(prompts) for _, _, prompts in cut(rows)) == len(rows)


@given(ROWS, st.integers(1, 12))
def test_chunks_hold_every_session_once(drawn: list[tuple[str, float, str, str | None]], n_prompts: int) -> None:
    table = pa.Table.from_pylist([row(*values) for values in drawn], SCHEMA)
    found = Timeline.of(table)
    whole = found.sessions(0, len(found)) if len(found) else Sessions.of([])
    parts = list(found.chunks(n_prompts))
    assert [name for part in parts for name in part.session_ids] == list(whole.session_ids)
    assert [prompt for part in parts for prompt in part.prompts] == list(whole.prompts)


def test_hashes_are_the_same_everywhere() -> None:
    assert text_hashes(pa.array(["a1", "ä"])).tolist() == [11485699197688147227, 17315702723226345529]
