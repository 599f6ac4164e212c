"""A session that grows has the verdict of a batch after every exchange, wherever it is kept and whoever adds to it."""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.features.similarity import MAX_PROMPTS, MAX_SCORED
from serve.io.validation import SCHEMA
from serve.live.growing_sessions import LiveSessions, RepeatError
from serve.live.incremental_similarity import IncrementalSimilarity
from serve.live.process_store import ProcessStore
from serve.live.seen_sessions import SeenSessions
from serve.live.session_state import MAX_RECENT, SessionState
from serve.live.state_bytes import from_bytes, to_bytes
from serve.scoring.scorer import Scorer
from serve.scoring.verdict import Verdict
from serve.sessions.records import Exchange, Session, Sessions
from serve.sessions.sessionizing import Timeline
from tests.conftest import WORDS

_WRAPS = ("{}", "please answer: {}", "{} thanks a lot", "Please answer: {} thanks a lot", "{} {}")


def batch(scorer: Scorer, session: Session) -> Verdict:
    """What a batch says: reasons only where it is flagged."""
    return scorer.judge(Sessions.of([session])).verdict(0)


texts = st.lists(st.sampled_from([*WORDS, "Xyzzy", "7", "?!", "ﬁ", "a  b"]), min_size=1, max_size=12).map(" ".join)


@st.composite
def exchanges(draw: st.DrawFn, max_size: int = 12) -> tuple[Exchange, ...]:
    """Exchanges with a wrapper around most of them, repeats, and times for some."""
    pool = draw(st.lists(texts, min_size=1, max_size=6))
    wrap = draw(st.sampled_from(_WRAPS))
    rows = draw(st.lists(st.tuples(st.sampled_from(pool), st.integers(0, 9)), min_size=1, max_size=max_size))
    return tuple(
        Exchange((wrap if luck else "{}").format(text, text), None if luck == 1 else 1e9 + 60.0 * turn)
        for turn, (text, luck) in enumerate(rows)
    )


@settings(max_examples=40)
@given(exchanges())
def test_after_each_exchange_the_verdict_is_that_of_a_batch_to_the_last_bit(
    tiny_scorer: Scorer, own: tuple[Exchange, ...]
) -> None:
    live = LiveSessions(tiny_scorer)
    for k, exchange in enumerate(own, 1):
        assert live.observe("a", exchange, "s") == batch(tiny_scorer, Session("s", "a", own[:k]))


def test_a_long_session_is_that_of_a_batch_too(tiny_scorer: Scorer) -> None:
    rng = np.random.default_rng(0)
    own = tuple(Exchange(" ".join(rng.choice(WORDS, size=rng.integers(1, 9)))) for _ in range(2052))
    live, start = LiveSessions(tiny_scorer), 0
    sizes = (15, 16, 17, 64, 65, 200, 255, 256, 257, 258, 259, 511, 512, 513, 514)
    for k in (*sizes, 1022, 1023, 1024, 1025, 1026, 1027, 1030, 1200, 2047, 2048, 2049, 2050, 2052):
        verdict = live.extend("a", own[start:k], "s").verdict
        assert verdict == batch(tiny_scorer, Session("s", "a", own[:k])), k
        start = k


@pytest.mark.parametrize("n", [200, 300, 1024, 1100, 2100])
def test_a_long_session_goes_on_from_what_was_stored_of_it(tiny_scorer: Scorer, n: int) -> None:
    rng = np.random.default_rng(n)
    own = tuple(Exchange(" ".join(rng.choice(WORDS, size=rng.integers(1, 9)))) for _ in range(n + 3))
    live = LiveSessions(tiny_scorer)
    live.extend("a", own[:n], "s")
    stored = live.store.get(live._key("a", "s"))
    assert stored.state is not None
    again = from_bytes(to_bytes(stored.state))
    assert again.n_scored == len(range(0, n, again.scored_stride)) <= min(len(again.evidence), MAX_SCORED)
    assert again.n_compared == len(range(0, n, again.stride)) <= min(len(again.words), MAX_PROMPTS)
    assert live.store.put(live._key("a", "s"), again, stored.stamp)
    assert live.extend("a", own[n:], "s").verdict == batch(tiny_scorer, Session("s", "a", own))


def test_without_an_id_sessions_are_cut_as_in_a_batch(tiny_scorer: Scorer) -> None:
    import pyarrow as pa

    steps = np.random.default_rng(1).choice([1.0, 900.0, 1800.0, 1801.0, 4000.0], size=60, p=[0.6, 0.1, 0.1, 0.1, 0.1])
    at = 1e9 + np.cumsum(np.concatenate([np.ones(430), steps]))
    prompts = [f"sort a list {index}" for index in range(len(at))]
    live = LiveSessions(tiny_scorer)
    observed = (live.observe("a", Exchange(*given)) for given in zip(prompts, at.tolist(), strict=True))
    seen = {verdict.session_id: verdict for verdict in observed}
    columns = [["a"] * len(at), [None] * len(at), at, prompts]
    timeline = Timeline.of(pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA))
    expected = list(tiny_scorer.judge(timeline.sessions(0, len(timeline))))
    assert len(expected) > 5
    assert list(seen.values()) == expected
    at_once = LiveSessions(tiny_scorer)
    given = [Exchange(*pair) for pair in zip(prompts, at.tolist(), strict=True)]
    found = [at_once.extend("a", tuple(given[start : start + 37])).verdict for start in range(0, len(given), 37)]
    assert found[-1] == expected[-1]
    assert found[5] == batch(tiny_scorer, Session(expected[1].session_id, "a", tuple(given[200:222])))


@settings(max_examples=20)
@given(exchanges(), st.lists(st.integers(1, 9), min_size=1), st.booleans())
def test_many_exchanges_at_once_are_as_many_one_by_one(
    tiny_scorer: Scorer, own: tuple[Exchange, ...], sizes: list[int], is_named: bool
) -> None:
    by_one, at_once = LiveSessions(tiny_scorer), LiveSessions(tiny_scorer)
    session_id = "s" if is_named else None
    seen = [by_one.observe("a", exchange, session_id) for exchange in own]
    start = 0
    for size in itertools.cycle(sizes):
        part = own[start : start + size]
        if not part:
            break
        start += len(part)
        assert at_once.extend("a", part, session_id).verdict == seen[start - 1]


def test_concurrent_updates_of_one_session_lose_nothing(tiny_scorer: Scorer) -> None:
    live = LiveSessions(tiny_scorer)
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda i: live.observe("a", Exchange(f"sort a list {i}"), "s").n_exchanges, range(200)))
    assert sorted(seen) == list(range(1, 201))


def test_an_eviction_is_reported_and_memory_is_bounded(tiny_scorer: Scorer) -> None:
    store = ProcessStore(max_bytes=40_000)
    live = LiveSessions(tiny_scorer, store=store)
    for index in range(50):
        assert not live.extend(f"a{index}", (Exchange("sort a list"),) * 5, "s").is_partial
        assert store.counts.n_bytes <= 40_000
    assert store.counts.n_evicted == 50 - store.counts.n_sessions > 0
    back = live.extend("a0", (Exchange("sort a list"),), "s")
    assert back.is_partial
    assert back.verdict.n_exchanges == 1
    assert not live.extend("new", (Exchange("sort a list"),), "s").is_partial


def test_a_session_that_was_long_silent_is_forgotten_and_that_is_reported(tiny_scorer: Scorer) -> None:
    live = LiveSessions(tiny_scorer, store=ProcessStore(ttl_s=0.05))
    live.observe("a", Exchange("sort a list", 1e9), "s")
    live.observe("a", Exchange("sort a list", 1e9))
    time.sleep(0.06)
    assert live.extend("a", (Exchange("sort a list", 1e9 + 1),), "s").is_partial
    assert not live.extend("a", (Exchange("sort a list", 1e9 + 4000),)).is_partial  # a batch begins anew there too


def test_no_text_is_kept_in_the_clear(tiny_scorer: Scorer) -> None:
    live = LiveSessions(tiny_scorer)
    for k in range(1, 6):
        live.observe("a", Exchange("my canary sings a list"), "s")
        state = live.store.get(live._key("a", "s")).state
        assert state is not None
        assert b"canary" not in to_bytes(state)
        assert len(state.opening.sealed) == (k if k < 4 else 0)
        assert "canary" not in repr(state)


def test_an_account_is_rolled_up_from_its_sessions(tiny_scorer: Scorer) -> None:
    live = LiveSessions(tiny_scorer)
    verdicts = [live.observe("a", Exchange("sort a list", 1e9), f"s{index}") for index in range(3)]
    row = live.account("a")
    assert row is not None
    assert (row["n_sessions"], row["n_exchanges"], row["max_score"]) == (3, 3, max(v.score for v in verdicts))
    assert live.account("b") is None


# Nothing is lost without a word, and nothing counts twice


def test_a_request_that_is_sent_again_counts_once(tiny_scorer: Scorer) -> None:
    live = LiveSessions(tiny_scorer)
    own = (Exchange("sort a list", 1e9), Exchange("sum a list", 1e9 + 1))
    first = live.extend("a", own, "s", request="r1")
    again = live.extend("a", own, "s", request="r1")
    assert again == dataclasses.replace(first, is_repeat=True)
    assert live.extend("a", own, "s", request="r2").verdict.n_exchanges == 4
    assert live.extend("a", own, "s", request="r1").is_repeat
    assert live.extend("a", own, "other", request="r1").verdict.n_exchanges == 2
    with pytest.raises(RepeatError, match="had other exchanges"):
        live.extend("a", own[:1], "s", request="r1")


def test_no_two_lists_of_exchanges_are_taken_for_one_request(tiny_scorer: Scorer) -> None:
    live = LiveSessions(tiny_scorer)
    live.extend("a", (Exchange("a", system="x"), Exchange("b")), "s", request="r")
    with pytest.raises(RepeatError, match="had other exchanges"):
        live.extend("a", (Exchange("a", system="x1:bNone:None"),), "s", request="r")


def test_a_request_is_known_across_the_cut_of_a_session_and_only_the_last_ones_are(tiny_scorer: Scorer) -> None:
    live = LiveSessions(tiny_scorer)
    live.extend("a", (Exchange("sort a list", 1e9),), request="r")
    live.extend("a", (Exchange("sum a list", 2e9),), request="next")
    assert live.extend("a", (Exchange("sort a list", 1e9),), request="r").is_repeat
    for index in range(MAX_RECENT):
        live.extend("a", (Exchange("sum a list", 2e9 + index),), request=f"r{index}")
    assert not live.extend("a", (Exchange("sort a list", 1e9),), request="r").is_repeat


def test_a_store_that_lets_go_of_comparisons_meanwhile_changes_no_verdict(tiny_scorer: Scorer) -> None:
    """The race: another session's put took `comparison` away from one that was being extended."""
    live = LiveSessions(tiny_scorer, store=ProcessStore(max_bytes=1 << 26, hot_bytes=1))
    own = tuple(Exchange(f"sort a list {index}") for index in range(40))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda index: [live.observe("a", each, f"s{index}") for each in own][-1], range(8)))
    assert found == [batch(tiny_scorer, Session(f"s{index}", "a", own)) for index in range(8)]


def test_a_comparison_taken_away_in_the_midst_is_made_again(
    tiny_scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, add = LiveSessions(tiny_scorer), IncrementalSimilarity.add
    own = tuple(Exchange(f"sort a list {index}") for index in range(9))
    live.extend("a", own[:5], "s")
    state = live.store.get(live._key("a", "s")).state
    assert state is not None

    def taking(comparison: IncrementalSimilarity, vectors: Any) -> None:
        state.comparison = None
        add(comparison, vectors)

    monkeypatch.setattr(IncrementalSimilarity, "add", taking)
    assert live.extend("a", own[5:], "s").verdict == batch(tiny_scorer, Session("s", "a", own))


def test_a_fault_in_the_midst_of_exchanges_leaves_no_half_of_them(
    tiny_scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LiveSessions(tiny_scorer)
    live.observe("a", Exchange("sort a list"), "s")
    with monkeypatch.context() as patch:
        patch.setattr(SessionState, "_keep", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            live.observe("a", Exchange("sum a list"), "s")
    after = live.extend("a", (Exchange("sum a list"),), "s")
    assert (after.verdict.n_exchanges, after.is_partial) == (1, True)


def test_what_a_restart_lost_is_reported(tiny_scorer: Scorer, tmp_path: Path) -> None:
    def started(max_age_s: float = 60.0) -> LiveSessions:
        return LiveSessions(tiny_scorer, seen_sessions=SeenSessions.opened(tmp_path / "new" / "seen", max_age_s))

    own, file = (Exchange("sort a list", 1e9),), tmp_path / "new" / "seen"
    first = started()
    assert not any(first.extend("canary", own, name).is_partial for name in ("s", "t", "s", None))
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"canary" not in file.read_bytes()
    again = started()
    assert [again.extend("canary", own, name).is_partial for name in ("s", "new", "s", None)] == [
        True,
        False,
        True,
        True,
    ]
    assert not again.extend("canar", own, "y:s").is_partial
    file.write_bytes(file.read_bytes()[:-5])  # the disk was full
    assert [started().extend("canary", own, name).is_partial for name in ("s", "new")] == [True, True]
    assert not started(0.0).extend("canary", own, "s").is_partial
    file.write_bytes(b"something else")
    assert not started().extend("canary", own, "s").is_partial


def test_a_full_disk_spoils_neither_what_was_noted_nor_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file was closed before the next one was begun; what came then was written to whatever had its number."""
    monkeypatch.setattr("serve.live.seen_sessions.MAX_LOST", 3)

    def full(_: object) -> int:
        raise OSError(28, "No space left on device")

    def cut(own: int, record: bytes) -> int:
        return write(own, record[:5])

    seen, write = SeenSessions.opened(tmp_path / "seen", 60.0), os.write
    for name in "abcdef":
        seen.add(name)
    with monkeypatch.context() as patch:
        patch.setattr(SeenSessions, "_begun", full)
        seen.add("g")
    with (tmp_path / "other").open("wb"):
        seen.add("h")
    assert not (tmp_path / "other").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("serve.live.seen_sessions.os.write", cut)
        seen.add("i")
    seen.add("j")
    again = SeenSessions.opened(tmp_path / "seen", 60.0)
    assert [again.was_before(name) for name in "hij"] == [True, False, True]


def test_late_times_are_rolled_up(tiny_scorer: Scorer) -> None:
    live = LiveSessions(tiny_scorer)
    for place, at in enumerate((253_402_300_799.9999, -62_135_596_800.0, None)):
        live.observe(f"a{place}", Exchange("sort a list", at), "s")
        assert live.account(f"a{place}") is not None
        live.observe(f"b{place}", Exchange("sort a list", at))
        assert live.account(f"b{place}") is not None


def test_summaries_of_accounts_are_bounded_and_forgotten(tiny_scorer: Scorer) -> None:
    store = ProcessStore(max_bytes=80_000, ttl_s=0.2)
    for index in range(300):
        store.summarise(b"a%d" % (index // 10), b"s%d" % index, b"x" * 100)
        assert store.counts.n_bytes <= 80_000
    assert len(store.summaries(b"a29")) == 10
    assert store.summaries(b"a0") == []
    time.sleep(0.21)
    assert store.summaries(b"a29") == []
    assert store.get(b"nothing").state is None
    assert store.counts.n_bytes == 0


def test_whose_sessions_are_is_bounded_and_forgotten() -> None:
    store = ProcessStore(max_bytes=80_000, ttl_s=0.2)
    for index in range(300):
        store.name(b"s%d" % index, f"account {index}")
        assert store.counts.n_bytes <= 80_000 // 16
    assert store.account_of(b"s299") == "account 299"
    assert store.account_of(b"s0") is None
    time.sleep(0.21)
    assert store.account_of(b"s299") is None
    assert store.get(b"nothing").state is None
    assert store.counts.n_bytes == 0


def test_a_session_is_found_by_its_id_for_as_long_as_it_grows(tiny_scorer: Scorer) -> None:
    live = LiveSessions(tiny_scorer, store=ProcessStore(ttl_s=0.3))
    for _ in range(4):
        live.observe("a", Exchange("sort a list"), "s")
        time.sleep(0.1)
    found = live.verdict(None, "s")
    assert found is not None
    assert found.verdict.n_exchanges == 4
