"""The review queue: what enters, what a decision covers, what stays; for several processes, and with hostile names."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from serve.analyst.review import cases, stored_cases
from serve.analyst.review import inbox as inboxes
from serve.analyst.review import queue as queues
from serve.analyst.review.account_life import AccountLife
from serve.analyst.review.cases import DecidedMeanwhileError, QueueDownError, Wanted, packed, unpacked
from serve.analyst.review.inbox import Inbox
from serve.analyst.review.queue import ReviewQueue
from serve.scoring.explanation import Evidence, Reason
from serve.scoring.verdict import Verdict

REASON = Reason("evidence.harvest_mean", 1.0, -1.0, 0.5, 2.0, "A sentence.", "tasks", False)
FLAGGED = Verdict(
    "s1", "a1", 20, 1_767_225_600.0, 1_767_229_200.0, 0.9, 0.001, "harvesting", 0.8, {"coding": 0.1},
    {"coding": 0.75, "none": 0.25}, (REASON,), "b", 0.1, "abc", -2.0, 0.5, (Evidence(3, 2.5),),
)  # fmt: skip
CALM = replace(FLAGGED, session_id="s2", score=0.1, p_value=0.6, label="organic", reasons=(), evidence=())
HOSTILE = "'); DROP TABLE cases; -- \0<b>%_\\ \U0001f600"
POSTGRES = os.environ.get("STILLWATCH_TEST_POSTGRES")


@pytest.fixture(params=["sqlite", *(["postgres"] if POSTGRES else [])])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ReviewQueue]:
    """A queue in a file; where STILLWATCH_TEST_POSTGRES is the URL of a database that may be emptied, there too."""
    opened = ReviewQueue(str(tmp_path / "new" / "r.db") if request.param == "sqlite" else str(POSTGRES))
    if request.param == "postgres":
        with opened._writing.begin() as connection:
            for table in reversed(queues.CASES.metadata.sorted_tables):
                connection.execute(table.delete())
    yield opened
    opened.close()


def names(queue: ReviewQueue, **wanted: object) -> list[str]:
    return [own.session_id for own in queue.page(Wanted(**wanted)).cases]  # type: ignore[arg-type]


def test_a_verdict_is_unpacked_as_it_was() -> None:
    assert unpacked(packed(FLAGGED)) == FLAGGED


def test_flagged_sessions_enter_with_the_others_of_their_accounts(queue: ReviewQueue) -> None:
    other = replace(CALM, account_id="a2")
    queue.put([CALM, other])
    assert queue.sessions("a1") == queue.sessions("a2") == ()
    queue.put([CALM, FLAGGED, other])
    assert [(own.session_id, own.state) for own in queue.sessions("a1")] == [("s1", "new"), ("s2", "")]
    assert queue.sessions("a2") == ()
    assert names(queue) == ["s1"]
    case, verdict = queue.session("a1", "s1") or pytest.fail("no case")
    assert (verdict, case.areas, case.score) == (FLAGGED, {"coding": 0.75, "none": 0.25}, 0.9)
    queue.put([replace(FLAGGED, label="organic")])
    assert names(queue) == []
    queue.put([other], stores_all=True)
    assert len(queue.sessions("a2")) == 1


def test_a_decision_covers_what_is_there_and_is_kept_in_order(queue: ReviewQueue) -> None:
    queue.put([FLAGGED, replace(FLAGGED, session_id="s3", p_value=0.0001), CALM])
    first = queue.decide("a1", None, "confirmed", note="seen before", by="ann", after=0) or pytest.fail("nothing")
    assert (first.n_sessions, first.session_id, first.by, first.verdict.session_id) == (2, None, "ann", "s3")
    assert first.at > 1_700_000_000
    queue.put([replace(FLAGGED, session_id="s4")])
    assert names(queue) == ["s4"]
    assert sorted(names(queue, state="confirmed")) == ["s1", "s3"]
    second = queue.decide("a1", "s2", "escalated", by="bob", after=first.number) or pytest.fail("nothing")
    assert [(own.number, own.state) for own in queue.decisions("a1")] == [
        (second.number, "escalated"), (first.number, "confirmed"),
    ]  # fmt: skip
    assert queue.decision(first.number) == first
    assert queue.decision(10_000) is None
    assert [(own.session_id, own.state, own.by, own.note) for own in queue.labels()] == [
        ("s1", "confirmed", "ann", "seen before"),
        ("s2", "escalated", "bob", ""),
        ("s3", "confirmed", "ann", "seen before"),
    ]
    queue.decide("a1", "s1", "new")
    assert "s1" not in [own.session_id for own in queue.labels()]


def test_nobody_decides_over_what_they_have_not_seen(queue: ReviewQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.put([FLAGGED])
    assert queue.decide("nobody", None, "confirmed") is None
    assert queue.decide("a1", "none", "confirmed") is None
    queue.decide("a1", "s1", "confirmed", after=0)
    with pytest.raises(DecidedMeanwhileError):
        queue.decide("a1", None, "cleared", after=0)
    with pytest.raises(ValueError, match="state"):
        queue.decide("a1", None, "maybe")
    with pytest.raises(ValueError, match="note"):
        queue.decide("a1", None, "cleared", note="x" * 501)
    monkeypatch.setattr(queues, "MAX_DECISIONS", 0)
    with pytest.raises(QueueDownError, match="full"):
        queue.decide("a1", None, "cleared")
    assert len(queue.decisions()) == 1


def test_what_was_decided_stays_as_it_was_judged_unless_it_doubles(queue: ReviewQueue) -> None:
    queue.put([FLAGGED, replace(FLAGGED, session_id="s3")])
    queue.decide("a1", "s1", "cleared")
    queue.decide("a1", "s3", "confirmed")
    grown = replace(FLAGGED, n_exchanges=39, score=0.99)
    queue.put([grown, replace(grown, session_id="s3", n_exchanges=400)])
    assert [(own.state, own.score) for own in queue.sessions("a1")] == [("cleared", 0.9), ("confirmed", 0.9)]
    queue.put([replace(grown, n_exchanges=40)])
    case, verdict = queue.session("a1", "s1") or pytest.fail("no case")
    assert (case.state, verdict.n_exchanges) == ("new", 40)


def test_pages_are_sorted_searched_and_counted(queue: ReviewQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [
        replace(FLAGGED, session_id=f"s{i:03}", account_id=f"Team_{i % 7}", p_value=i / 1000, score=1 - i / 500)
        for i in range(120)
    ]
    queue.put([*many, replace(FLAGGED, account_id=HOSTILE, session_id="last", p_value=0.9)])
    assert names(queue)[:3] == ["s000", "s001", "s002"]
    assert names(queue, page=2)[-1] == "last"
    assert names(queue, page=9) == []
    found = queue.page(Wanted(text="team_3", sort="score"))
    assert (found.n_found, found.n_pages, found.counts["new"]) == (17, 1, 121)
    assert [own.session_id for own in found.cases[:2]] == ["s003", "s010"]
    assert names(queue, text="100") == ["s100"]
    assert names(queue, text="%") == names(queue, text="DROP TABLE") == names(queue, text="\0<B>") == ["last"]
    with monkeypatch.context() as patched:
        patched.setattr(queues, "MAX_COUNTED", 60)
        patched.setattr(cases, "MAX_COUNTED", 60)
        found = queue.page(Wanted(text="team_"))
        assert (len(found.cases), found.n_found, found.is_counted) == (50, 61, False)
        found = queue.page(Wanted(text="team_", page=2))
        assert (len(found.cases), found.n_found, found.is_counted) == (20, 120, True)
    with pytest.raises(ValueError, match="sort"):
        Wanted(sort="score; --")
    assert queue.sessions(HOSTILE)[0].account_id == HOSTILE.replace("\0", "\u2400")
    decided = queue.decide(HOSTILE, None, "cleared", note=HOSTILE, by=HOSTILE) or pytest.fail("nothing")
    assert decided.note == HOSTILE.replace("\0", "\u2400")


def test_the_oldest_that_nobody_decided_make_room(queue: ReviewQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.put([FLAGGED])
    queue.decide("a1", "s1", "confirmed")
    monkeypatch.setattr(stored_cases, "MAX_CASES", 5)
    for i in range(7):
        queue.put([replace(FLAGGED, session_id=f"t{i}")])
    assert [own.session_id for own in queue.sessions("a1")] == ["s1", "t3", "t4", "t5", "t6"]
    assert queue.session("a1", "t2") is None


def test_many_put_and_decide_at_once(tmp_path: Path) -> None:
    place = str(tmp_path / "r.db")

    def worked(name: str) -> None:
        queue = ReviewQueue(place)  # with connections of its own, as another process has
        for i in range(8):
            queue.put([replace(FLAGGED, session_id=f"{name}-{i}")])
            queue.decide("a1", f"{name}-{i}", "confirmed")
        queue.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(worked, "pqrs"))
    queue = ReviewQueue(place)
    assert len(queue.decisions("a1")) == len(queue.sessions("a1")) == 32
    assert len({own.number for own in queue.decisions()}) == 32
    assert (tmp_path / "r.db").stat().st_mode & 0o077 == 0
    queue.close()


def test_what_is_no_queue_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database" * 100)
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE cases (mine TEXT)")
    for place in ("text.db", "other.db"):
        with pytest.raises(ValueError, match=place):
            ReviewQueue(str(tmp_path / place))
    for url in ("mysql://secret@host/x", "postgresql+secret://host/x", "://"):
        with pytest.raises(ValueError, match=r"postgresql://") as fault:
            ReviewQueue(url)
        assert "secret" not in str(fault.value)


def test_marks_of_an_older_store_become_decisions_once(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection:
        connection.execute("""CREATE TABLE marks (
            account_id TEXT, session_id TEXT, verdict TEXT, mark TEXT, score REAL, p_value REAL, bundle TEXT, note TEXT,
            by TEXT, at REAL)""")
        rows = [("a", f"s{i}", verdict, mark, 0.9, 0.01, "b", "n", "ann", 5.0 + i)
                for i, (verdict, mark) in enumerate([("harvesting", "confirmed"), ("harvesting", "wrong"),
                                                     ("organic", "confirmed"), ("organic", "wrong")])]  # fmt: skip
        connection.executemany("INSERT INTO marks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.commit()
    for _ in range(2):
        queue = ReviewQueue(str(tmp_path / "f.db"))
        assert [(own.session_id, own.label, own.by, own.at, own.note) for own in queue.labels()] == [
            ("s0", "harvesting", "ann", 5.0, "n"), ("s1", "organic", "ann", 6.0, "n"),
            ("s2", "organic", "ann", 7.0, "n"), ("s3", "harvesting", "ann", 8.0, "n"),
        ]  # fmt: skip
        assert AccountLife.of("a", queue.sessions("a"), None, ("coding",), 0.01).row is None
        queue.close()


def test_an_inbox_waits_for_a_queue_that_is_down(queue: ReviewQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "MAX_PENDING", 9)
    inbox = Inbox(queue)

    def down(*_: object) -> int:
        raise QueueDownError("down")

    with monkeypatch.context() as patched:
        patched.setattr(queue, "put", down)
        inbox.add([FLAGGED])  # type: ignore[arg-type]
        inbox.flush_if_up()
        inbox.add([replace(FLAGGED, score=0.95)])  # type: ignore[arg-type]
        with pytest.raises(QueueDownError):
            inbox.flush()
        inbox.add([replace(FLAGGED, session_id=f"{i}") for i in range(8)])  # type: ignore[arg-type]
    inbox.flush()
    assert [own.score for own in queue.sessions("a1") if own.session_id == "s1"] == [0.95]
    assert queue.page(Wanted()).n_found == 9


def test_an_account_s_life_is_rolled_up(queue: ReviewQueue) -> None:
    queue.put([FLAGGED, replace(CALM, n_exchanges=60, area_share={"coding": 0.25, "none": 0.75})])
    life = AccountLife.of("a1", queue.sessions("a1"), None, ("coding",), 0.01)
    assert life.row is not None
    assert (life.row["n_sessions"], life.row["n_exchanges"], life.row["flagged_share"]) == (2, 80, 0.5)
    assert dict(life.areas) == pytest.approx({"none": 0.625, "coding": 0.375})
    assert life.is_flagged


def test_a_queue_that_is_gone_says_so(tmp_path: Path) -> None:
    queue = ReviewQueue(str(tmp_path / f"{uuid.uuid4()}.db"))
    queue.close()
    with closing(sqlite3.connect(next(tmp_path.glob("*.db")))) as connection:
        connection.execute("DROP TABLE cases")
    with pytest.raises(QueueDownError, match="does not answer"):
        queue.page(Wanted())
    queue.close()


def test_a_short_look_at_a_flagged_session_does_not_take_it_out(queue: ReviewQueue) -> None:
    queue.put([FLAGGED])
    queue.put([replace(FLAGGED, label="undecided", n_exchanges=3)])
    assert names(queue) == ["s1"]
    queue.put([replace(FLAGGED, label="organic", n_exchanges=30)])
    assert names(queue) == []


def test_labels_are_of_sessions_with_a_state(queue: ReviewQueue) -> None:
    queue.put([FLAGGED])
    queue.decide("a1", "s1", "cleared", note="", by="ann", after=0)
    assert [own.state for own in queue.labels()] == ["cleared"]
    queue.put([replace(FLAGGED, n_exchanges=40)])
    queue.put([replace(FLAGGED, n_exchanges=40, label="organic")])
    assert list(queue.labels()) == []
